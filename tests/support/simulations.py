"""Worlds of small policies and recorded requests for tests of the simulation."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from gateway.policy.load import document_from_text
from gateway.pricing.book import load_book
from gateway.routing.decide import Threshold
from gateway.simulate.money import DayPrices
from gateway.simulate.replay import replay, unchanged
from gateway.simulate.tally import Tally
from gateway.simulate.traffic import Recorded, read_line
from gateway.simulate.world import Before, World
from tests.support.policies import policy

BOOK = load_book(Path(__file__).parents[2] / "routing_policies" / "prices.yaml")
BEGIN_S = 1_790_000_000.0
TARGETS = """
targets:
  fast: {provider: openai, model: gpt-4o-mini, api_key: env:K, price: {input: $1, output: $2}}
  smart: {provider: openai, model: gpt-4o, api_key: env:K, price: {input: $10, output: $20}}
  own: {provider: vllm, model: llama, price: {input: $1, output: $1}}
"""

_numbers = itertools.count()


def seen(text: str | None = None, **fields: Any) -> Recorded:
    """A request for `auto` of 100 tokens in and 10 out, one second after the one before; with `text` it has a body."""
    line: dict[str, Any] = {
        "time": BEGIN_S + next(_numbers),
        "usage": {"uncached_input": 100, "output": 10},
        **({"model": "auto"} if text is None else {"request": body(text)}),
        **fields,
    }
    return read_line(msgspec.json.encode(line), "line")


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


def world(text: str, before: Before = Before(), threshold: float | None = None) -> World:
    """The policy `text`, without its targets, from the beginning; scores are those that are recorded."""
    return World(policy(TARGETS + text), DayPrices(BOOK), lambda _: Threshold(threshold), lambda *_: None, before)


def compared(traffic: Iterable[Recorded], new: str, old: str | None, threshold: float | None = None) -> Tally:
    """The sums of `traffic` under both policies."""
    if old is None:
        return replay(traffic, world(new, threshold=threshold), None, seed=1, now_s=BEGIN_S)
    documents = [document_from_text(b"version: 1\n" + (TARGETS + text).encode()) for text in (old, new)]
    after = world(new, unchanged(documents[0], documents[1]), threshold)
    before = world(old, unchanged(documents[0], documents[0]), threshold)
    return replay(traffic, after, before, seed=1, now_s=BEGIN_S)
