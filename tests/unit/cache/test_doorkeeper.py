"""Seen twice before it is kept, and the least worth its bytes goes first."""

import hashlib

from gateway.cache.doorkeeper import Doorkeeper


def key(i):
    return hashlib.sha256(str(i).encode()).hexdigest()


def test_the_second_sighting_is_known_and_the_first_is_not():
    door = Doorkeeper(10)
    assert [door.seen(key(1)), door.seen(key(1)), door.seen(key(2)), door.seen(key(1))] == [False, True, False, True]


def test_memory_is_bounded_and_at_least_the_last_capacity_keys_are_known():
    door = Doorkeeper(100)
    for i in range(10_000):
        assert not door.seen(key(i))
        assert len(door) <= 200
    assert all(door.seen(key(i)) for i in range(9_900, 10_000))
    assert not door.seen(key(0))


def test_a_key_that_keeps_coming_back_is_never_forgotten():
    door = Doorkeeper(10)
    door.seen(key("often"))
    for i in range(1_000):
        door.seen(key(i))
        if i % 5 == 0:
            assert door.seen(key("often"))


def test_two_doorkeepers_that_saw_the_same_say_the_same():
    a, b = Doorkeeper(7), Doorkeeper(7)
    order = [key(i * i % 31) for i in range(500)]
    assert [a.seen(k) for k in order] == [b.seen(k) for k in order]
