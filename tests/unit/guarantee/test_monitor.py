"""The sequential check: silent over a true claim however often it is read, loud soon after the claim turned false."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guarantee import monitor
from gateway.guarantee.monitor import EPOCH, RiskWatch, observe


def watch(alpha=0.01, low=0.0, heaviest=1.0, delta=0.05) -> RiskWatch:
    return RiskWatch(alpha=alpha, delta=delta, low=low, heaviest=heaviest)


def refuted_at(draw, looks: int, streams: int, delta: float = 0.05) -> np.ndarray:
    """For each of many streams the label that refutes, 0 for none.

    `draw(rng, shape, first)` gives weight / heaviest * (loss - alpha) / (alpha - low), a row for each label.
    """
    rng = np.random.default_rng(0)
    bets = np.array(monitor._BETS)[:, None]
    wealth, found = np.zeros((len(bets), streams)), np.zeros(streams, dtype=int)
    for start in range(0, looks, EPOCH):
        epoch = start // EPOCH + 1
        wealth += 1 / (epoch * (epoch + 1)) / len(bets)
        gains = draw(rng, (EPOCH, streams), start)
        for step in range(EPOCH):
            wealth *= 1 + bets * gains[step]
            crossed = wealth.sum(axis=0) + 1 / (epoch + 1) >= 1 / delta
            if crossed.any():
                found[crossed & (found == 0)] = start + step + 1
                wealth[:, found > 0] = 0
    return found


def errors(rate, alpha=0.01):
    return lambda rng, shape, start: ((rng.random(shape) < rate) - alpha) / alpha


def graded(rng, shape, start):
    """Losses of -1, 0 and 1 with a mean of 0.03."""
    u = rng.random(shape)
    return (np.where(u < 0.13, 1.0, np.where(u > 0.90, -1.0, 0.0)) - 0.03) / 1.03


def weighted(rng, shape, start):
    """A tenth of the traffic has all the errors; it is sampled at 1 in 4, the rest always. The mean loss is 0.05."""
    risky = rng.random(shape) < 0.025 / 0.925
    return np.where(risky, 1.0, 0.25) * ((risky & (rng.random(shape) < 0.5)) - 0.05) / 0.05


NULLS = {"rare": errors(0.001, 0.001), "some": errors(0.01), "common": errors(0.2, 0.2), "graded": graded}
NULLS["weighted"] = weighted
EACH = 120


@pytest.fixture(scope="module")
def null_streams() -> dict[str, np.ndarray]:
    """100,000 looks at each of many streams whose mean loss is exactly alpha."""

    def draw(rng, shape, start):
        return np.concatenate([null(rng, (shape[0], EACH), start) for null in NULLS.values()], axis=1)

    found = refuted_at(draw, looks=100_000, streams=EACH * len(NULLS))
    return dict(zip(NULLS, np.split(found, len(NULLS)), strict=True))


@pytest.mark.parametrize("kind", NULLS)
def test_a_risk_of_exactly_alpha_is_refuted_in_at_most_delta_of_the_streams_over_100000_looks(kind, null_streams):
    assert (null_streams[kind] > 0).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / EACH)


def test_over_all_kinds_of_streams_the_claim_is_refuted_in_at_most_delta(null_streams):
    found = np.concatenate(list(null_streams.values()))
    assert 0 < (found > 0).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(found))


@pytest.mark.parametrize(("times", "labels"), [(2, 3000), (5, 300), (20, 60)])
def test_a_risk_over_alpha_is_refuted_soon(times, labels):
    found = refuted_at(errors(0.01 * times), looks=5000, streams=200)
    assert (found > 0).all()
    assert np.quantile(found, 0.9) < labels


def test_a_long_good_time_does_not_delay_the_alarm_for_long():
    """20,000 labels at half of alpha, then three times alpha: noticed within 2,500 labels."""

    def turns_bad(rng, shape, start):
        return ((rng.random(shape) < (0.005 if start < 20_000 else 0.03)) - 0.01) / 0.01

    found = refuted_at(turns_bad, looks=25_000, streams=100)
    assert (found > 20_000).mean() >= 0.97
    assert np.quantile(found[found > 20_000] - 20_000, 0.9) < 2500


@pytest.mark.parametrize("weight", [1.0, 0.5, 2.0])
def test_the_watch_is_the_test_that_is_measured_here(weight):
    losses = (np.random.default_rng(5).random(2000) < 0.025).astype(float)
    state = watch(heaviest=2.0)
    for loss in losses:
        state = observe(state, float(loss), weight)
    (found,) = refuted_at(
        lambda rng, shape, start: weight / 2 * (losses[start : start + EPOCH, None] - 0.01) / 0.01,
        looks=2000,
        streams=1,
    )
    assert (state.refuted_at or 0) == found
    assert state.refuted == bool(found)


def test_new_bets_come_out_of_the_reserve():
    """Losses of exactly alpha win and lose nothing: the wealth stays 1 however many bets have started."""
    state = watch()
    for _ in range(4 * EPOCH):
        state = observe(state, 0.01)
        assert state.wealth == pytest.approx(1)
    assert sum(state.stakes) == pytest.approx(1 - 1 / 5)


def test_a_refuted_watch_stays_refuted():
    state = watch()
    while not state.refuted:
        state = observe(state, 1.0)
    assert state.refuted_at == state.seen < 10
    assert observe(state, 0.0) is state


def test_a_watch_without_labels_has_bet_nothing():
    assert watch().wealth == 1
    assert watch().realised is None
    assert not watch().refuted


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 3.0)), max_size=60))
def test_a_watch_survives_its_store_at_any_moment(labels):
    state = kept = watch(0.1, low=-1.0, heaviest=3.0)
    for loss, weight in labels:
        state = observe(state, loss, weight)
        kept = msgspec.json.decode(msgspec.json.encode(observe(kept, loss, weight)), type=RiskWatch)
    assert kept == state
    assert len(msgspec.json.encode(kept)) < 600


def test_the_realised_loss_is_the_weighted_mean():
    state = observe(observe(watch(0.5, heaviest=4.0), 1.0, 1.0), 0.0, 3.0)
    assert state.realised == 0.25


@given(st.floats(0.001, 0.9), st.sampled_from([-1.0, 0.0]))
def test_one_label_cannot_lose_everything_and_expects_nothing_under_the_claim(alpha, low):
    """Two losses, the least and the worst, with a mean of alpha: the wealth is 1 on average, and never 0."""
    good, bad = observe(watch(alpha, low), low), observe(watch(alpha, low), 1.0)
    chance = (alpha - low) / (1 - low)
    assert chance * bad.wealth + (1 - chance) * good.wealth == pytest.approx(1)
    assert min(good.stakes) > 0


@pytest.mark.parametrize(
    ("loss", "weight"), [(-0.1, 1.0), (1.1, 1.0), (math.nan, 1.0), (0.0, 0.0), (0.0, 1.1), (0.0, math.nan)]
)
def test_a_label_out_of_range_is_refused(loss, weight):
    with pytest.raises(ValueError, match="out of range"):
        observe(watch(), loss, weight)
