import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Attempt, Savings, Usage
from gateway.pricing.book import ModelPrice, Tier
from gateway.pricing.savings import savings

DEAR = ModelPrice((Tier(2_500_000, 10_000_000, cached_read=1_250_000),))
SERVED = Usage(uncached_input=1_000, cache_read=1_000, output=100)
"""At the dear price: 2,500 + 1,250 + 1,000 micro-USD."""


def attempt(cost, usage=SERVED, error=None, own=False):
    return Attempt("t", None, 200, error, 0.0, 1.0, usage=usage, cost_micro_usd=cost, own=own)


def test_the_cheaper_target_saves_the_difference():
    assert savings(DEAR, SERVED, [attempt(300)]) == Savings(4_750, routing=4_450)


def test_a_dearer_target_saves_less_than_nothing():
    found = savings(DEAR, SERVED, [attempt(6_000)])
    assert (found.routing, found.net) == (-1_250, -1_250)


def test_what_was_billed_before_the_answer_is_waste():
    failed, refused = attempt(200, error="broken"), attempt(None, None, "status_500")
    assert savings(DEAR, SERVED, [failed, refused, attempt(300)]) == Savings(4_750, routing=4_450, waste_retries=200)


def test_a_request_that_was_not_served_has_only_waste():
    assert savings(DEAR, None, [attempt(200, error="broken"), attempt(None, None, "connect")]) == Savings(
        0, waste_retries=200
    )


def test_an_answer_from_the_cache_saves_all_of_it():
    assert savings(DEAR, SERVED, [attempt(40, own=True)], hit=True) == Savings(4_750, cache=4_750, own=40)


def test_a_call_of_the_gateways_own_is_neither_the_answer_nor_a_try():
    judge = attempt(40, own=True)
    assert savings(DEAR, SERVED, [judge, attempt(300)]) == Savings(4_750, routing=4_450, own=40)
    assert savings(DEAR, None, [judge, attempt(None, None, "connect")]) == Savings(0, own=40)
    assert savings(DEAR, SERVED, [attempt(None, own=True), attempt(300)]) is None, "a part is unknown"


def test_a_shorter_prompt_and_a_better_route_are_told_apart():
    found = savings(DEAR, SERVED, [attempt(300)], compression=100)
    assert (found.compression, found.routing) == (100, 4_350)


@pytest.mark.parametrize(
    "attempts", [[attempt(None)], [attempt(None, error="broken"), attempt(300)], [attempt(None, None)]]
)
def test_an_unknown_cost_leaves_savings_unknown(attempts):
    assert savings(DEAR, SERVED, attempts) is None


def test_without_a_baseline_nothing_is_counted():
    assert savings(None, SERVED, [attempt(300)]) is None


amounts = st.integers(0, 10**7)
signed = st.integers(-(10**7), 10**7)
tokens = st.integers(0, 300_000)
usages = st.builds(Usage, tokens, tokens, tokens, tokens, tokens)
attempts = st.builds(attempt, amounts, usages, st.none() | st.just("broken"), st.booleans()) | st.just(
    attempt(None, None, "connect")
)
tiers = st.builds(Tier, amounts, amounts, st.none() | amounts)


@given(tiers, st.none() | usages, st.lists(attempts, max_size=5), st.booleans(), signed, amounts)
@settings(max_examples=500)
def test_the_terms_add_up_to_the_micro_dollar(tier, original, tried, hit, compression, escalation):
    found = savings(ModelPrice((tier,)), original, tried, hit=hit, compression=compression, waste_escalation=escalation)
    charged = sum(each.cost_micro_usd or 0 for each in tried)
    assert found.baseline - charged == found.net
    assert found.baseline == (0 if original is None else ModelPrice((tier,)).cost_total(original))
