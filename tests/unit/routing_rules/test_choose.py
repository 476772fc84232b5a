"""The stage: it settles the plan with the score it can get, and never refuses a request for want of one."""

import asyncio

import msgspec
import numpy as np
import pytest

from gateway.core.exchange import CacheHit, Exchange, Reply, Usage
from gateway.encoder.port import EncoderError, Encoding
from gateway.policy.resolve import resolved
from gateway.routing.caps import StrongCaps
from gateway.routing.choose import Choose
from gateway.routing.decide import Scored, Threshold, decide
from gateway.routing.light import HeadError
from gateway.routing.reading import read_request
from gateway.routing.scorer import Scorer, open_scorer
from tests.support.calls import call
from tests.support.policies import caller, policy

SCORER = open_scorer(embed=True)
EASY, HARD = "hello", "Prove that the sum of two odd integers is even, and derive the general formula step by step."
VECTOR = np.zeros(384, np.float32)
VECTOR[0] = 1.0


def made(tier="light", target="classify: {weak: small, strong: big, tier: TIER}"):
    return policy(
        "targets: {small: {provider: vllm, model: l8}, big: {provider: vllm, model: l70}}\n"
        f"routes: [{{name: r, match: {{models: [auto]}}, {target.replace('TIER', tier)}}}]\n"
    )


def exchange(rules, text=EASY, model="auto"):
    each = Exchange("id", call({"model": model, "messages": [{"role": "user", "content": text}]}), 0.0, 0.0)
    each.identity = caller()
    each.plan, each.choosing = resolved(rules, each.identity, each.call, 0.0, 0.0)
    return each


class Encoder:
    """One that answers with a vector, an error, nothing, or never."""

    version, dimension, window = "e1", 384, 256

    def __init__(self, answer=VECTOR):
        self.answer = answer
        self.asked = []

    async def encode(self, text):
        self.asked.append(text)
        if isinstance(self.answer, str):
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return Encoding(self.answer, 3) if self.answer is not None else None

    async def aclose(self):
        pass


async def settle(each, threshold=0.0, scorer=SCORER, encoder=None, certificate="c", neighbours=None):
    stage = Choose(
        lambda: scorer,
        lambda: encoder,
        lambda rule: Threshold(threshold, certificate),
        StrongCaps(),
        lambda: neighbours,
    )
    seen = []

    async def answer(passed):
        seen.append(passed)
        return Reply(200, [])

    await stage(each, answer)
    assert seen == [each]
    return each


def light(text=EASY):
    return SCORER.score(read_request(call({"messages": [{"role": "user", "content": text}]})), caller()).score


async def test_a_plan_without_a_choice_passes_untouched():
    rules = made(target="target: small")
    each = exchange(rules)
    plan = each.plan
    assert (await settle(each)).plan is plan
    assert each.choice is None


async def test_a_cached_answer_is_not_chosen_for():
    each = exchange(made())
    each.hit = CacheHit("exact", "e", Usage(), 0.0, 0.0)
    assert (await settle(each)).choice is None


@pytest.mark.parametrize(("off", "target"), [(1e-9, "weak"), (-1e-9, "strong")])
async def test_the_shipped_head_scores_the_last_user_text(off, target):
    each = await settle(exchange(made()), light() + off)
    assert (each.choice.target, each.choice.tier, each.choice.score) == (target, "light", light())
    assert each.plan.targets[0].name == {"weak": "small", "strong": "big"}[target]


async def test_the_stage_and_the_pure_function_agree_to_the_letter():
    rules = made()
    each = await settle(exchange(rules, HARD), 0.05)
    same = decide(
        rules, caller(), each.call, wall_s=0.0, draw=0.0, threshold_of=lambda rule: Threshold(0.05, "c"),
        score_of=lambda rule, request, identity: SCORER.score(read_request(request), identity), caps=StrongCaps(),
    )  # fmt: skip
    assert (same.plan, same.choice) == (each.plan, each.choice)
    assert each.record(1.0).reasons == same.plan.reasons
    assert each.record(1.0).choice == same.choice


async def test_the_record_says_what_was_chosen():
    record = (await settle(exchange(made()), 9.0)).record(1.0)
    assert record.reasons[:3] == ("route=r", "choice=weak", "why=score")
    assert record.choice.certificate == "c"


class Broken(Scorer):
    def score(self, *arguments, **more):
        raise ZeroDivisionError


@pytest.mark.parametrize("scorer", [None, Broken(SCORER.light)])
async def test_a_classifier_that_fails_sends_everything_to_the_strong_target(scorer, caplog):
    each = await settle(exchange(made()), 9.0, scorer)
    assert (each.choice.target, each.choice.why) == ("strong", "classifier_failed")
    assert bool(caplog.records) is (scorer is not None)


@pytest.mark.parametrize("scorer", [None, Broken(SCORER.light)])
async def test_where_nothing_scored_no_scorer_is_named(scorer):
    assert (await settle(exchange(made()), 9.0, scorer)).choice.scorer is None
    assert (await settle(exchange(made(), model="auto:best"), scorer=scorer)).choice.scorer is None


@pytest.mark.parametrize(
    ("tier", "encoder", "part"),
    [
        ("light", None, "head"),
        ("embed", Encoder(), "head_embed"),
        ("embed", None, "head"),
        ("embed", Encoder(None), "head"),
        ("neighbours", Encoder(), "head_embed"),
    ],
)
async def test_the_choice_names_the_head_that_scored_as_a_certificate_does(tier, encoder, part):
    each = await settle(exchange(made(tier)), 9.0, encoder=encoder)
    assert each.choice.scorer == SCORER.versions(tier, "e1")[part]
    assert each.record(1.0).choice.scorer == each.choice.scorer


async def test_the_vector_of_the_cache_is_used_and_nothing_is_encoded():
    each, encoder = exchange(made("embed")), Encoder()
    each.ticket = msgspec.defstruct("Ticket", ["text", "vector"])(EASY, VECTOR)
    await settle(each, 9.0, encoder=encoder)
    assert (each.choice.tier, encoder.asked) == ("embed", [])


async def test_the_vector_of_another_text_is_not():
    each, encoder = exchange(made("embed")), Encoder()
    each.ticket = msgspec.defstruct("Ticket", ["text", "vector"])("another", VECTOR)
    await settle(each, 9.0, encoder=encoder)
    assert (each.choice.tier, encoder.asked) == ("embed", [EASY])


@pytest.mark.parametrize("encoder", [None, Encoder("never"), Encoder(EncoderError("closed")), Encoder(VECTOR[:8])])
async def test_without_a_vector_the_certificate_does_not_hold(encoder):
    each = await settle(exchange(made("embed")), 9.0, encoder=encoder)
    assert (each.choice.target, each.choice.why, each.choice.tier) == ("strong", "embed_unavailable", "light")


@pytest.mark.parametrize(("threshold", "target"), [(9.0, "weak"), (-9.0, "strong")])
async def test_without_a_vector_an_uncertified_threshold_takes_the_light_score(threshold, target):
    each = await settle(exchange(made("embed")), threshold, encoder=None, certificate=None)
    assert (each.choice.target, each.choice.why, each.choice.score) == (target, "embed_unavailable", light())


async def test_a_text_beyond_the_window_has_the_light_score_by_nature():
    each = await settle(exchange(made("embed")), 9.0, encoder=Encoder(None))
    assert (each.choice.target, each.choice.why, each.choice.tier) == ("weak", "score", "light")


class Neighbours:
    """Labels that say `gain` wherever they are asked, or nothing."""

    def __init__(self, gain=0.5):
        self.gain = gain
        self.asked = []

    def score(self, tenant, rule, vector, scored):
        self.asked.append((tenant, rule.route, scored.tier))
        return scored if self.gain is None else Scored(self.gain, "neighbours")


async def test_neighbours_of_the_tenant_move_the_heads_score():
    each, neighbours = exchange(made("neighbours")), Neighbours()
    await settle(each, 0.4, encoder=Encoder(), neighbours=neighbours)
    assert (each.choice.target, each.choice.tier, each.choice.score) == ("strong", "neighbours", 0.5)
    assert neighbours.asked == [("default", "r", "embed")]


async def test_a_sparse_neighbourhood_leaves_the_heads_score_under_the_certificate():
    each = await settle(exchange(made("neighbours")), 9.0, encoder=Encoder(), neighbours=Neighbours(None))
    assert (each.choice.target, each.choice.why, each.choice.tier) == ("weak", "score", "embed")


async def test_neighbours_need_a_vector_that_came_and_labels_that_are_open():
    neighbours = Neighbours()
    late = await settle(exchange(made("neighbours")), 9.0, encoder=None, neighbours=neighbours)
    assert (late.choice.why, late.scored.late) == ("embed_unavailable", True)
    long = await settle(exchange(made("neighbours")), 9.0, encoder=Encoder(None), neighbours=neighbours)
    assert (long.choice.why, long.choice.tier) == ("score", "light")
    closed = await settle(exchange(made("neighbours")), 9.0, encoder=Encoder(), neighbours=None)
    assert closed.choice.tier == "embed"
    assert neighbours.asked == []


async def test_one_pass_serves_the_head_and_the_neighbours():
    encoder = Encoder()
    await settle(exchange(made("neighbours")), 9.0, encoder=encoder, neighbours=Neighbours())
    assert encoder.asked == [EASY]


@pytest.mark.parametrize(("model", "target"), [("auto:cheap", "weak"), ("auto:best", "strong")])
async def test_what_the_caller_asks_is_not_scored(model, target):
    each = await settle(exchange(made(), model=model), scorer=Broken(SCORER.light))
    assert (each.choice.target, each.choice.why) == (target, "asked")


def test_versions_name_every_part_that_scores():
    assert set(SCORER.versions("light", "e1")) == {"features", "head"}
    assert SCORER.versions("embed", "e1")["encoder"] == "e1"
    assert SCORER.versions("embed", None)["encoder"] == ""
    assert SCORER.versions("neighbours", "e1") == {**SCORER.versions("embed", "e1"), "neighbours": "1"}
    assert set(SCORER.versions("judge", "e1")) == {"judge_prompt"}


def test_a_vector_of_another_size_is_no_score():
    with pytest.raises(HeadError):
        SCORER.embed.score([0.0] * 80, VECTOR[:8])
