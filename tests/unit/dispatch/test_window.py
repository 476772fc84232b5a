"""The sliding counters against a list of all events."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.window import Window

EVENTS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3), st.integers(0, 2)), max_size=60)


@given(EVENTS, st.floats(0, 1e6), st.floats(0, 12))
def test_live_sums_lie_between_the_last_nine_tenths_and_the_whole_of_the_span(events, start, silence):
    window = Window(10.0)
    now, seen = start, []
    for step, total, marked in events:
        now += step
        window.add(now, total, marked)
        seen.append((now, total, marked))
    now += silence
    window.roll(now)
    # Slots are cut at whole seconds here, so the bounds are taken in slots.
    surely = [e for e in seen if int(e[0]) > int(now) - 10]
    assert (window.total, window.marked) == (sum(e[1] for e in surely), sum(e[2] for e in surely))


def test_an_earlier_time_is_taken_as_the_last_one():
    window = Window(10.0)
    window.add(100.0, 1, 0)
    window.add(50.0, 1, 1)
    window.roll(20.0)
    window.roll(105.0)
    assert (window.total, window.marked) == (2, 1)


def test_clear_forgets_everything():
    window = Window(10.0)
    window.add(100.0, 5, 2)
    window.clear()
    window.roll(100.0)
    assert (window.total, window.marked) == (0, 0)
