"""Traffic that is no longer like the sample: quiet while it is, loud and with a place to go when it is not."""

import msgspec
import numpy as np
import pytest

from gateway.guarantee.certificate import WINDOW, Certificate, Subject
from gateway.guarantee.certify import Sample, Target, candidates, certify
from gateway.guarantee.drift import DRIFTED, Window, drift, stability, window

SUBJECT = Subject(kind="cache", route="faq", date="2026-03-01", data_hash="", versions={})


@pytest.fixture(scope="module")
def certified() -> Certificate:
    rng = np.random.default_rng(0)
    scores = rng.beta(4, 2, 4000)
    losses = (rng.random(4000) < 0.2 * (1 - scores)).astype(float)
    found = certify(Sample(scores, losses), candidates(rng.beta(4, 2, 9000), "at_least"), Target(alpha=0.02), SUBJECT)
    assert isinstance(found, Certificate)
    return found


def looked_at(certificate, scores) -> str | None:
    seen = window(certificate)
    for score in scores:
        seen.add(certificate, float(score))
    return drift(certificate, seen)


def test_unchanged_traffic_is_never_called_stale(certified):
    rng = np.random.default_rng(1)
    assert [looked_at(certified, rng.beta(4, 2, WINDOW)) for _ in range(200)] == [None] * 200


@pytest.mark.parametrize(("a", "b"), [(6, 2), (3, 2.5)])
def test_other_scores_make_a_certificate_stale(certified, a, b):
    found = looked_at(certified, np.random.default_rng(2).beta(a, b, WINDOW))
    assert found is not None
    assert "of 1000 requests in a row accepted, calibrated for" in found


def test_scores_that_move_without_changing_the_share_are_noticed(certified):
    accepted = int(certified.share_accepted * WINDOW)
    scores = np.where(np.arange(WINDOW) < accepted, certified.threshold, 0.3)
    assert "in a row have moved: stability index" in looked_at(certified, scores)


def test_a_window_that_is_not_full_says_nothing(certified):
    assert looked_at(certified, np.zeros(WINDOW - 1)) is None
    assert looked_at(certified, np.zeros(WINDOW)) is not None


def test_scores_that_are_no_numbers_are_counted_and_never_accepted(certified):
    seen = window(certified)
    for score in (float("-inf"), float("nan")):
        seen.add(certified, score)
    assert (seen.seen, seen.accepted) == (2, 0)
    seen.add(certified, float("inf"))
    assert (seen.seen, seen.accepted) == (3, 1)


def test_the_stability_index_is_zero_for_equal_shares_and_grows(certified):
    reference = certified.reference
    equal = [round(share * 4000) for share in reference.shares]
    assert stability(reference, equal) == pytest.approx(0)
    steps = [
        stability(reference, [count + step * (i == 0) for i, count in enumerate(equal)]) for step in (0, 400, 4000)
    ]
    assert steps == sorted(steps)
    assert steps[2] > DRIFTED


def test_a_window_survives_its_store():
    seen = Window([1, 2, 3], 2)
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Window) == seen
