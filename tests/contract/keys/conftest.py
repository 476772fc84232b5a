"""The store of keys on every database it supports, each test on an empty one."""

import pytest

from gateway.access.keys_database import KeyStore
from gateway.database import open_database
from tests.support.postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/keys.db"
        return
    with request.getfixturevalue("postgres").database() as fresh:
        yield fresh


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
