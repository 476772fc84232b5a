"""What a replica remembers of the windows that Redis told of."""

from gateway.access.accounts import Spent, Window
from gateway.access.redis_seen import PER_BEAT, Seen
from gateway.core.limits import Budget

DAY_S = 86_400


def spent(number, day=0, committed=0, reserved=0):
    budget = Budget(f"b{number}", "all", "day", 1_000)
    return Spent(Window(f"b{number}@{day * DAY_S}", budget, day * DAY_S, (day + 1) * DAY_S), committed, reserved)


def test_the_open_windows_are_shown_as_last_told():
    seen = Seen()
    seen.see(spent(1))
    seen.see(spent(2, day=1))
    seen.told(["b1@0", "gone@0"], [300, 200, 5, 5])
    assert [(state.committed, state.reserved) for state in seen.open_at(10.0)] == [(300, 200)]
    assert [state.window.id for state in seen.open_at(DAY_S)] == ["b2@86400"]


def test_what_redis_does_not_know_stays_as_it_was():
    seen = Seen()
    seen.see(spent(1, committed=7))
    seen.told(["b1@0"], [-1, 0])
    assert seen["b1@0"].committed == 7


def test_every_window_has_its_turn_at_the_heartbeats():
    seen = Seen()
    for number in range(2 * PER_BEAT + 5):
        seen.see(spent(number))
    beats = [seen.next() for _ in range(3)]
    assert [len(ids) for ids in beats] == [PER_BEAT, PER_BEAT, 5]
    assert len({id_ for ids in beats for id_ in ids}) == 2 * PER_BEAT + 5
    assert seen.next() == beats[0]


def test_windows_that_ended_long_ago_go_as_new_ones_come():
    seen = Seen()
    for day in range(100):
        for number in range(3):
            seen.see(spent(number, day=day))
    assert "b0@0" not in seen
    assert sum(f"b0@{day * DAY_S}" in seen for day in range(100)) <= 4
