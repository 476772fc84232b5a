"""What is counted of a trial, and that counts of several gateways add up."""

from gateway.core.exchange import Attempt, Shadowed
from gateway.rollout.tally import MOST_MOVES, OTHER, Tally, total
from tests.support.records import record


def test_both_sides_are_counted_by_how_their_requests_ended():
    tally = Tally()
    tally.begin("c/1")
    tally.add(record(cost_micro_usd=5), candidate=False)
    tally.add(record(cost_micro_usd=7), candidate=True)
    tally.add(record(outcome="upstream_error", cost_micro_usd=0), candidate=True)
    tally.add(record(outcome="client_error", cost_micro_usd=0), candidate=True)
    unpriced = record(cost_micro_usd=None, attempts=(Attempt("t", None, 200, None, 0.0, 1.0),))
    tally.add(unpriced, candidate=True)
    counts = tally.counts
    assert (counts.in_force.requests, counts.in_force.micro_usd) == (1, 5)
    side = counts.candidate
    assert (side.requests, side.errors, side.refused, side.micro_usd, side.unpriced) == (4, 1, 1, 7, 1)
    assert (side.squares, counts.in_force.squares) == (49.0, 25.0)


def test_a_shadow_is_counted_by_its_verdicts_and_its_moves():
    tally = Tally()
    tally.begin("c/1")
    for verdict, origin, target, more in (
        ("same", "a", "a", 0), ("other", "a", "b", -3), ("other", "a", "refused", None), ("undecided", "", "", None),
    ):  # fmt: skip
        tally.add(record(shadow=Shadowed("c", verdict, origin, target, more)), candidate=False)
    tally.cached()
    shadow = tally.counts.shadow
    assert (shadow.same, shadow.other, shadow.undecided, shadow.cached, shadow.compared) == (1, 2, 1, 1, 3)
    assert (shadow.micro_usd, shadow.priced) == (-3, 2)
    assert shadow.moves == {"a -> b": 1, "a -> refused": 1}


def test_moves_are_bounded():
    tally = Tally()
    for n in range(MOST_MOVES + 5):
        tally.add(record(shadow=Shadowed("c", "other", "a", str(n))), candidate=False)
    assert len(tally.counts.shadow.moves) == MOST_MOVES + 1
    assert tally.counts.shadow.moves[OTHER] == 5


def test_the_same_trial_counts_on_and_another_begins_anew():
    tally = Tally()
    tally.begin("c/1")
    tally.add(record(), candidate=True)
    tally.begin("c/1")
    assert tally.counts.candidate.requests == 1
    tally.begin("c/2")
    assert tally.counts.candidate.requests == 0


def test_counts_add_up():
    parts = []
    for n in (1, 2):
        tally = Tally()
        for _ in range(n):
            tally.add(record(shadow=Shadowed("c", "other", "a", "b", 10), cost_micro_usd=3), candidate=False)
        parts.append(tally.counts)
    found = total(parts)
    assert (found.in_force.requests, found.in_force.micro_usd, found.shadow.other) == (3, 9, 3)
    assert found.in_force.squares == 27.0
    assert (found.shadow.moves, found.shadow.micro_usd) == ({"a -> b": 3}, 30)
    assert total([]).in_force.requests == 0
