"""Which requests both targets answer, what is asked of whom, and what is learnt from it."""

import asyncio
import contextlib

import numpy as np
import pytest

from gateway.core.errors import BudgetExhausted
from gateway.core.exchange import Reply
from gateway.database import DatabaseError
from gateway.encoder.port import EncoderError, Encoding
from gateway.routing.caps import StrongCaps
from gateway.routing.choose import Choose
from gateway.routing.compare import AT_ONCE, MOST_BYTES, MOST_WAITING, Comparing, in_sample
from gateway.routing.decide import Threshold
from gateway.routing.scorer import open_scorer
from tests.support.judging import NEVER, Upstreams, arrived, rules
from tests.support.keys import NOW, HandClock
from tests.support.routing_labels import MemoryLabels, packed, unit

SCORER = open_scorer(embed=True)
ALL = "compare: 100%"
INSIDE = {"x-farthing-sensitive": "true"}
RATED = '{"first": 2, "second": 5}'


class Words:
    """An encoder with one vector for each of its texts."""

    version, dimension, window = "e1", 384, 256

    def __init__(self, vectors=None):
        self.vectors = vectors or {}

    async def encode(self, text):
        if isinstance(self.vectors, Exception):
            raise self.vectors
        return Encoding(self.vectors.get(text, unit(1.0)), 3)


class World:
    """The stages of one route, from choice to upstream, and its own calls; `ended` are the gateway's own requests."""

    def __init__(self, upstreams, labels=None, encoder=None, threshold=-9.0, draws=(0.9,)):
        self.upstreams, self.labels = upstreams, labels if labels is not None else MemoryLabels()
        self.ended = []
        draws = iter(draws * 100)
        ids = iter(range(10**6))
        self.comparing = Comparing(
            self.labels, lambda: encoder, lambda rule: {"head": "h", **rule.versions}, HandClock(),
            lambda: f"own-{next(ids)}", lambda: next(draws),
        )  # fmt: skip
        self.comparing.ask_through(self.ask, lambda exchange, _: self.ended.append(exchange))
        self.choose = Choose(lambda: SCORER, lambda: encoder, lambda _: Threshold(threshold, "c"), StrongCaps())

    async def ask(self, exchange):
        exchange.admitted = True
        return await self.upstreams(exchange)

    async def serve(self, each):
        async def last(exchange):
            return await self.comparing(exchange, self.upstreams)

        return await self.choose(each, last)

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.comparing.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def learnt(self, each):
        """What comes of one request."""
        async with self.running():
            reply = await self.serve(each)
            if reply.stream is not None:
                async for _ in reply.stream:
                    pass
            async with asyncio.timeout(5):
                while not self.comparing.results:
                    await asyncio.sleep(0.002)
        (((route, result), count),) = self.comparing.results.items()
        assert (route, count) == ("r", 1)
        return result


def served(world):
    (row,) = world.labels.rows.values()
    return row


async def test_answers_that_say_the_same_are_both_right():
    world = World(Upstreams(big="Paris.", small="paris"))
    assert await world.learnt(arrived(rules(ALL))) == "same"
    row = served(world)
    assert (row.weak_quality, row.strong_quality, row.source) == (1.0, 1.0, "compared")
    assert world.upstreams.names == ["big", "small"]
    assert (row.request_id, row.at_s, row.tenant, row.route) == ("id", NOW, "shop", "r")
    assert (row.weak, row.strong, row.weak_cost_micro, row.strong_cost_micro) == ("small", "big", 10, 10)
    assert (row.tier, row.score, row.weight, row.vector) == ("light", row.score, 1.0, None)
    assert row.versions == {"head": "h", "weak": "l8", "strong": "l70"}


@pytest.mark.parametrize("draw", [0.1, 0.9])
@pytest.mark.parametrize("threshold", [-9.0, 9.0])
async def test_others_are_rated_by_a_judge_that_does_not_know_which_is_whose(draw, threshold):
    def rate(exchange):
        shown = exchange.call.doc["messages"][1]["content"]
        return RATED if shown.index("five") < shown.index("twelve") else '{"first": 5, "second": 2}'

    world = World(Upstreams(small="It is five.", big="It is twelve.", judge=rate), threshold=threshold, draws=(draw,))
    assert await world.learnt(arrived(rules(ALL), "How many?")) == "rated"
    row = served(world)
    assert (row.weak_quality, row.strong_quality, row.gain, row.source) == (0.25, 1.0, 0.75, "judged")
    seen = world.upstreams.asked[2].call.doc["messages"][1]["content"]
    assert "user: How many?" in seen
    assert not {"small", "big", "l8", "l70"} & set(seen.split())


async def test_the_order_is_drawn():
    shown = []
    for draw in (0.1, 0.9):
        world = World(Upstreams(small="It is five.", big="It is twelve.", judge=RATED), draws=(draw,))
        await world.learnt(arrived(rules(ALL)))
        asked = world.upstreams.asked[2].call.doc["messages"][1]["content"]
        shown.append(asked.index("five") < asked.index("twelve"))
    assert shown == [True, False]


async def test_every_call_is_a_request_of_the_gateways_own_that_says_what_it_is_for():
    world = World(Upstreams(small="It is five.", big="It is twelve.", judge=RATED))
    await world.learnt(arrived(rules(ALL)))
    other, judge = world.ended
    assert [each.identity.tenant for each in world.ended] == ["compare:r", "compare:r"]
    assert other.plan.reasons == ("route=r", "compare=id")
    assert judge.plan.reasons == ("route=r", "rate=id")
    assert [each.outcome for each in world.ended] == ["ok", "ok"]
    assert [target.name for target in other.plan.targets] == ["small"], "nobody answers in its place"
    assert {each.id for each in world.ended} == {"own-0", "own-1"}


@pytest.mark.parametrize("tier", ["light", "embed"])
async def test_the_vector_of_the_choice_is_kept(tier):
    vector = unit(0.6)
    world = World(Upstreams(small="x", big="x"), encoder=Words({"hello": vector}))
    await world.learnt(arrived(rules(f"tier: {tier}, {ALL}")))
    assert served(world).vector == (packed(vector) if tier == "embed" else None)
    if tier == "embed":
        back = np.frombuffer(served(world).vector, "<f2").astype(np.float32)
        assert float(back @ vector) == pytest.approx(1.0, abs=1e-3)


LONG = "The capital city of France is certainly Paris today"
LONGER = "The capital city of France is of course Paris today"


@pytest.mark.parametrize(
    ("encoder", "result"),
    [(None, "rated"), (Words({LONG: unit(0.9), LONGER: unit(0.9)}), "same"), (Words(EncoderError("late")), "rated")],
)
async def test_the_encoder_says_whether_other_words_mean_the_same(encoder, result):
    world = World(Upstreams(small=LONG, big=LONGER, judge=RATED), encoder=encoder)
    assert await world.learnt(arrived(rules(ALL))) == result


async def test_a_stream_is_compared_whole_and_not_held_back():
    world, gate = World(Upstreams(small="Paris.")), asyncio.Event()

    async def chunks():
        yield b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Par"}}]}\n\n'
        await gate.wait()
        yield b'data: {"choices":[{"index":0,"delta":{"content":"is."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    async def streaming(exchange):
        if exchange.id == "id":
            await world.upstreams(exchange)
            return Reply(200, [], stream=chunks())
        return await world.upstreams(exchange)

    each = arrived(rules(ALL), stream=True)

    async def last(exchange):
        return await world.comparing(exchange, streaming)

    async with world.running():
        reply = await world.choose(each, last)
        assert b"Par" in await anext(reply.stream)
        gate.set()
        assert [chunk async for chunk in reply.stream]
        async with asyncio.timeout(5):
            while not world.labels.rows:
                await asyncio.sleep(0.002)
    assert served(world).source == "compared"
    asked = world.upstreams.asked[1].call
    assert (asked.stream, b"stream" in asked.raw) == (False, False)


async def test_a_stream_that_was_cut_is_not_compared():
    world = World(Upstreams())

    async def chunks():
        yield b"data: x\n\n"

    async def streaming(exchange):
        exchange.target, exchange.outcome = "big", "truncated"
        return Reply(200, [], stream=chunks())

    async def last(exchange):
        return await world.comparing(exchange, streaming)

    reply = await world.choose(arrived(rules(ALL), stream=True), last)
    assert [chunk async for chunk in reply.stream] == [b"data: x\n\n"]
    assert not world.comparing.results
    assert world.comparing._waiting.empty()


async def test_a_sensitive_request_goes_to_nobody_outside():
    world = World(Upstreams(small="It is five.", inside="It is twelve."))
    policy = rules(ALL, judge="judge", strong="inside")
    assert await world.learnt(arrived(policy, headers=INSIDE)) == "sensitive"
    assert world.upstreams.names == ["inside", "small"], "the judge is outside"
    assert world.upstreams.asked[1].plan.sensitive == "header"
    assert not world.labels.rows


async def test_a_sensitive_request_whose_other_target_is_outside_has_no_score_to_learn_from():
    world = World(Upstreams())
    await world.serve(arrived(rules(ALL), headers=INSIDE))
    assert not world.comparing.results
    assert world.upstreams.names == ["small"]


async def test_a_sensitive_request_is_rated_by_a_judge_inside():
    world = World(Upstreams(small="It is five.", inside=lambda e: RATED if "rate=id" in e.plan.reasons else "Twelve."))
    assert await world.learnt(arrived(rules(ALL, judge="inside", strong="inside"), headers=INSIDE)) == "rated"
    assert {each.plan.sensitive for each in world.ended} == {"header"}


@pytest.mark.parametrize(
    ("upstreams", "result"),
    [
        ({"small": None}, "failed"),
        ({"small": ""}, "no_text"),
        ({"big": ""}, "no_text"),
        ({"small": "It is five.", "big": "It is twelve.", "judge": "both are fine"}, "unrated"),
        ({"small": "It is five.", "big": "It is twelve.", "judge": None}, "failed"),
        ({"small": lambda _: 1 / 0}, "failed"),
    ],
)
async def test_what_cannot_be_compared_teaches_nothing_and_is_counted(upstreams, result, caplog):
    world = World(Upstreams(**upstreams))
    assert await world.learnt(arrived(rules(ALL))) == result
    assert not world.labels.rows
    assert all(each.admitted for each in world.ended), "each is on the books all the same"
    assert ("could not be compared" in caplog.text) == callable(upstreams.get("small"))


async def test_a_budget_that_is_spent_ends_it():
    world = World(Upstreams(small="x", big="x"))

    async def refuse(_):
        raise BudgetExhausted("spent")

    world.comparing.ask_through(refuse, lambda exchange, _: world.ended.append(exchange))
    assert await world.learnt(arrived(rules(ALL))) == "refused"
    assert (world.ended[0].status, world.ended[0].outcome) == (429, "client_error")


class Away(MemoryLabels):
    def add(self, row):
        raise DatabaseError("gone")


async def test_a_store_that_is_away_loses_the_label_and_says_so(caplog):
    assert await World(Upstreams(small="x", big="x"), Away()).learnt(arrived(rules(ALL))) == "unstored"
    assert "gone" in caplog.text


@pytest.mark.parametrize(
    ("doc", "result"),
    [
        ({"previous_response_id": "r1"}, "stateful"),
        ({"background": True}, "stateful"),
        ({"padding": "x" * MOST_BYTES}, "too_long"),
    ],
)
async def test_some_requests_cannot_be_asked_again(doc, result):
    world = World(Upstreams())
    await world.serve(arrived(rules(ALL), **doc))
    assert world.comparing.results == {("r", result): 1}


async def test_an_answer_from_a_fallback_says_nothing_of_the_target_that_was_chosen():
    world = World(Upstreams(), threshold=9.0)

    async def elsewhere(exchange):
        reply = await world.upstreams(exchange)
        exchange.target = "big"
        return reply

    async def last(exchange):
        return await world.comparing(exchange, elsewhere)

    await world.choose(arrived(rules(ALL)), last)
    assert world.comparing.results == {("r", "failed_over"): 1}


async def test_a_score_by_another_tier_is_not_learnt_from():
    world = World(Upstreams())
    await world.serve(arrived(rules(f"tier: embed, {ALL}")))
    assert world.comparing.results == {("r", "no_score"): 1}


@pytest.mark.parametrize(("more", "model"), [("tier: light", "auto"), (ALL, "auto:cheap"), (ALL, "auto:best")])
async def test_nothing_is_compared_where_nothing_was_asked_for_or_scored(more, model):
    world = World(Upstreams())
    await world.serve(arrived(rules(more), model=model))
    assert not world.comparing.results
    assert len(world.upstreams.asked) == 1


async def test_without_a_store_nothing_is_asked():
    world = World(Upstreams())
    world.comparing._labels = None
    await world.serve(arrived(rules(ALL)))
    assert world.comparing._waiting.empty()


async def test_more_than_may_wait_is_dropped_and_the_caller_never_waits():
    world, policy = World(Upstreams(small=NEVER)), rules(ALL)
    for n in range(MOST_WAITING + 3):
        await world.serve(arrived(policy, id_=f"id-{n}"))
    assert world.comparing.results == {("r", "dropped"): 3}


async def test_so_many_are_asked_at_once_and_what_is_under_way_ends_with_the_process():
    world, policy = World(Upstreams(small=NEVER)), rules(ALL)
    async with world.running():
        for n in range(AT_ONCE + 3):
            await world.serve(arrived(policy, id_=f"id-{n}"))
        async with asyncio.timeout(5):
            while world.upstreams.names.count("small") < AT_ONCE:
                await asyncio.sleep(0.002)
        await asyncio.sleep(0)
        assert world.upstreams.names.count("small") == AT_ONCE
    assert [each.attempts[0].error for each in world.ended] == ["client_disconnect"] * AT_ONCE, "their books are closed"


def test_the_sample_is_by_the_requests_id_and_of_the_size_that_was_asked_for():
    rule = rules("compare: 2%").routes[0].classify
    drawn = [in_sample(f"id-{n}", rule) for n in range(20_000)]
    assert 0.015 < sum(drawn) / 20_000 < 0.025
    assert drawn == [in_sample(f"id-{n}", rule) for n in range(20_000)]
    assert not in_sample("id", rules("tier: light").routes[0].classify)


async def test_the_weight_is_what_a_sampled_request_stands_for():
    policy = rules("compare: 2%")
    id_ = next(f"id-{n}" for n in range(10_000) if in_sample(f"id-{n}", policy.routes[0].classify))
    world = World(Upstreams(small="x", big="x"))
    assert await world.learnt(arrived(policy, id_=id_)) == "same"
    assert served(world).weight == pytest.approx(50)
