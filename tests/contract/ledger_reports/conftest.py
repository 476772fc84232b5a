import pytest

from gateway.database import open_database
from gateway.ledger.store import LedgerStore
from tests.support.postgres_server import postgres_server


@pytest.fixture(scope="session")
def server():
    with postgres_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    with request.getfixturevalue("server").database() as made:
        yield made


@pytest.fixture
def database(url):
    opened = open_database(url)
    yield opened
    opened.close()


@pytest.fixture
def store(database):
    made = LedgerStore(database)
    made.migrate()
    return made
