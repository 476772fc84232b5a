"""What `farthing policy explain` says, and that it is what the gateway does."""

import asyncio

import pytest

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.http.answers import gateway_headers
from gateway.policy.stage import Resolve
from gateway.protocol.openai import parse_call
from gateway.routing.caps import StrongCaps
from gateway.routing.choose import Choose
from gateway.routing.decide import Scored, Threshold
from gateway.simulate.explain import Asked, Explanation, as_text, explain
from gateway.simulate.money import DayPrices
from tests.support.policies import policy
from tests.support.simulations import BEGIN_S, BOOK, TARGETS

POLICY = """
routes:
  - {name: vip, match: {models: [auto], tenants: [vip]}, target: smart}
  - {name: red, match: {models: [auto], tags: [red]}, target: smart}
  - {name: other, match: {models: [gpt-4o, "x-*"]}, target: smart}
  - {name: words, match: {models: [auto], keywords: [refund], max_input_tokens: 1k}, target: smart, fallbacks: [fast]}
  - {name: canary, match: {models: [auto], headers: {x-canary: "*"}},
     split: [{target: fast, weight: 95, sticky: session}, {target: smart, weight: 5}]}
  - {name: choose, match: {models: [auto]}, classify: {weak: fast, strong: smart, strong_share: 30%}}
sensitive: {keywords: [diagnosis]}
"""
SCORE, THRESHOLD = Scored(0.0312, scorer="light-1"), Threshold(0.05, "0a1b2c3d", "certified")


class Scorer:
    """Always the same score."""

    def score(self, *_args, **_more):
        return SCORE


def asked(text: str, headers: dict[str, str] | None = None, draw: float = 0.0, **more) -> Asked:
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    raw = b'{"model": "%s", "messages": [{"role": "user", "content": "%s"}]}' % (
        more.pop("model", "auto").encode(),
        text.encode(),
    )
    call = parse_call("chat", "POST", "/v1/chat/completions", b"", pairs, dict(pairs), raw)
    return Asked(call, more.pop("identity", Identity("shop", "web")), BEGIN_S, draw, **more)


def told(question: Asked, text: str = POLICY) -> Explanation:
    return explain(question, policy(TARGETS + text), DayPrices(BOOK).on(BEGIN_S), lambda _: THRESHOLD, lambda *_: SCORE)


def served(question: Asked) -> str:
    """`x-farthing-route` of the stages that serve."""
    exchange = Exchange("id", question.call, 0.0, question.wall_s)
    exchange.identity = question.identity
    resolve = Resolve(lambda _: policy(TARGETS + POLICY), lambda: question.draw)
    choose = Choose(Scorer, lambda: None, lambda _: THRESHOLD, StrongCaps())

    async def answer(_: Exchange) -> Reply:
        return Reply(200, [])

    asyncio.run(resolve(exchange, lambda passed: choose(passed, answer)))
    lines = gateway_headers(exchange).decode().split("\r\n")
    return next(line.partition(": ")[2] for line in lines if line.startswith("x-farthing-route"))


@pytest.mark.parametrize(
    "question",
    [
        asked("a refund"),
        asked("hello"),
        asked("hello", model="auto:best"),
        asked("hello", {"x-canary": "1"}, draw=0.97),
        asked("hello", {"x-canary": "1", "x-farthing-session": "s"}),
        asked("hello", identity=Identity("vip", "v")),
        asked("hello", model="own"),
        asked("the diagnosis", model="own"),
    ],
)
def test_the_reasons_are_those_of_the_header_to_the_letter(question):
    assert "; ".join(told(question).reasons) == served(question)


def test_every_rule_up_to_the_one_that_takes_it_is_told_with_its_reason():
    rules = told(asked("hello")).rules
    assert [(rule.route, rule.taken) for rule in rules] == [
        ("vip", False), ("red", False), ("other", False), ("words", False), ("canary", False), ("choose", True),
    ]  # fmt: skip
    assert [rule.because for rule in rules] == [
        "the tenant shop is not among vip",
        "the caller has none of the tags red",
        "auto is not among gpt-4o, x-*",
        "not met: keywords",
        "not met: headers",
        "caller and model fit",
    ]


def test_a_choice_is_told_with_its_score_and_its_threshold():
    found = told(asked("hello"))
    assert (found.choice.target, found.choice.why) == ("weak", "score")
    assert "choice weak, because score: score 0.0312 by light-1, threshold 0.0500 (certified)\n" in as_text(found)


def test_a_request_that_is_refused_is_told_with_its_error():
    found = told(asked("the diagnosis of him", identity=Identity("vip", "v")))
    assert found.refused["code"] == "no_self_hosted_target"
    assert "refused with 403 no_self_hosted_target" in as_text(found)
    assert told(asked("hello", model="nothing")).refused["status"] == 404


def test_prices_are_the_worst_case_and_the_expected_one():
    price = told(asked("a refund", output_tokens=100)).price
    tokens_in = price.expected_input_tokens
    assert price.expected == tokens_in * 10 + 100 * 20
    assert price.worst > price.expected
    assert price.reserved is None
    assert not price.assumed


def test_budgets_rates_and_slots_that_apply_are_listed_and_the_worst_case_reserved():
    text = POLICY + (
        "budgets: [{scope: tenant, limit: $500/month}, {scope: 'tenant:lab', limit: $1/day}]\n"
        "limits: [{scope: key, requests: 10/s, concurrent: 3}]\n"
    )
    found = told(asked("a refund"), text)
    assert found.limits == (
        "budget tenant:shop/month: $500.000000",
        "rate key:web/requests: 600/min",
        "concurrency key:web: 3",
    )
    assert found.price.reserved == found.price.worst


def test_the_caches_verdict_is_that_of_admission():
    cached = "routes: [{name: chat, match: {}, target: fast, cache: {exact: 1h, semantic: {ttl: 1h}}}]\n"
    found = told(asked("What is my balance today?"), cached).cache
    assert found.exact is None
    assert len(found.exact_key) == 64
    assert found.semantic == "volatile"
    off = told(asked("What is the capital of France?", {"x-farthing-cache": "off"}), cached).cache
    assert (off.exact, off.exact_key, off.semantic) == ("asked", None, "asked")
    assert told(asked("hello")).cache is None
    assert told(asked("hi", {"x-farthing-cache": "of"}), cached).refused["code"] == "invalid_cache_control"
