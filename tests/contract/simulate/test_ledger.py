"""What the replay reads from the ledger's table on every database, of this version and of older ones."""

import pytest

from gateway.core.exchange import Choice
from gateway.ledger.rows import build
from gateway.ledger.store import LedgerStore
from gateway.simulate.ledger import read_ledger
from tests.support.ledger_rows import ended

CHOSEN = Choice("weak", "score", "light", 0.0123, 0.05, "1a2b3c4d")


@pytest.fixture
def database(database):
    store = LedgerStore(database)
    store.migrate()
    store.insert(build([ended("2026-11-01", choice=CHOSEN, session="visit-7"), ended("2026-11-02")], 10, lambda: None))
    return database


def test_scores_and_sessions_are_read(database):
    chosen, plain = read_ledger(database, None, None)
    assert (chosen.score, chosen.tier, chosen.side, chosen.session) == (0.0123, "light", "weak", "visit-7")
    assert (plain.score, plain.tier, plain.side, plain.session) == (None, None, "", None)


def test_tables_from_before_scores_and_sessions_are_read_without_them(database):
    with database.transaction() as cursor:
        for column in ("route_tier", "route_score", "route_strong", "session"):
            cursor.execute(f"ALTER TABLE requests DROP COLUMN {column}")
    chosen, _ = read_ledger(database, None, None)
    assert (chosen.score, chosen.tier, chosen.session) == (None, None, None)
    assert chosen.cost_micro == 1000
