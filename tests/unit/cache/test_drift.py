"""Scores that move make a certificate stale; scores that do not leave it alone."""

import logging
import math
import random

from gateway.cache.drift import MOST, Drift
from gateway.guarantee.certificate import WINDOW
from tests.support.certificates import certificate

CERTIFIED = certificate("r", {"encoder": "1"}, threshold=0.5)


def shown(drift, scores, certified=CERTIFIED):
    for score in scores:
        drift.add(certified, score)


def traffic(seed, high=1.0, windows=1):
    """Nine in ten without a neighbour, the others spread up to `high`."""
    rng = random.Random(seed)
    return [rng.uniform(0, high) if rng.random() < 0.1 else -math.inf for _ in range(WINDOW * windows)]


def test_the_same_traffic_leaves_it_alone():
    drift = Drift()
    shown(drift, traffic(1, windows=20))
    assert not drift.stale(CERTIFIED)
    assert drift.accepts(CERTIFIED, 0.6)


def test_other_traffic_is_told_once_and_tightens_to_the_fallback(caplog):
    drift = Drift()
    with caplog.at_level(logging.WARNING):
        shown(drift, traffic(1))
        shown(drift, [0.9] * WINDOW * 2)
    assert drift.stale(CERTIFIED)
    assert len(caplog.records) == 1
    assert "calibrate it again" in caplog.text
    assert CERTIFIED.fallback is not None
    assert drift.accepts(CERTIFIED, CERTIFIED.fallback)
    assert not drift.accepts(CERTIFIED, CERTIFIED.fallback - 0.01)


def test_half_a_window_says_nothing():
    drift = Drift()
    shown(drift, traffic(1))
    shown(drift, [0.9] * (WINDOW - 1))
    assert not drift.stale(CERTIFIED)


def test_a_new_certificate_begins_anew():
    drift = Drift()
    shown(drift, traffic(1))
    shown(drift, [0.9] * WINDOW)
    newer = certificate("r", {"encoder": "2"}, threshold=0.5)
    assert not drift.stale(newer)
    shown(drift, [0.9] * WINDOW * 3, newer)
    assert not drift.stale(newer)


def test_without_a_fallback_nothing_is_served():
    import msgspec

    bare = msgspec.structs.replace(CERTIFIED, fallback=None)
    drift = Drift()
    shown(drift, traffic(1), bare)
    shown(drift, [0.9] * WINDOW, bare)
    assert not drift.accepts(bare, 1.0)


def test_two_certificates_that_take_turns_each_keep_what_they_have_seen():
    drift = Drift()
    other = certificate("r", {"encoder": "2"}, threshold=0.5)
    for score in [*traffic(1), *[0.9] * WINDOW]:
        drift.add(CERTIFIED, score)
        drift.add(other, -math.inf)
    assert (drift.stale(CERTIFIED), drift.stale(other)) == (True, False)


def test_of_many_certificates_of_a_route_the_first_are_forgotten():
    drift = Drift()
    for n in range(3 * MOST):
        drift.add(certificate("r", {"encoder": str(n)}), 0.9)
    assert len(drift._routes["r"]) == MOST
