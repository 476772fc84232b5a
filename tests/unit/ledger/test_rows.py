"""From a record to its row, and from rows to sums, without a database."""

import msgspec
import pytest

from gateway.core.exchange import Choice, Savings, Usage
from gateway.ledger.rows import MAX_TEXT, MEASURES, MOST, Totals, build, charge, closed, crashed, group, measures, text
from tests.support.ledger import STARTED_S, WINDOWS, admission, ended, request_id
from tests.support.records import ANSWERED, attempt, failed


def test_a_row_tells_what_the_record_told():
    row, windows = closed(ended(1, attempts=(failed(), ANSWERED)))
    assert windows == WINDOWS
    assert (row.request_id, row.started_s, row.ended_s) == (request_id(1), STARTED_S, STARTED_S + 2.0)
    assert (row.uncached_input, row.cache_read, row.cache_write_5m, row.cache_write_1h) == (70, 20, 6, 4)
    assert (row.output, row.reasoning, row.usage_source) == (51, 11, "reported")
    assert (row.reserved_micro, row.charged_micro, row.baseline_micro, row.saved_routing) == (5000, 1234, 2000, 766)
    assert (row.stream, row.status, row.outcome) == (1, 200, "ok")
    assert (row.tags, msgspec.json.decode(row.windows)) == ('["batch"]', list(WINDOWS))


def test_a_row_tells_what_a_routed_request_was_chosen_by():
    choice = Choice("strong", "score", "light", 0.25, 0.125, "1a2b3c4d", "light-0a1b2c3d4e5f")
    row = closed(ended(1, choice=choice, session="chat-7")).row
    assert (row.session, row.route_tier, row.route_score, row.route_threshold, row.route_strong) == (
        "chat-7", "light", 0.25, 0.125, 1,
    )  # fmt: skip
    assert (row.route_certificate, row.route_scorer) == ("1a2b3c4d", "light-0a1b2c3d4e5f")


def test_a_row_names_no_certificate_and_no_scorer_where_nothing_was_certified_or_scored():
    for choice in (None, Choice("weak", "asked"), Choice("strong", "classifier_failed", threshold=0.125)):
        row = closed(ended(1, choice=choice)).row
        assert (row.route_tier, row.route_score, row.route_certificate, row.route_scorer) == (None, None, None, None)
    assert crashed(admission(1)).row[-6:] == (None,) * 6


def test_a_judges_model_is_stored_whatever_a_policy_calls_it():
    row = closed(ended(1, choice=Choice("weak", "score", "judge", 0.0, 0.5, "1a2b3c4d", "m\0" * MAX_TEXT))).row
    assert row.route_scorer == "m\ufffd" * (MAX_TEXT // 2)


def test_attempts_are_told_each_with_its_usage_and_its_cost():
    row = closed(ended(1, attempts=(failed(), ANSWERED))).row
    lost, answered = msgspec.json.decode(row.attempts)
    assert lost == {
        "target": "vllm",
        "replica": None,
        "status": 503,
        "error": "status_503",
        "offset_s": 0.0,
        "duration_s": 0.25,
        "ttft_s": None,
        "usage_source": None,
        "cost_micro": None,
    }
    assert (answered["cost_micro"], answered["usage_source"]) == (1234, "reported")
    assert (answered["uncached_input"], answered["cache_write_1h"], answered["output"]) == (70, 4, 51)


def test_a_call_of_the_gateways_own_is_told_from_those_that_were_to_answer():
    told = msgspec.json.decode(closed(ended(1, attempts=(attempt(target="judge", own=True), ANSWERED))).row.attempts)
    assert [each.get("own") for each in told] == [True, None]


def test_an_unknown_price_stays_unknown():
    row = closed(ended(1, cost_micro_usd=None, savings=None, usage=None)).row
    assert (row.charged_micro, row.baseline_micro, row.own_micro, row.usage_source) == (None, None, None, None)
    assert row.output == 0
    measured = dict(zip(MEASURES, measures([row]), strict=True))
    assert (measured["charged_micro"], measured["unknown_cost"], measured["estimated"]) == (0, 1, 0)


@pytest.mark.parametrize("reserved", [None, 0, 5000])
def test_a_crashed_request_is_charged_as_reserved_and_marked(reserved):
    row, windows = crashed(admission(1, reserved_micro_usd=reserved))
    assert (row.outcome, row.status, row.usage_source) == ("crashed", 0, "estimated")
    assert row.charged_micro == row.reserved_micro == reserved
    assert (row.uncached_input, row.output, row.duration_s, row.ended_s) == (0, 0, 0.0, row.started_s)
    assert windows == WINDOWS


def test_crashed_and_ended_rows_of_one_request_agree_on_what_was_known_at_its_start():
    begun, done = crashed(admission(1)).row, closed(ended(1)).row
    for name in ("request_id", "started_s", "tenant", "key_id", "tags", "route", "policy", "dialect", "endpoint",
                 "requested_model", "target", "provider", "model", "stream", "reserved_micro", "windows"):  # fmt: skip
        assert getattr(begun, name) == getattr(done, name), name


@pytest.mark.parametrize(
    ("given", "kept"),
    [("plain", "plain"), ("é😀", "é😀"), ("a\0b", "a\ufffdb"), ("\ud800x", "?x"), ("m" * 5000, "m" * MAX_TEXT)],
)
def test_texts_are_made_storable(given, kept):
    assert text(given) == kept


@pytest.mark.parametrize(("tokens", "kept"), [(-1, 0), (0, 0), (MOST, MOST), (2**80, MOST)])
def test_nonsense_of_an_upstream_is_bounded(tokens, kept):
    row = closed(ended(1, usage=Usage(output=tokens), cost_micro_usd=tokens, savings=Savings(baseline=tokens))).row
    assert row.output == kept
    assert row.charged_micro == row.baseline_micro == max(-MOST, min(MOST, tokens))


def test_a_row_counts_in_the_hour_in_which_it_started():
    assert group(closed(ended(1, started_s=7199.999, duration_s=50.0)).row)[0] == 3600
    assert group(closed(ended(1, started_s=7200.0)).row)[0] == 7200


def test_sums_by_hour_by_day_and_by_window():
    totals = Totals()
    for number, started_s in enumerate((10.0, 20.0, 3700.0, 90_000.0)):
        totals.add(closed(ended(number, started_s=started_s, cost_micro_usd=10 + number, windows=("w@0",))))
    assert [(row[0], row[9], row[15]) for row in totals.hours()] == [(0, 2, 21), (3600, 1, 12), (90_000, 1, 13)]
    assert [(row[0], row[9], row[15]) for row in totals.days()] == [(0, 3, 33), (86_400, 1, 13)]
    assert totals.windows() == [("w@0", 46, 10.0)]


def test_a_window_commits_what_was_reserved_when_the_price_is_unknown():
    totals = Totals()
    totals.add(closed(ended(1, cost_micro_usd=None, reserved_micro_usd=70, windows=("w@0",))))
    totals.add(closed(ended(2, cost_micro_usd=None, reserved_micro_usd=None, windows=("w@0",))))
    totals.add(closed(ended(3, cost_micro_usd=0, reserved_micro_usd=70, windows=("w@0",))))
    assert totals.windows()[0][1] == 70


def test_others_get_their_turn_after_each_chunk():
    turns = []
    made = build([ended(1), admission(2), ended(3), ended(4)], 2, lambda: turns.append(1))
    assert made == [charge(ended(1)), charge(admission(2)), charge(ended(3)), charge(ended(4))]
    assert len(turns) == 2
