"""Whether the store has what had ended by a moment: what a question about spent money waits for."""

import pytest

from gateway.database import DatabaseError
from tests.contract.ledger.test_writer import abandon, send, wait_for
from tests.support.ledger import traffic


class Away:
    """A store whose database does not answer until it is `back`."""

    def __init__(self, store) -> None:
        self._store = store
        self.back = False

    def insert(self, charges) -> int:
        if not self.back:
            raise DatabaseError("away")
        return self._store.insert(charges)


def test_what_ended_is_stored_once_it_says_so(store, open_writer):
    writer = open_writer(store, every_s=60.0)
    writer.replay()
    writer.start()
    assert writer.has_stored(writer.ended)
    send(writer, traffic(100))
    ended = writer.ended
    assert ended == 100
    writer.hurry()
    wait_for(lambda: writer.has_stored(ended))
    assert store.counts()["requests"] == 100


def test_a_store_that_is_away_has_nothing_of_what_ended_since(store, open_writer):
    away = Away(store)
    writer = open_writer(away)
    writer.replay()
    writer.start()
    send(writer, traffic(3))
    wait_for(lambda: writer.error is not None)
    assert writer.has_stored(0)
    assert not writer.has_stored(1)
    away.back = True
    writer.hurry()
    wait_for(lambda: writer.has_stored(3), 2.0)


def test_what_an_earlier_process_left_counts_as_ended(store, open_writer):
    first = open_writer(store)
    first.replay()
    send(first, traffic(3))
    abandon(first)
    away = Away(store)
    second = open_writer(away)
    with pytest.raises(DatabaseError):
        second.replay()
    assert not second.has_stored(0)
    away.back = True
    second.start()
    wait_for(lambda: second.has_stored(0))
    assert store.counts()["requests"] == 3
