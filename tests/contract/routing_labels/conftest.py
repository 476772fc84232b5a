"""Routing's labels on every database it supports, and in the memory that unit tests use in their place."""

import pytest

from gateway.database import open_database
from gateway.routing.labels import RoutingLabelStore
from tests.support.routing_labels import MemoryLabels


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryLabels()
    elif request.param == "sqlite":
        yield from _opened(f"sqlite:///{tmp_path}/labels.db")
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield from _opened(url)


def _opened(url):
    database = open_database(url)
    made = RoutingLabelStore(database)
    made.migrate()
    made.migrate()
    yield made
    database.close()
