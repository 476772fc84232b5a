import pytest

from gateway.access.accounts import Refusal, Spent, Window
from gateway.access.grants import Grant, Level, Shown
from gateway.access.refusals import limit_headers, refused
from gateway.core.limits import Budget, Concurrency, Rate

BUDGET = Budget("tenant:shop/month", "tenant:shop", "month", 50_000_000)
WINDOW = Window("tenant:shop/month@1764547200", BUDGET, 1_764_547_200, 1_767_225_600)
REQUESTS = Rate("key:ci/requests", "requests", 600)
TOKENS = Rate("key:ci/tokens", "tokens", 200_000)


def test_an_exhausted_budget_says_which_and_when_it_resets():
    error = refused(Refusal(spent=Spent(WINDOW, 49_999_000, 0)), 2_000)
    assert (error.status, error.type, error.code, error.retryable) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
        False,
    )
    assert "tenant:shop/month" in error.message
    assert "2026-01-01T00:00:00Z" in error.message
    assert "$0.002000" in error.message


def test_a_budget_that_is_only_held_may_be_tried_again():
    error = refused(Refusal(spent=Spent(WINDOW, 0, 49_999_000), retry_after_s=1.0), 2_000)
    assert error.retryable is True
    assert error.retry_after_s == 1.0


def test_a_total_budget_never_resets():
    total = Window("all/total@0", Budget("all/total", "all", "total", 0), 0, None)
    assert "does not reset" in refused(Refusal(spent=Spent(total, 0, 0)), 1).message


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(level=Level(Shown(REQUESTS), 0, 60.0), retry_after_s=0.1), "rate_limit_exceeded"),
        (Refusal(concurrency=Concurrency("key:ci", 50), retry_after_s=1.0), "concurrency_limit_exceeded"),
    ],
)
def test_rates_and_slots_say_when_to_come_back(refusal, code):
    error = refused(refusal, 0)
    assert (error.status, error.code, error.retryable) == (429, code, True)
    assert error.retry_after_s == refusal.retry_after_s


def test_headers_are_openais_and_of_the_tightest_rate():
    other = Rate("tenant:shop/requests", "requests", 100)
    levels = (Level(Shown(REQUESTS), 599, 0.1), Level(Shown(other), 3, 90.0), Level(Shown(TOKENS), 0, 60.0))
    lines = limit_headers(Grant((), levels=levels)).decode().splitlines()
    assert lines == [
        "x-ratelimit-limit-requests: 100",
        "x-ratelimit-remaining-requests: 3",
        "x-ratelimit-reset-requests: 1m30s",
        "x-ratelimit-limit-tokens: 200000",
        "x-ratelimit-remaining-tokens: 0",
        "x-ratelimit-reset-tokens: 1m0s",
    ]


@pytest.mark.parametrize(("committed", "warned"), [(39_999_999, False), (40_000_000, True)])
def test_a_soft_limit_warns_from_its_share_on(committed, warned):
    headers = limit_headers(Grant((WINDOW.id,), spent=(Spent(WINDOW, committed, 0),)))
    assert (b"x-farthing-budget-warning: tenant:shop/month; used=80%" in headers) is warned
