"""An answer that nobody saw may have been generated whole: it is charged as it was reserved, and flagged as estimated."""

import httpx
import pytest

from tests.integration.conftest import chat
from tests.integration.test_money import SECRETS, client, policy, serving, stored, until
from tests.support.faults import stall
from tests.support.gateway import Gateway, start_gateway

BUDGETS = [{"scope": "tenant:shop", "limit": "$1/total"}]
DEADLINES = {"deadlines": {"connect": "1s", "first_token": "10s", "idle": "10s", "total": "400ms"}}
TOKENS = 1000
LEAST = TOKENS / 1e6
"""Dollars: the output at $1 per million tokens, without the prompt."""


def charged(gateway: Gateway) -> float:
    """Dollars that the budget has committed, once nothing is under way."""
    until(lambda: gateway.metric("farthing_in_flight") == 0)
    assert gateway.metric("farthing_budget_usd", part="reserved") == 0
    return gateway.metric("farthing_budget_usd", part="committed")


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_before_the_answer_is_charged_what_was_reserved(stream):
    with serving(stall()) as upstream, start_gateway(policy(upstream.url, budgets=BUDGETS), SECRETS) as gateway:
        with client(gateway) as http, pytest.raises(httpx.ReadTimeout):
            http.post("/v1/chat/completions", json=chat("m", max_tokens=TOKENS, stream=stream), timeout=0.3)
        assert charged(gateway) > LEAST
        (row,) = stored(gateway, 1)
        assert row["outcome"] == "client_disconnect"


def test_an_answer_that_used_up_its_time_is_charged_what_was_reserved():
    with serving(stall()) as upstream:
        with start_gateway(policy(upstream.url, budgets=BUDGETS, defaults=DEADLINES), SECRETS) as gateway:
            with client(gateway) as http:
                late = http.post("/v1/chat/completions", json=chat("m", max_tokens=TOKENS))
            assert late.status_code == 504
            assert float(late.headers["x-farthing-cost-usd"]) == pytest.approx(charged(gateway))
            assert charged(gateway) > LEAST


def test_an_upstream_that_cannot_be_reached_costs_nothing():
    with start_gateway(policy("http://127.0.0.1:9", budgets=BUDGETS), SECRETS) as gateway, client(gateway) as http:
        assert http.post("/v1/chat/completions", json=chat("m", max_tokens=TOKENS)).status_code == 502
        assert charged(gateway) == 0
