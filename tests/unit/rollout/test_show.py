"""How a rollout is told to people and machines."""

import json

import msgspec

from gateway.rollout.operate import Status
from gateway.rollout.show import history_text, shown_status, status_text
from gateway.rollout.state import Pin, State, Trial
from gateway.rollout.store import Kept, Report
from gateway.rollout.tally import Counts, Shadow, Side

NOW = 1_800_000_000.0
A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


def report(gateway="g1", **more):
    fields = {"version": 3, "in_force": A, "files": A, "since_s": NOW, "seen_s": NOW, **more}
    return Report(gateway=gateway, **fields)


def test_nothing_on_trial_is_one_line():
    text = status_text(Status(State(3), (report(), report("g2")), Counts()))
    assert text == f"in force   {A} on 2 gateways\non trial   nothing\n"
    assert "no gateway is running" in status_text(Status(State(), (), Counts()))


def test_a_canary_shows_both_sides():
    state = State(3, Trial(C, "canary", 0.05, NOW, "cli:ada"))
    counts = Counts(Side(1000, 2, 1, 2_000_000, 0), Side(50, 5, 0, 50_000, 1))
    text = status_text(Status(state, (report(candidate=C, mode="canary", share=0.05),), counts))
    assert f"on trial   {C}, canary, 5 % of requests since 2027-01-15 08:00:00Z by cli:ada" in text
    assert "in force   1,000 requests, 0.20% errors, 0.10% refused, $2.000000, $0.002000 a request" in text
    assert "candidate  50 requests, 10.00% errors, 0.00% refused, $0.050000 (1 of unknown price)" in text
    assert "shadow" not in text


def test_a_shadow_shows_what_would_move_and_what_is_not_known():
    state = State(3, Trial(C, "shadow", 1.0, NOW, "cli:ada"))
    shadow = Shadow(same=6, other=2, undecided=1, cached=3, micro_usd=-250_000, priced=8, moves={"a -> b": 2})
    status = Status(state, (report(candidate=C, mode="shadow", share=1.0),), Counts(Side(12), Side(), shadow))
    text = status_text(status)
    for line in (
        "25.00% of 8 would go elsewhere", "not compared: 1 undecided, 3 cached",
        "would cost $0.250000 less over 8 requests, at the same tokens", "a -> b: 2",
    ):  # fmt: skip
        assert line in text
    assert "candidate " not in text
    shown = json.loads(json.dumps(shown_status(status)))
    assert (shown["counts"]["shadow"]["disagreement"], shown["counts"]["shadow"]["cost_usd"]) == (0.25, "-0.250000")


def test_what_is_pinned_behind_or_failing_is_told():
    state = State(4, pin=Pin(A, (B,), (B,), NOW, "adm_x"))
    text = status_text(Status(state, (report(errors=("a secret is missing",)),), Counts()))
    assert f"pinned     {A} over {B} since 2027-01-15 08:00:00Z by adm_x" in text
    assert "error      g1: a secret is missing" in text
    assert "behind     g1" in text


def test_the_history_says_which_is_in_force():
    lines = history_text([Kept(B, NOW, NOW + 60), Kept(A, NOW - 60, NOW - 60)], {B: 2}).splitlines()
    assert lines[1] == f"{B}  2027-01-15 08:00:00Z  2027-01-15 08:01:00Z  in force"
    assert lines[2] == f"{A}  2027-01-15 07:59:00Z  2027-01-15 07:59:00Z"


def test_what_each_side_decides_by_is_told_and_who_alone_does():
    state = State(3, Trial(C, "canary", 0.05, NOW, "cli:ada"))
    fits = {"fits": ("routing r: routing-r.json",), "candidate": C, "mode": "canary", "share": 0.05}
    reports = (
        report(candidate_fits=("routing r: routing-r-0123abcd.json",), **fits),
        report("g2", candidate_fits=("routing r: uncertified, head was h1 when certified and is h2",), **fits),
    )
    lines = status_text(Status(state, reports, Counts())).splitlines()
    assert lines[2:5] == [
        "  in force   routing r: routing-r.json",
        "  candidate  routing r: routing-r-0123abcd.json (g1)",
        "  candidate  routing r: uncertified, head was h1 when certified and is h2 (g2)",
    ]


def test_what_may_abort_a_canary_and_what_did_is_told():
    on_trial = report(candidate=C, mode="canary", share=0.05)
    trial = Trial(C, "canary", 0.05, NOW, "cli:ada", "errors>+2%")
    assert "abort on   errors>+2%" in status_text(Status(State(3, trial), (on_trial,), Counts()))
    why = "errors>+2%: 6.00% of 1,000 requests on trial failed, 0.50% of 20,000 in force"
    status = Status(State(3, msgspec.structs.replace(trial, aborted=why)), (on_trial,), Counts())
    assert f"ABORTED    {why}" in status_text(status)
    assert "farthing policy rollout set --share" in status_text(status)
    shown = shown_status(status)
    assert (shown["on_trial"]["abort_on"], shown["on_trial"]["aborted"]) == ("errors>+2%", why)
    assert "squares" not in shown["counts"]["candidate"]
