"""The servers and databases behind contract suites: one of each for all of them, and every test on an empty database."""

import pytest

from gateway.database import open_database
from tests.support.postgres_server import postgres_server
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres):
    with postgres.database() as fresh:
        yield fresh


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Of an empty database, of every kind that is supported."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/farthing.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def database(url):
    opened = open_database(url)
    yield opened
    opened.close()
