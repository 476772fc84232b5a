"""Scores that move make a route's calibration stale; a key that is held back again and again raises one alarm."""

import random

import pytest

from gateway.guarantee.certificate import WINDOW
from gateway.routing.drift import CAPPED, CAPPED_S, QUIET_S, CapAlarm, Drift, Shares
from gateway.routing.shares import calibrate_share

DICE = random.Random(4)


def traffic(count, shift=0.0):
    return [DICE.gauss(shift, 1.0) for _ in range(count)]


def calibration(share=0.3, date="2026-01-01T00:00:00+00:00"):
    return calibrate_share(traffic(2000), share, route="r", date=date, versions={})


def said(drift, calibrated, scores):
    """What each full window says."""
    found = [drift.add(calibrated, score) for score in scores]
    assert not any(why for at, why in enumerate(found, 1) if at % WINDOW)
    return found[WINDOW - 1 :: WINDOW]


def test_the_same_traffic_is_never_called_stale():
    assert said(Drift(), calibration(), traffic(40 * WINDOW)) == [None] * 40


@pytest.mark.parametrize("share", [0.02, 0.3, 0.98])
def test_harder_traffic_is_noticed_within_a_window(share):
    why = said(Drift(), calibration(share), traffic(WINDOW, 1.0))[0]
    assert why is not None


def test_it_says_how_much_goes_where():
    why = said(Drift(), calibration(), traffic(WINDOW, 1.5))[0]
    assert "of 1000 requests in a row to the weak target, calibrated for 5" in why


def test_scores_that_move_on_their_side_of_the_threshold_are_noticed():
    calibrated = calibration()
    ordered = sorted(traffic(WINDOW))
    moved = [min(score, -2.0) if score <= calibrated.threshold else score for score in ordered]
    assert "have moved: stability index" in said(Drift(), calibrated, moved)[0]


def test_a_new_calibration_begins_a_new_window():
    drift, old, new = Drift(), calibration(), calibration(date="2026-02-01T00:00:00+00:00")
    for score in traffic(WINDOW - 1, 2.0):
        drift.add(old, score)
    assert said(drift, new, traffic(WINDOW)) == [None]


def test_the_share_is_that_of_the_last_window():
    shares = Shares()
    assert shares.all() == []
    for strong in [True] * WINDOW + [False] * (WINDOW // 4):
        shares.add("r", strong=strong)
    shares.add("other", strong=True)
    assert shares.all() == [("r", 0.75), ("other", 1.0)]


def alarms(alarm, count, since_s, step_s, key="k"):
    return [at for at in range(count) if alarm.add("r", key, since_s + at * step_s)]


def test_a_key_that_is_held_back_often_raises_one_alarm_a_day():
    alarm = CapAlarm()
    assert alarms(alarm, 200, 0.0, 1.0) == [CAPPED - 1]
    assert alarms(alarm, 200, 7200.0, 1.0) == []
    assert alarms(alarm, 200, QUIET_S + 100.0, 1.0) == [CAPPED - 1]


def test_a_key_that_is_held_back_now_and_then_raises_none():
    assert alarms(CapAlarm(), 500, 0.0, CAPPED_S / (CAPPED - 2)) == []


def test_each_key_counts_for_itself():
    alarm = CapAlarm()
    assert alarms(alarm, CAPPED - 1, 0.0, 1.0, "a") == []
    assert alarms(alarm, CAPPED - 1, 0.0, 1.0, "b") == []
    assert alarms(alarm, 1, 30.0, 1.0, "a") == [0]
