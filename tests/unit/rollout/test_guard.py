"""What aborts a canary: more errors, refusals or cost than chance explains, however often one looks."""

import numpy as np
import pytest

from gateway.core.errors import BadRequest
from gateway.rollout.guard import LEAST, broken, highest, lowest, parse_guard
from gateway.rollout.tally import Counts, Side


def errors(candidate, in_force):
    """Counts of (failed, all) of both sides."""
    new, old = (Side(requests=n, errors=failed) for failed, n in (candidate, in_force))
    return Counts(old, new)


def priced(costs):
    return Side(requests=len(costs), micro_usd=int(np.sum(costs)), squares=float(np.sum(np.square(costs))))


def test_conditions_are_read():
    assert [(each.metric, each.limit) for each in parse_guard("errors>+2%, refused>1%,cost>+10%")] == [
        ("errors", 0.02), ("refused", 0.01), ("cost", 0.1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--abort-on: '' is no condition"),
        ("quality>1%", "'quality' is not measured; fix: one of errors, refused, cost"),
        ("errors<1%", "fix: errors>+2%"),
        ("cost>-1%", "never below 0"),
        ("errors>2%,errors>3%", "given twice"),
    ],
)
def test_what_no_canary_can_be_held_to_is_refused(text, said):
    with pytest.raises(BadRequest) as refused:
        parse_guard(text)
    assert said in refused.value.message


def test_a_clear_excess_of_errors_is_told_with_its_figures():
    why = broken(parse_guard("cost>+10%,errors>+2%"), errors((60, 1000), (100, 20_000)))
    assert why == "errors>+2%: 6.00% of 1,000 requests on trial failed, 0.50% of 20,000 in force"


@pytest.mark.parametrize(
    "counts",
    [
        Counts(), errors((0, 0), (0, 1000)), errors((5, 5), (0, 0)), errors((1, 3), (0, 100)),
        errors((30, 1000), (100, 20_000)), errors((100, 1000), (2000, 20_000)), errors((0, 1000), (0, 20_000)),
    ],
)  # fmt: skip
def test_what_few_requests_or_chance_explain_aborts_nothing(counts):
    assert broken(parse_guard("errors>+2%,refused>+2%,cost>+10%"), counts) is None


def test_a_candidate_that_fails_always_is_seen_within_few_requests():
    assert broken(parse_guard("errors>+2%"), errors((8, 8), (0, 100))) is not None


def test_refusals_are_counted_apart():
    counts = Counts(Side(requests=5000, refused=50), Side(requests=500, refused=100))
    assert broken(parse_guard("errors>+2%"), counts) is None
    assert "20.00% of 500 requests on trial were refused" in broken(parse_guard("refused>+2%"), counts)


def test_a_dearer_candidate_is_told_and_one_within_the_limit_is_not():
    dice = np.random.default_rng(1)
    base = dice.lognormal(6, 1, 10_000)
    condition = parse_guard("cost>+10%")
    assert "a request on trial, over 2,000" in broken(condition, Counts(priced(base), priced(base[:2000] * 1.5)))
    assert broken(condition, Counts(priced(base), priced(base[:2000] * 1.05))) is None
    assert broken(condition, Counts(priced(base), priced(base[: LEAST - 1] * 50))) is None


def test_a_bound_holds_its_share_and_covers_it_at_every_look():
    assert lowest(0, 50, 0.05) == 0
    assert highest(50, 50, 0.05) == 1
    assert lowest(30, 1000, 0.05) < 0.03 < highest(30, 1000, 0.05)
    dice, wrong = np.random.default_rng(2), 0
    for _ in range(300):
        hits = np.cumsum(dice.random(2000) < 0.02)
        wrong += any(highest(int(hits[n - 1]), n, 0.1) < 0.02 for n in range(20, 2000, 20))
    assert wrong / 300 < 0.1 + 0.04


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("failing", [0.001, 0.2])
def test_a_candidate_at_its_limit_is_hardly_ever_aborted_however_often_one_looks(share, failing):
    """200 trials of 6,000 requests, looked at 100 times each; at most 5 % may be wrong."""
    dice, condition, wrong = np.random.default_rng(3), parse_guard("errors>+2%"), 0
    for _ in range(200):
        on_trial = dice.random(6000) < share
        failed = dice.random(6000) < np.where(on_trial, failing + 0.02, failing)
        new, bad = np.cumsum(on_trial), np.cumsum(on_trial & failed)
        old, other = np.cumsum(~on_trial), np.cumsum(~on_trial & failed)
        looks = range(60, 6000, 60)
        wrong += any(
            broken(condition, errors((int(bad[n]), int(new[n])), (int(other[n]), int(old[n])))) is not None
            for n in looks
        )
    assert wrong / 200 <= 0.05


def test_a_candidate_at_its_limit_of_cost_is_hardly_ever_aborted_however_often_one_looks():
    """Costs whose spread is 1.3 times their mean; 200 trials, 100 looks each."""
    dice, condition, wrong = np.random.default_rng(4), parse_guard("cost>+10%"), 0
    for _ in range(200):
        new, old = dice.lognormal(6, 1, 3000) * 1.1, dice.lognormal(6, 1, 6000)
        for n in range(30, 3000, 30):
            if broken(condition, Counts(priced(old[: 2 * n]), priced(new[:n]))) is not None:
                wrong += 1
                break
    assert wrong / 200 <= 0.05
