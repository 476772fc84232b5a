"""The store of rollouts on every database it supports, each test on an empty one."""

import pytest

from gateway.access.keys_database import KeyStore
from gateway.database import open_database
from gateway.rollout.operate import Operations
from gateway.rollout.store import RolloutStore
from tests.support.postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/rollouts.db"
        return
    with request.getfixturevalue("postgres").database() as fresh:
        yield fresh


@pytest.fixture
def open_both(url):
    """Another connection: what a second replica or the command line has."""
    opened = []

    def another() -> tuple[RolloutStore, KeyStore]:
        database = open_database(url)
        opened.append(database)
        return RolloutStore(database), KeyStore(database)

    yield another
    for database in opened:
        database.close()


@pytest.fixture
def both(open_both):
    return open_both()


@pytest.fixture
def store(both):
    return both[0]


@pytest.fixture
def keys(both):
    return both[1]


@pytest.fixture
def operations(both):
    return Operations(both[0], both[1].policy_change)
