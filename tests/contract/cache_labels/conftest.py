"""The cache's labels on every database it supports."""

import pytest

from gateway.cache.labels import LabelStore
from gateway.database import open_database
from tests.support.postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        yield from _opened(f"sqlite:///{tmp_path}/labels.db")
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield from _opened(url)


def _opened(url):
    database = open_database(url)
    made = LabelStore(database)
    made.migrate()
    yield made
    database.close()
