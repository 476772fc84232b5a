"""The ledger on every database it supports, each test on an empty one."""

import pytest

from gateway.core.clock import SystemClock
from gateway.database import open_database
from gateway.ledger.journal import Journal
from gateway.ledger.store import LedgerStore
from gateway.ledger.writer import LedgerWriter


@pytest.fixture
def open_ledger():
    """Opens the database at a URL with its tables made: what another replica would do."""
    opened = []

    def another(url, timeout_s=5.0):
        opened.append(open_database(url, timeout_s=timeout_s))
        LedgerStore(opened[-1]).migrate()
        return opened[-1]

    yield another
    for database in opened:
        database.close()


@pytest.fixture
def database(url, open_ledger):
    return open_ledger(url)


@pytest.fixture
def store(database):
    return LedgerStore(database)


@pytest.fixture
def open_writer(tmp_path):
    """A writer of small batches on a journal folder of that name; what the test does not drain is drained after it."""
    opened = []

    def another(store, folder="journal", segment_bytes=64 << 20, **options):
        journal = Journal(tmp_path / folder, segment_bytes=segment_bytes)
        opened.append(LedgerWriter(journal, store, SystemClock(), **{"batch_rows": 500, **options}))
        return opened[-1]

    yield another
    for writer in opened:
        if writer.journal.in_use:
            writer.drain(5)
