"""Weak or strong: what the caller asks, the score against the threshold, the cap; and the reasons, to the letter."""

import math

import pytest

from gateway.core.exchange import Choice
from gateway.routing.caps import BURST, StrongCaps
from gateway.routing.decide import FAILED, Scored, Threshold, decide, reasons
from tests.support.calls import call
from tests.support.policies import caller, policy

TARGETS = """
targets:
  small: {provider: vllm, model: llama-8b}
  big: {provider: openai, model: gpt-4o, api_key: env:K}
  spare: {provider: anthropic, model: claude, api_key: env:K}
"""
CERTIFIED = Threshold(0.05, "1a2b3c4d")
SHARE = Threshold(0.05)


def ask(model="auto", score=0.01, threshold=CERTIFIED, classify="", route="", caps=None, headers=None, match="{}"):
    made = policy(
        f"{TARGETS}routes: [{{name: r, match: {match}, classify: {{weak: small, strong: big{classify}}}{route}}}]\n"
    )
    scored = score if isinstance(score, Scored) else Scored(score)
    return decide(
        made,
        caller(),
        call({"model": model, "messages": [{"role": "user", "content": "x"}]}, headers=headers),
        wall_s=0.0,
        draw=0.0,
        threshold_of=lambda rule: threshold,
        score_of=lambda rule, each, identity: scored,
        caps=caps or StrongCaps(),
    )


def names(decision):
    return [target.name for target in decision.plan.targets]


def test_a_small_gain_goes_to_the_weak_target_and_on_to_the_strong_one():
    decision = ask(score=0.05, route=", fallbacks: [spare]")
    assert names(decision) == ["small", "big", "spare"]
    assert decision.choice == Choice("weak", "score", "light", 0.05, 0.05, "1a2b3c4d")


def test_a_large_gain_goes_to_the_strong_target_and_never_on_to_the_weak_one():
    decision = ask(score=0.0501, route=", fallbacks: [spare]")
    assert names(decision) == ["big", "spare"]
    assert (decision.choice.target, decision.choice.why) == ("strong", "score")


@pytest.mark.parametrize(
    ("score", "threshold", "why"),
    [
        (0.0, Threshold(None, why="not calibrated"), "uncertified"),
        (FAILED, CERTIFIED, "classifier_failed"),
        (FAILED, SHARE, "classifier_failed"),
        (Scored(0.0, "light", late=True), CERTIFIED, "embed_unavailable"),
        (math.nan, CERTIFIED, "score"),
        (math.inf, CERTIFIED, "score"),
    ],
)
def test_in_doubt_the_strong_target_is_chosen(score, threshold, why):
    decision = ask(score=score, threshold=threshold)
    assert (decision.choice.target, decision.choice.why) == ("strong", why)


def test_without_a_vector_an_uncertified_share_goes_by_the_light_score():
    for score, target in ((0.0, "weak"), (0.1, "strong")):
        choice = ask(score=Scored(score, "light", late=True), threshold=SHARE).choice
        assert (choice.target, choice.why, choice.tier) == (target, "embed_unavailable", "light")


@pytest.mark.parametrize(("model", "first"), [("auto:cheap", "small"), ("auto:best", "big")])
def test_a_caller_can_say_it(model, first):
    for score in (0.0, 0.9):
        decision = ask(model, score)
        assert names(decision)[0] == first
        assert decision.choice.why == "asked"
        assert decision.choice.score is None


def test_cheap_and_best_keep_to_self_hosted_targets():
    for model in ("auto", "auto:cheap", "auto:best"):
        decision = ask(model, 0.9, headers={"x-farthing-sensitive": "true"})
        assert names(decision) == ["small"]
        assert (decision.choice.target, decision.choice.why) == ("weak", "sensitive")
        assert decision.plan.sensitive == "header"


@pytest.mark.parametrize("model", ["gpt-4o", "big", "small", "llama-8b"])
def test_a_model_that_is_named_is_never_rerouted(model):
    decision = ask(model, match="{tenants: [default]}")
    assert decision.choice is None
    assert decision.plan.route.startswith("model:")


def test_a_route_may_say_that_it_reroutes_a_model():
    assert ask("gpt-4o", match="{models: [gpt-4o]}").plan.targets[0].name == "small"
    assert ask("gpt-4o:best", match="{models: [gpt-4o]}").plan.targets[0].name == "big"
    assert ask("gpt-4o", match="{models: ['gpt-*']}").choice.target == "weak"
    with pytest.raises(Exception, match="does not exist"):
        ask("auto", match="{models: [gpt-4o]}")


def test_virtual_models_are_listed():
    made = policy(f"{TARGETS}routes: [{{name: r, match: {{}}, classify: {{weak: small, strong: big}}}}]\n")
    assert made.model_names(caller())[:3] == ["auto", "auto:best", "auto:cheap"]


def test_the_reasons_say_all_of_it():
    assert "; ".join(ask(score=0.0123456).plan.reasons) == (
        "route=r; choice=weak; why=score; tier=light; score=0.0123; threshold=0.0500; certificate=1a2b3c4d"
    )
    assert ask(score=0.2, threshold=SHARE).plan.reasons[-2:] == ("threshold=0.0500", "uncertified")
    assert ask(threshold=Threshold(None)).plan.reasons == (
        "route=r", "choice=strong", "why=uncertified", "tier=light", "score=0.0100",
    )  # fmt: skip
    assert ask("auto:cheap").plan.reasons == ("route=r", "choice=weak", "why=asked")
    assert ask(score=FAILED).plan.reasons == (
        "route=r", "choice=strong", "why=classifier_failed", "threshold=0.0500", "certificate=1a2b3c4d",
    )  # fmt: skip
    assert (
        reasons(Choice("weak", "score", "light", 0.01, 0.05, "1a2b3c4d", "light-1")) == ask(score=0.01).plan.reasons[1:]
    )
    assert reasons(Choice("weak", "sensitive")) == ("choice=weak", "why=sensitive")


def test_reasons_of_sensitivity_come_before_the_choice():
    decision = ask(headers={"x-farthing-sensitive": "1"})
    assert decision.plan.reasons == ("route=r", "sensitive=header", "choice=weak", "why=sensitive")


def test_a_key_that_always_looks_hard_is_held_to_its_share():
    caps = StrongCaps()
    chosen = [ask(score=0.9, classify=", strong_cap_per_key: 40%", caps=caps).choice for _ in range(200)]
    strong = sum(choice.target == "strong" for choice in chosen)
    assert strong <= 0.4 * (200 + BURST) + 1
    assert {choice.why for choice in chosen} == {"score", "strong_cap"}
    assert all(choice.target == "weak" for choice in chosen if choice.why == "strong_cap")


def test_a_cap_does_not_touch_who_stays_below_it():
    caps = StrongCaps()
    chosen = [
        ask(score=0.9 if n % 3 == 0 else 0.0, classify=", strong_cap_per_key: 40%", caps=caps) for n in range(300)
    ]
    assert all(each.choice.why == "score" for each in chosen)


def test_a_cap_holds_nobody_back_while_everything_is_strong():
    caps = StrongCaps()
    for _ in range(200):
        choice = ask(score=0.9, classify=", strong_cap_per_key: 1%", caps=caps, threshold=Threshold(None)).choice
        assert choice.target == "strong"


def test_the_same_function_is_quick_enough_to_replay_traffic():
    import timeit

    made = policy(f"{TARGETS}routes: [{{name: r, match: {{}}, classify: {{weak: small, strong: big}}}}]\n")
    request, who, caps = call({"model": "auto", "messages": []}), caller(), StrongCaps()
    scored = Scored(0.01)

    def once():
        decide(made, who, request, wall_s=0.0, draw=0.0, threshold_of=lambda _: CERTIFIED,
               score_of=lambda *_: scored, caps=caps)  # fmt: skip

    assert min(timeit.repeat(once, number=500, repeat=5)) / 500 < 100e-6
