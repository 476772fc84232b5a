"""One encoder for all: opened by whoever asks first, ended once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.caching import Opened
from gateway.choosing import Choosing
from gateway.encoder import EncoderError
from gateway.encoder.once import Once
from gateway.settings import Settings
from tests.support.keys import HandClock
from tests.support.policies import policy

POLICY = """\
targets: {small: {provider: vllm, model: l8}, big: {provider: vllm, model: l70}}
routes:
  - name: r
    match: {}
    classify: {weak: small, strong: big, tier: embed}
    cache: {semantic: {ttl: 1h}}
"""


async def test_whoever_asks_gets_the_same_one():
    once = Once("minilm")
    assert once.opened is None
    with ThreadPoolExecutor(4) as pool:
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*[loop.run_in_executor(pool, once.open) for _ in range(4)])
    assert {id(each) for each in found} == {id(once.opened)}
    await once.aclose()
    with pytest.raises(EncoderError):
        await once.opened.encode("late")


async def test_one_that_cannot_be_opened_is_an_error_for_each_who_asks_and_ends_quietly():
    once = Once("/no/such/model")
    for _ in range(2):
        with pytest.raises(EncoderError):
            once.open()
    await once.aclose()


@pytest.mark.parametrize("first", ["routing", "cache"])
async def test_routing_and_the_cache_have_one_model_between_them(first, tmp_path):
    once, clock, rules = Once("minilm"), HandClock(), policy(POLICY)
    settings = Settings(database="none", policies=tmp_path)
    choosing = Choosing(
        settings, lambda: rules, lambda: [rules], None, clock, lambda: "id", lambda: 0.5, once, lambda *_: None
    )
    cache = Opened(settings, lambda: rules, None, clock, lambda: "id", None, once)
    opening = [lambda: choosing.open_for(rules), cache.open_semantic]
    for opens in opening if first == "routing" else opening[::-1]:
        opens()
    assert cache.semantic._encoder is once.opened
    assert choosing.stage._encoder() is once.opened
    await cache.aclose()
    assert await choosing.stage._encoder().encode("the cache has ended, routing has not") is not None
    await once.aclose()
