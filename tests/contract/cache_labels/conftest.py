"""The cache's labels on every database it supports."""

import pytest

from gateway.cache.labels import LabelStore


@pytest.fixture
def store(database):
    made = LabelStore(database)
    made.migrate()
    return made
