"""The walk at its edges: ties, no rows, no errors, all errors, weights, wrong input, speed."""

import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.guarantee import bounds
from gateway.guarantee.certificate import Certificate, Subject
from gateway.guarantee.certify import Sample, Target, Uncertified, candidates, certify, data_hash, thinned, tight

SUBJECT = Subject(kind="cache", route="faq", date="2026-03-01", data_hash="d" * 64, versions={"encoder": "1"})
GRID = np.linspace(0.99, 0.0, 100)


def world(n: int, seed: int = 0, rate: float = 0.2) -> Sample:
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return Sample(scores, (rng.random(n) < 2 * rate * (1 - scores)).astype(float))


def find(sample: Sample, thresholds=GRID, subject: Subject = SUBJECT, **target) -> Certificate | Uncertified:
    return certify(sample, thresholds, Target(**{"alpha": 0.05} | target), subject)


def test_a_certificate_tells_what_was_found():
    sample = world(2000)
    found = find(sample)
    assert isinstance(found, Certificate)
    accepted = sample.scores >= found.threshold
    assert found.realised == pytest.approx((sample.losses * accepted).mean())
    assert found.realised_accepted == pytest.approx(sample.losses[accepted].mean())
    assert found.share_accepted == pytest.approx(accepted.mean())
    assert found.realised < found.upper_bound <= found.alpha == 0.05
    assert found.upper_bound == bounds.binomial_upper(int((sample.losses * accepted).sum()), 2000, 0.05)
    assert found.share_band[0] < found.share_accepted < found.share_band[1]
    assert (found.n, found.method, found.kind, found.route) == (2000, "binomial", "cache", "faq")


def test_the_next_bolder_candidate_would_not_have_passed():
    sample = world(2000)
    found = find(sample)
    bolder = sample.scores >= GRID[np.flatnonzero(found.threshold > GRID)[0]]
    assert bounds.p_value("binomial", sample.losses * bolder, 0.05) > 0.05


def test_the_fallback_passes_at_half_of_alpha():
    sample = world(2000)
    found = find(sample)
    half = find(sample, alpha=0.025)
    assert found.fallback == half.threshold > found.threshold


def test_the_walk_stops_at_the_first_failure_though_bolder_candidates_would_pass():
    """The loss rises over alpha for middling scores and falls below again for the lowest: only the top is certified."""
    scores = np.arange(3000) / 3000
    losses = np.where(scores > 0.8, 0.0, np.where(scores > 0.5, 1.0, -1.0))
    found = certify(Sample(scores, losses), GRID, Target(alpha=0.05, loss="graded"), SUBJECT)
    assert (losses * (scores >= 0)).mean() < 0
    assert 0.7 < found.threshold < 0.8


@pytest.mark.parametrize("accept", ["at_least", "at_most"])
def test_tied_scores_are_accepted_together(accept):
    scores = np.repeat([0.9, 0.5, 0.1], 1000)
    losses = np.zeros(3000)
    losses[1000:1300] = 1
    if accept == "at_most":
        scores = -scores
    found = find(Sample(scores, losses), scores, accept=accept)
    assert found.threshold == (0.9 if accept == "at_least" else -0.9)
    assert found.share_accepted == pytest.approx(1 / 3)


def test_one_score_for_all_is_one_decision():
    assert find(Sample(np.full(500, 0.5), np.zeros(500)), [0.5]).share_accepted == 1
    assert isinstance(find(Sample(np.full(500, 0.5), np.ones(500)), [0.5]), Uncertified)


@pytest.mark.parametrize("loss", ["binary", "graded"])
def test_accepting_low_scores_is_accepting_high_ones_mirrored(loss):
    sample = world(1500)
    up = find(sample, loss=loss)
    down = find(Sample(-sample.scores, sample.losses), -GRID, loss=loss, accept="at_most")
    assert (down.threshold, down.realised, down.upper_bound) == (-up.threshold, up.realised, up.upper_bound)


@pytest.mark.parametrize("loss", ["binary", "graded"])
def test_without_rows_nothing_is_certified_and_the_fewest_that_could_are_named(loss):
    found = find(Sample(np.empty(0), np.empty(0)), alpha=0.01, loss=loss)
    assert isinstance(found, Uncertified)
    assert found.n == 0
    assert (found.n_needed == 299) if loss == "binary" else (299 < found.n_needed <= 500)


@pytest.mark.parametrize("loss", ["binary", "graded"])
@pytest.mark.parametrize("strict", [False, True])
def test_without_losses_everything_is_certified_once_there_are_enough_rows(loss, strict):
    few = find(Sample(np.linspace(0, 1, 50), np.zeros(50)), loss=loss, strict=strict, alpha=0.05)
    assert isinstance(few, Uncertified)
    enough = np.linspace(0, 1, few.n_needed)
    found = find(Sample(enough, np.zeros(len(enough))), loss=loss, strict=strict, alpha=0.05)
    assert (found.threshold, found.realised, found.share_accepted) == (0.0, 0.0, 1.0)


def test_with_all_losses_1_no_more_is_accepted_than_alpha_of_all_requests():
    sample = Sample(np.random.default_rng(0).random(2000), np.ones(2000))
    found = find(sample)
    assert found.realised == found.share_accepted < 0.05
    assert found.realised_accepted == 1
    hopeless = find(sample, [0.5, 0.0])
    assert (hopeless.n_needed, hopeless.reason.endswith("over 0.05")) == (None, True)


@pytest.mark.parametrize(
    ("loss", "strict", "alpha"), [("binary", False, 0.03), ("graded", False, 0.03), ("graded", True, 0.03)]
)
def test_what_was_asked_for_is_what_suffices_if_the_rows_go_on_like_these(loss, strict, alpha):
    pattern = np.zeros(100)
    pattern[50] = 1
    short = find(Sample(np.ones(100), pattern), [1.0], alpha=alpha, loss=loss, strict=strict)
    assert isinstance(short, Uncertified)
    for rows, certified in ((short.n_needed + 100, True), (short.n_needed - 100, False)):
        found = find(Sample(np.ones(rows), np.resize(pattern, rows)), [1.0], alpha=alpha, loss=loss, strict=strict)
        assert isinstance(found, Certificate) == certified


def test_a_request_that_cannot_be_accepted_is_a_row_without_loss():
    """A cache that has a neighbour for one request in ten: -inf for the others, and they count."""
    scores = np.where(np.arange(1000) % 10 == 0, 0.9, -np.inf)
    found = find(
        Sample(scores, (scores > 0).astype(float) * (np.arange(1000) % 50 == 0)), candidates(scores, "at_least")
    )
    assert (found.threshold, found.share_accepted, found.realised) == (0.9, 0.1, 0.02)
    assert found.realised_accepted == pytest.approx(0.2)


def test_few_graded_rows_get_a_bound_that_needs_no_approximation():
    assert find(world(499), loss="graded", alpha=0.2).method == "betting"
    assert find(world(500), loss="graded", alpha=0.2).method == "clt"
    assert find(world(500), loss="graded", alpha=0.2, strict=True).method == "betting"


def test_candidates_run_from_the_safest_to_the_boldest_and_are_finite():
    scores = np.concatenate([np.random.default_rng(0).random(5000), np.full(5000, -np.inf)])
    steps = candidates(scores, "at_least")
    assert (np.diff(steps) < 0).all()
    assert np.isfinite(steps).all()
    assert (scores >= steps[0]).mean() == pytest.approx(0.001)
    assert (scores >= steps[-1]).mean() == pytest.approx(0.5)
    assert (candidates(-scores, "at_most") == -steps).all()
    assert len(candidates([], "at_least")) == len(candidates([-np.inf], "at_least")) == 0


def test_thinning_keeps_rows_in_proportion_to_their_weights():
    weights = np.repeat([1.0, 4.0], 20_000)
    kept = thinned(Sample(np.repeat([0.0, 1.0], 20_000), np.zeros(40_000), weights), seed=0)
    assert kept.weights is None
    assert (kept.scores == 1).sum() == 20_000
    assert (kept.scores == 0).sum() == pytest.approx(5000, abs=200)


def test_weighted_rows_certify_the_traffic_they_stand_for():
    weights = np.where(np.arange(4000) % 2, 20.0, 1.0)
    sample = world(4000)._replace(weights=weights)
    binary, graded = find(sample), find(sample, loss="graded")
    assert binary.n < 4000 == graded.n
    accepted = sample.scores >= graded.threshold
    assert graded.share_accepted == pytest.approx(np.average(accepted, weights=weights))
    assert graded.realised == pytest.approx(np.average(sample.losses * accepted, weights=weights))


@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        (Sample(np.array([np.nan]), np.zeros(1)), "NaN"),
        (Sample(np.zeros(2), np.zeros(1)), "length"),
        (Sample(np.zeros(1), np.array([0.5])), "0 or 1"),
        (Sample(np.zeros(1), np.zeros(1), np.zeros(1)), "weights"),
        (Sample(np.zeros(2), np.zeros(2), np.ones(1)), "weights"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(sample, fault):
    with pytest.raises(ValueError, match=fault):
        find(sample)


@pytest.mark.parametrize("value", [1.5, -1.1, np.nan, np.inf])
def test_a_graded_loss_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="graded"):
        find(Sample(np.zeros(1), np.array([value])), loss="graded")


@pytest.mark.parametrize(("method", "fault"), [("binomial", "binary losses"), ("clt", "500 rows")])
def test_a_method_that_does_not_fit_is_refused(method, fault):
    with pytest.raises(ValueError, match=fault):
        certify(world(499), GRID, Target(alpha=0.1, loss="graded"), SUBJECT, method=method)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from(["binary", "graded"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_and_candidates_does_not_matter(seed, n, loss, weighted):
    rng = np.random.default_rng(seed)
    sample = Sample(rng.integers(0, 5, n) / 5, rng.integers(0, 2, n).astype(float))
    if weighted and loss == "graded":
        sample = sample._replace(weights=rng.integers(1, 4, n).astype(float))
    shuffled = rng.permutation(n)
    again = Sample(*(None if part is None else part[shuffled] for part in sample))
    one = find(sample, GRID, loss=loss, alpha=0.4)
    two = find(again, rng.permutation(np.repeat(GRID, 2)), loss=loss, alpha=0.4)
    assert type(one) is type(two)
    if isinstance(one, Certificate):
        assert one.threshold == two.threshold
        assert one.upper_bound == pytest.approx(two.upper_bound)


def test_the_hash_of_the_rows_changes_with_any_of_them():
    sample = world(10)
    hashes = {data_hash(sample), data_hash(sample._replace(weights=np.ones(10)))}
    hashes.add(data_hash(Sample(sample.scores[::-1].copy(), sample.losses)))
    assert len(hashes) == 3
    assert data_hash(world(10)) in hashes


def test_the_same_rows_give_the_same_certificate():
    sample = world(800)._replace(weights=np.where(np.arange(800) % 2, 5.0, 1.0))
    assert msgspec.json.encode(find(sample)) == msgspec.json.encode(find(sample))


@pytest.mark.parametrize(("loss", "method"), [("binary", "binomial"), ("graded", "clt"), ("graded", "betting")])
def test_a_hundred_thousand_rows_and_a_thousand_candidates_take_less_than_a_second(loss, method):
    sample = world(100_000)
    steps = candidates(np.random.default_rng(1).random(10_000), "at_least", 1000)
    start = time.process_time()
    found = certify(sample, steps, Target(alpha=0.05, loss=loss), SUBJECT, method=method)
    assert time.process_time() - start < 1
    assert isinstance(found, Certificate)


@pytest.mark.parametrize(
    ("accept", "scores", "kept"),
    [("at_least", [0.9, 0.5, 0.5, -np.inf], [1.0, 0.9, 0.5]), ("at_most", [0.1, 0.1, 0.6, np.inf], [0.1, 0.6])],
)
def test_of_thresholds_that_accept_the_same_the_safest_is_kept(accept, scores, kept):
    assert tight([0.3, 0.9, 0.1, 0.5, 0.6, 0.2, 1.0], scores, accept).tolist() == kept
