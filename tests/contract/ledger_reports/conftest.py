"""The ledger's tables on every database it supports."""

import pytest

from gateway.ledger.store import LedgerStore


@pytest.fixture
def store(database):
    made = LedgerStore(database)
    made.migrate()
    return made
