"""Marks against calibrations: kept by their hash, the first one stays, every replica sees them."""

from gateway.database import open_database
from gateway.routing.marks import Mark, MarkStore

STALE = Mark("a" * 64, "r", "stale", "stale: the scores have moved", 100.5)
REFUTED = Mark("b" * 64, "r", "refuted", "refuted by live traffic", 99.0)


def test_marks_come_back_the_oldest_first_and_the_first_of_a_calibration_stays(database):
    store = MarkStore(database)
    store.migrate()
    store.migrate()
    assert store.all() == []
    for mark in (STALE, REFUTED, Mark("a" * 64, "r", "refuted", "later", 200.0)):
        store.add(mark)
    assert store.all() == [REFUTED, STALE]


def test_another_replica_sees_them(database, url):
    mine = MarkStore(database)
    mine.migrate()
    mine.add(STALE)
    other = open_database(url)
    assert MarkStore(other).all() == [STALE]
    other.close()
