"""A threshold for a share of strong calls, from scores without labels."""

import random

import pytest

from gateway.guarantee.certificate import BadCertificate
from gateway.routing.shares import LEAST_SCORES, calibrate_share, dump_share, load_share

DICE = random.Random(7)
SCORES = [DICE.gauss(0.1, 0.2) for _ in range(2000)]
VERSIONS = {"head": "h1"}


def made(scores=SCORES, share=0.3):
    return calibrate_share(scores, share, route="r", date="2026-01-01T00:00:00+00:00", versions=VERSIONS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.99])
def test_that_share_of_the_scores_is_above_the_threshold(share):
    calibration = made(share=share)
    assert sum(score > calibration.threshold for score in SCORES) / len(SCORES) == pytest.approx(share, abs=0.001)
    assert calibration.interval[0] <= calibration.realised <= calibration.interval[1]


def test_fresh_traffic_has_that_share_within_the_interval():
    calibration = made()
    fresh = [DICE.gauss(0.1, 0.2) for _ in range(20_000)]
    share = sum(score > calibration.threshold for score in fresh) / len(fresh)
    assert calibration.interval[0] - 0.01 < share < calibration.interval[1] + 0.01


def test_ties_are_spent_from_below():
    calibration = made([0.0] * 150 + [1.0] * 150, 0.3)
    assert calibration.realised == 0.0
    assert calibration.threshold == 1.0


def test_weighted_scores_count_by_what_they_stand_for():
    """Every easy request stands for nine: half of the rows above the threshold are a tenth of the traffic."""
    scores = [n / 1000 for n in range(1000)]
    weights = [9.0] * 500 + [1.0] * 500
    found = calibrate_share(scores, 0.1, route="r", date="2026-01-01T00:00:00+00:00", versions={}, weights=weights)
    assert (found.threshold, found.realised) == (0.499, pytest.approx(0.1))
    assert found.n == 609, "as many rows of one weight as these are worth"
    equal = calibrate_share(scores, 0.1, route="r", date="2026-01-01T00:00:00+00:00", versions={}, weights=[7.0] * 1000)
    assert equal == calibrate_share(scores, 0.1, route="r", date="2026-01-01T00:00:00+00:00", versions={})


def test_few_rows_that_stand_for_many_are_too_few():
    with pytest.raises(ValueError, match="at least 200"):
        calibrate_share(SCORES[:300], 0.3, route="r", date="d", versions={}, weights=[100.0] * 50 + [1.0] * 250)


def test_the_weak_share_of_a_window_has_a_band_by_the_rarer_side():
    found = made(share=0.05)
    low, high = found.share_band
    assert 0.90 < low < 0.95 < high < 1
    assert [found.accepts(score) for score in (found.threshold, found.threshold + 1e-9, float("nan"))] == [
        True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("scores", [[], [0.1] * (LEAST_SCORES - 1), [0.1] * LEAST_SCORES + [float("nan")]])
def test_too_few_scores_are_no_calibration(scores):
    with pytest.raises(ValueError, match="scores"):
        made(scores)


def test_a_file_comes_back_as_it_was():
    assert load_share(dump_share(made()), "f") == made()


@pytest.mark.parametrize(("old", "new"), [(b'"threshold": ', b'"threshold": 1'), (b"{", b"["), (b'"n":', b'"m":')])
def test_a_changed_file_is_refused(old, new):
    with pytest.raises(BadCertificate, match="calibrate"):
        load_share(dump_share(made()).replace(old, new, 1), "f")
