from datetime import date
from pathlib import Path

import pytest

from gateway.core.exchange import Pool, Target, Usage
from gateway.pricing.book import load_book
from gateway.pricing.hosted import pool_price
from gateway.pricing.resolve import price_of

BOOK = load_book(Path(__file__).parents[3] / "routing_policies/prices.yaml")
DAY = date(2026, 11, 21)
MILLION = Usage(uncached_input=1_000_000)
POOL = Pool("p", ("http://a",), gpu_hour_usd="3.60", gpus=2, input_tokens_per_s=10_000, output_tokens_per_s=1_000)


def cost(target: Target, model: str = "m", usage: Usage = MILLION) -> int | None:
    price = price_of(target, model, BOOK, DAY)
    return None if price is None else price.cost_total(usage)


def test_an_inline_price_wins():
    target = Target(
        "t", "openai_compatible", model="gpt-4o", options={"preset": "openai", "price": {"input": 7, "output": 9}}
    )
    assert cost(target) == 7


def test_a_providers_list_is_asked_for_the_served_model_then_for_the_asked_one():
    target = Target("t", "openai_compatible", model="gpt-4o", options={"preset": "openai"})
    assert cost(target, "gpt-4o-2024-08-06") == 2_500_000
    assert cost(target, "never-heard-of") == 2_500_000


def test_azure_charges_openais_list():
    assert cost(Target("t", "openai_compatible", options={"preset": "azure"}), "gpt-4o") == 2_500_000


def test_a_named_row_is_used():
    assert cost(Target("t", "openai_compatible", price_key="openai/gpt-4o")) == 2_500_000


def test_what_nobody_priced_is_unknown():
    assert cost(Target("t", "openai_compatible", options={"preset": "openai_compatible"})) is None


def test_the_sandbox_has_a_simulated_price():
    price = price_of(Target("sandbox-large", "sandbox"), "sandbox-large", BOOK, DAY)
    assert price.simulated
    assert price.cost_total(MILLION) == 2_500_000


def test_a_pools_tokens_cost_its_gpu_hours():
    """Two GPUs at $3.60 are $0.002 a second: 10,000 input tokens or 1,000 output tokens."""
    price = pool_price(POOL)
    assert price.cost_total(Usage(uncached_input=10_000)) == 2_000
    assert price.cost_total(Usage(output=1_000)) == 2_000
    assert price.cost_total(Usage(cache_read=10_000)) == 0
    assert cost(Target("t", "openai_compatible", pool=POOL)) == 200_000


@pytest.mark.parametrize("missing", ["gpu_hour_usd", "input_tokens_per_s", "output_tokens_per_s"])
def test_a_pool_without_measured_rates_has_no_price(missing):
    fields = {name: getattr(POOL, name) for name in POOL.__struct_fields__} | {missing: None}
    assert pool_price(Pool(**fields)) is None
