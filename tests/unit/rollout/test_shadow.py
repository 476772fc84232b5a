"""What a policy in shadow would have done: found behind the answer, from what is at hand, and never in anybody's way."""

import logging

import pytest

from gateway.core.exchange import CacheHit, Exchange, Identity, Usage
from gateway.policy.resolve import resolved
from gateway.rollout.shadow import Shadow
from gateway.routing.decide import Threshold
from gateway.routing.scorer import open_scorer
from tests.support.calls import chat
from tests.support.policies import policy

TARGETS = """
targets:
  weak: {provider: openai_compatible, base_url: "http://127.0.0.1:1/v1", model: m1}
  strong: {provider: openai_compatible, base_url: "http://127.0.0.1:1/v1", model: m2}
"""
PLAIN = TARGETS + "routes: [{name: r, match: {}, target: strong}]\n"
WEAK = TARGETS + "routes: [{name: r, match: {}, target: weak}]\n"
HALF = TARGETS + "routes: [{name: r, match: {}, split: [{target: weak, weight: 50}, {target: strong, weight: 50}]}]\n"
LIGHT = TARGETS + "routes: [{name: r, match: {}, classify: {weak: weak, strong: strong, strong_share: 50%}}]\n"
EMBED = LIGHT.replace("strong_share", "tier: embed, strong_share")
NONE = TARGETS + "defaults: {direct_targets: false}\nroutes: [{name: r, match: {models: [other]}, target: weak}]\n"


def price(target, model, usage):
    return {"weak": 100, "strong": 1000}[target.name] * usage.output


def served(text=PLAIN, *, draw=0.0, usage=Usage(output=2), plan=True):
    exchange = Exchange("0" * 32, chat("hello", model="auto"), 0.0, 0.0)
    exchange.identity, exchange.draw, exchange.usage = Identity("shop", "ci"), draw, usage
    if plan:
        exchange.plan, _ = resolved(policy(text), exchange.identity, exchange.call, 0.0, draw)
    return exchange


def shadow(threshold=10.0, scorer=None):
    return Shadow(lambda: scorer, lambda rule: Threshold(threshold), price)


@pytest.mark.parametrize(
    ("here", "there", "verdict", "pair", "more"),
    [
        (PLAIN, PLAIN, "same", ("strong", "strong"), 0),
        (PLAIN, WEAK, "other", ("strong", "weak"), -1800),
        (WEAK, PLAIN, "other", ("weak", "strong"), 1800),
        (PLAIN, NONE, "other", ("strong", "refused"), None),
    ],
    ids=["same", "cheaper", "dearer", "refused"],
)
def test_targets_are_compared_and_priced_at_the_same_tokens(here, there, verdict, pair, more):
    candidate = policy(there)
    found = shadow().compare(served(here), candidate)
    assert (found.policy, found.verdict, (found.origin, found.target), found.micro_usd) == (
        candidate.hash, verdict, pair, more,
    )  # fmt: skip


def test_a_request_that_was_refused_may_be_taken():
    found = shadow().compare(served(NONE, plan=False), policy(PLAIN))
    assert (found.verdict, found.origin, found.target) == ("other", "refused", "strong")
    found = shadow().compare(served(NONE, plan=False), policy(NONE))
    assert (found.verdict, found.origin, found.target) == ("same", "refused", "refused")


@pytest.mark.parametrize("draw", [0.1, 0.9])
def test_a_split_of_both_is_drawn_once(draw):
    assert shadow().compare(served(HALF, draw=draw), policy(HALF)).verdict == "same"


def test_another_model_under_the_same_name_is_another_target_and_another_deadline_is_not():
    assert shadow().compare(served(), policy(PLAIN.replace("m2", "m3"))).verdict == "other"
    slower = PLAIN.replace("model: m2", "model: m2, deadlines: {total: 5s}")
    assert shadow().compare(served(), policy(slower)).verdict == "same"


@pytest.mark.parametrize(("threshold", "target"), [(10.0, "weak"), (-10.0, "strong")])
def test_a_choice_is_made_by_the_light_score(threshold, target):
    found = shadow(threshold, open_scorer(embed=False)).compare(served(), policy(LIGHT))
    assert found.target == target


def test_a_choice_that_needs_a_vector_which_is_not_there_is_left_undecided():
    found = shadow(scorer=open_scorer(embed=False)).compare(served(), policy(EMBED))
    assert (found.verdict, found.target, found.micro_usd) == ("undecided", "", None)


def test_what_cannot_be_compared_is_not():
    hit = served()
    hit.hit = CacheHit("exact", "e", Usage(), 0.1, 1.0)
    stranger = served()
    stranger.identity = None
    assert [shadow().compare(each, policy(WEAK)) for each in (hit, stranger)] == [None, None]


def test_a_cost_that_is_not_known_is_not_zero():
    assert shadow().compare(served(usage=None), policy(WEAK)).micro_usd is None
    unpriced = Shadow(lambda: None, lambda rule: Threshold(None), lambda *_: None)
    assert unpriced.compare(served(), policy(WEAK)).micro_usd is None


def test_whatever_goes_wrong_is_recorded_told_once_and_never_raised(caplog):
    def broken(rule):
        raise RuntimeError("a defect")

    watching = Shadow(lambda: open_scorer(embed=False), broken, price)
    with caplog.at_level(logging.ERROR):
        found = [watching.compare(served(), policy(LIGHT)).verdict for _ in range(3)]
    assert found == ["failed"] * 3
    assert len(caplog.records) == 1


def test_the_strong_calls_of_a_key_are_not_spent():
    capped = policy(LIGHT.replace("strong_share", "strong_cap_per_key: 10%, strong_share"))
    watching = shadow(-10.0, open_scorer(embed=False))
    found = [watching.compare(served(), capped).target for _ in range(20)]
    assert "weak" in found, "its own account is spent"
