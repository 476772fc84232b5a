"""What each status, failure and error body means."""

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from gateway.dispatch.breaker import Breaker, State
from gateway.dispatch.verdict import Action, classify, event_status, kind_of, report, retry_after_s

FINAL, SAME, NEXT = Action.FINAL, Action.RETRY_SAME, Action.NEXT_TARGET


def body(**error) -> bytes:
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("status", "action", "failure", "masked"),
    [
        (200, FINAL, None, None),
        (204, FINAL, None, None),
        (301, NEXT, "broken", "upstream_broken"),
        (400, FINAL, None, None),
        (401, NEXT, "auth", "upstream_auth_failed"),
        (402, NEXT, "auth", "upstream_quota_exceeded"),
        (403, NEXT, "status", "upstream_auth_failed"),
        (404, NEXT, None, None),
        (405, NEXT, None, None),
        (408, SAME, "status", None),
        (409, FINAL, None, None),
        (413, FINAL, None, None),
        (418, FINAL, None, None),
        (422, FINAL, None, None),
        (429, SAME, None, None),
        (500, SAME, "status", None),
        (501, NEXT, "status", None),
        (502, SAME, "status", None),
        (503, SAME, "status", None),
        (504, SAME, "status", None),
        (529, SAME, "status", None),
    ],
)
def test_a_status_without_a_body(status, action, failure, masked):
    verdict = classify(status)
    assert (verdict.action, verdict.failure, verdict.masked) == (action, failure, masked)


@pytest.mark.parametrize(
    ("error", "action", "failure"),
    [
        (UpstreamUnreachable("refused"), SAME, "connect"),
        (UpstreamBroken("cut"), SAME, "broken"),
        (UpstreamTimeout("late", phase="connect"), NEXT, "timeout"),
        (UpstreamTimeout("late", phase="first_token"), NEXT, "timeout"),
        (UpstreamTimeout("late", phase="idle"), NEXT, "timeout"),
        (UpstreamTimeout("late", phase="total"), FINAL, "timeout"),
    ],
)
def test_a_call_without_an_answer(error, action, failure):
    verdict = classify(None, kind_of(error))
    assert (verdict.action, verdict.failure, verdict.masked) == (action, failure, None)


@pytest.mark.parametrize("status", [400, 403, 429, 451])
@pytest.mark.parametrize(
    "refusal",
    [
        body(code="content_filter", message="filtered"),
        body(code="content_policy_violation", message="rejected by our safety system"),
        body(code=None, innererror={"code": "ResponsibleAIPolicyViolation"}),
        body(code=403, message="flagged", metadata={"reasons": ["violence"], "flagged_input": "…"}),
    ],
)
def test_a_content_filters_refusal_is_never_routed_around(status, refusal):
    verdict = classify(status, body_head=refusal)
    assert (verdict.action, verdict.failure, verdict.masked) == (FINAL, None, None)


def test_a_prompt_that_is_too_long_is_final():
    assert classify(400, body_head=body(code="context_length_exceeded")).action is FINAL


@pytest.mark.parametrize(
    ("status", "refusal", "masked"),
    [
        (429, body(code="insufficient_quota", type="insufficient_quota"), "upstream_quota_exceeded"),
        (400, body(code="billing_hard_limit_reached", message="…"), "upstream_quota_exceeded"),
        (
            400,
            (
                b'{"type":"error","error":{"type":"invalid_request_error",'
                b'"message":"Your credit balance is too low to access the Anthropic API."}}'
            ),
            "upstream_quota_exceeded",
        ),
        (
            400,
            (
                b'[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",'
                b'"status":"INVALID_ARGUMENT"}}]'
            ),
            "upstream_auth_failed",
        ),
    ],
)
def test_a_refusal_of_our_account_goes_elsewhere_under_any_status(status, refusal, masked):
    verdict = classify(status, body_head=refusal)
    assert (verdict.action, verdict.failure, verdict.masked) == (NEXT, "auth", masked)


def test_a_caller_who_is_quoted_in_an_error_cannot_open_a_breaker():
    quoted = body(message="Invalid value: 'Your credit balance is too low. API key not valid'", code="insufficient")
    assert classify(400, body_head=quoted).failure is None


@given(
    st.integers(100, 599),
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "code", "message", "innererror", "metadata"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_no_body_can_break_it_and_only_4xx_bodies_matter(status, head):
    verdict = classify(status, body_head=head)
    if not 400 <= status < 500:
        assert verdict is classify(status)


def test_a_body_that_is_nested_without_end_reads_as_none():
    assert classify(400, body_head=b'{"error":' * 100_000) is classify(400)


def test_a_cut_body_reads_as_none():
    assert classify(429, body_head=body(code="insufficient_quota")[:-3]) is classify(429)


@pytest.mark.parametrize(
    ("payload", "status", "action"),
    [
        (body(code="content_filter", type="server_error"), 400, FINAL),
        (body(code=403, metadata={"flagged_input": "…"}), 400, FINAL),
        (body(code=400, type="BadRequestError", message="too long"), 400, FINAL),
        (body(code=429, message="rate limited"), 429, SAME),
        (body(type="overloaded_error", message="Overloaded"), 529, SAME),
        (body(type="invalid_request_error", code="invalid_api_key"), 401, NEXT),
        (body(type="invalid_request_error", code=None), 400, FINAL),
        (body(type="insufficient_quota", code="insufficient_quota"), 429, NEXT),
        (body(type="authentication_error"), 401, NEXT),
        (body(type="server_error", code=None), 502, SAME),
        (body(code=7), 502, SAME),
        (b'{"error":"boom"}', 502, SAME),
        (b"boom", 502, SAME),
    ],
)
def test_an_error_in_place_of_a_streams_first_event_means_what_its_status_would_have(payload, status, action):
    assert event_status(payload) == status
    assert classify(status, None, payload).action is action


def test_only_trouble_of_one_replica_is_worth_a_sibling():
    local = {s: classify(s).local for s in (429, 500, 503, 401, 404)}
    assert local == {429: True, 500: True, 503: True, 401: False, 404: False}
    assert classify(None, "timeout_first_token").local


@pytest.mark.parametrize(
    ("retry_after", "ms", "expected"),
    [
        ("3", None, 3.0),
        ("1.5", None, 1.5),
        ("0", None, 0.0),
        ("30", "250", 0.25),
        ("30", "soon", 30.0),
        ("30", "-1", 30.0),
        (formatdate(1_000_012, usegmt=True), None, 12.0),
        (formatdate(999_000, usegmt=True), None, 0.0),
        ("-5", None, None),
        ("nan", None, None),
        ("inf", None, None),
        ("tomorrow", None, None),
        ("", None, None),
        (None, None, None),
        (None, "1500", 1.5),
    ],
)
def test_retry_after_in_its_forms(retry_after, ms, expected):
    assert retry_after_s(retry_after, ms, 1_000_000.0) == expected


def test_a_date_without_a_zone_is_utc_wherever_the_gateway_runs(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert retry_after_s("Mon, 12 Jan 1970 13:46:52 -0000", None, 1_000_000.0) == 12.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.none() | st.text(max_size=40), st.none() | st.text(max_size=10))
def test_retry_after_is_none_or_a_duration_whatever_was_sent(retry_after, ms):
    seconds = retry_after_s(retry_after, ms, 1_000_000.0)
    assert seconds is None or 0.0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("status", "state"), [(200, State.CLOSED), (400, State.CLOSED), (401, State.OPEN), (429, State.COOLING)]
)
def test_the_breaker_hears_of_it(status, state):
    breaker = Breaker(lambda: 0.0)
    report(breaker, breaker.try_acquire(0.0), classify(status), 0.0, 4.0)
    assert breaker.state(1.0) is state


def test_a_429_without_a_date_stops_nobody():
    breaker = Breaker(lambda: 0.0)
    report(breaker, breaker.try_acquire(0.0), classify(429), 0.0, None)
    assert breaker.allow(0.0)
