"""The store of keys on every database it supports, each test on an empty one."""

import pytest

from gateway.access.keys_database import KeyStore
from gateway.database import open_database


@pytest.fixture
def open_store(url):
    """Opens the store once more: what another replica or the command line would do."""
    opened = []

    def another() -> KeyStore:
        opened.append(KeyStore(open_database(url)))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()
