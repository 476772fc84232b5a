from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import PolicyError
from gateway.core.exchange import Usage
from gateway.pricing.book import ModelPrice, Tier, load_book, pico_per_token

DAY = date(2026, 11, 21)
SHIPPED = Path(__file__).parents[3] / "routing_policies/prices.yaml"
tokens = st.integers(0, 2_000_000)
pico = st.integers(0, 10**9)
usages = st.builds(
    lambda a, b, c, d, e, r: Usage(a, b, c, d, e, min(r, e)), tokens, tokens, tokens, tokens, tokens, tokens
)
tiers = st.builds(Tier, pico, pico, st.none() | pico, st.none() | pico, st.none() | pico, st.none() | pico)


def book(tmp_path, rows: str):
    path = tmp_path / "prices.yaml"
    path.write_text(f"version: 1\nsnapshot: 2026-11-21\nsource: a test\nlicence: none\nprices:\n{rows}")
    return load_book(path)


def exact(count: int, price: int) -> int:
    return int((Decimal(count) * price / 1_000_000).to_integral_value(ROUND_HALF_UP))


@given(usages, tiers)
def test_every_component_is_rounded_half_up_once_and_the_total_is_their_sum(usage, tier):
    price = ModelPrice((tier,))
    cost = price.cost(usage)
    assert cost.input == exact(usage.uncached_input, tier.input)
    assert cost.cache_read == exact(usage.cache_read, tier.input if tier.cached_read is None else tier.cached_read)
    if tier.reasoning is None:
        assert (cost.output, cost.reasoning) == (exact(usage.output, tier.output), 0)
    else:
        assert cost.output == exact(usage.output - usage.reasoning, tier.output)
        assert cost.reasoning == exact(usage.reasoning, tier.reasoning)
    parts = (cost.input, cost.cache_read, cost.cache_write, cost.output, cost.reasoning)
    assert cost.total == sum(parts) == price.cost_total(usage)
    assert min(parts) >= 0


@given(usages, st.lists(tiers, min_size=1, max_size=3), st.none() | tiers, st.integers(0, 50))
def test_the_total_is_that_of_the_cost_for_every_list_and_no_more_than_the_most(usage, found, batch, request):
    rising = tuple(msgspec.structs.replace(tier, above=number * 1_000_000) for number, tier in enumerate(found))
    price = ModelPrice(rising, batch, request)
    assert price.cost_total(usage) == price.cost(usage).total <= price.at_most(usage.input, usage.output)


def test_a_price_that_is_made_of_another_knows_its_own_tiers():
    cheap, dear = Tier(1, 2), Tier(3_000_000, 4_000_000, cache_write_1h=5_000_000, reasoning=6_000_000)
    price = ModelPrice((cheap,))
    assert msgspec.structs.replace(price, tiers=(dear,)).at_most(1, 1) == ModelPrice((dear,)).at_most(1, 1) == 13
    both = msgspec.structs.replace(price, tiers=(cheap, msgspec.structs.replace(dear, above=10)))
    assert (both.at_most(10, 0), both.at_most(11, 0)) == (2, 57)


def test_a_known_bill():
    """gpt-4o on that day: $2.50 in, $1.25 cached, $10 out per million."""
    price = load_book(SHIPPED).price("openai", "gpt-4o", DAY)
    usage = Usage(uncached_input=86, cache_read=1920, output=300, reasoning=192)
    assert price.cost_total(usage) == 215 + 2400 + 3000


def test_a_known_bill_with_cache_writes():
    """claude-sonnet-4-5: $3 in, $0.30 read, $3.75 and $6 written, $15 out per million."""
    price = load_book(SHIPPED).price("anthropic", "claude-sonnet-4-5", DAY)
    usage = Usage(uncached_input=50, cache_read=100_000, cache_write_5m=148, cache_write_1h=100, output=503)
    assert price.cost_total(usage) == 150 + 30_000 + (148 * 375 + 100 * 600) // 100 + 7545


@pytest.mark.parametrize(("prompt", "paid"), [(200_000, 250_000), (200_001, 500_003)])
def test_a_longer_prompt_is_priced_by_its_tier_as_a_whole(tmp_path, prompt, paid):
    prices = book(tmp_path, "  p: {m: {input: 1.25, output: 10, tiers: [{above: 200000, input: 2.5}]}}\n")
    assert prices.price("p", "m", DAY).cost_total(Usage(uncached_input=prompt)) == paid


def test_a_cached_prompt_counts_for_the_tier(tmp_path):
    prices = book(
        tmp_path, "  p: {m: {input: 1, output: 1, cached_read: 0.1, tiers: [{above: 10, input: 2, cached_read: 1}]}}\n"
    )
    assert prices.price("p", "m", DAY).cost(Usage(uncached_input=0, cache_read=1_000_000)).cache_read == 1_000_000


def test_a_batch_has_its_own_price(tmp_path):
    price = book(tmp_path, "  p: {m: {input: 2, output: 8, batch_input: 1, batch_output: 4}}\n").price("p", "m", DAY)
    usage = Usage(uncached_input=1000, output=1000)
    assert (price.cost(usage).total, price.cost(usage, batch=True).total) == (10_000, 5_000)


def test_an_unknown_model_has_no_price_and_nothing_is_guessed():
    prices = load_book(SHIPPED)
    assert prices.price("openai", "gpt-4o-next", DAY) is None
    assert prices.price("nobody", "gpt-4o", DAY) is None


def test_an_old_row_prices_old_requests(tmp_path):
    rows = (
        "  p:\n    m:\n      - {input: 2, output: 2, valid_to: 2026-06-01}\n"
        "      - {input: 1, output: 1, valid_from: 2026-06-01}\n"
    )
    prices = book(tmp_path, rows)
    usage = Usage(uncached_input=1_000_000)
    assert prices.price("p", "m", date(2026, 5, 31)).cost_total(usage) == 2_000_000
    assert prices.price("p", "m", date(2026, 6, 1)).cost_total(usage) == 1_000_000


def test_an_alias_has_the_price_of_its_row(tmp_path):
    prices = book(tmp_path, "  p: {m: {input: 1, output: 1, aliases: [m-2026]}}\n")
    assert prices.price("p", "m-2026", DAY) == prices.price("p", "m", DAY)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("  p: {m: {}}\n", "no price"),
        ("  p: {m: {input: -1, output: 1}}\n", "negative"),
        ("  p: {m: {input: 0.0000001, output: 1}}\n", "finer"),
        ("  p: {m: {input: lots, output: 1}}\n", "not a decimal"),
        ("  p: {m: {input: 1, output: 1, inptu: 2}}\n", "inptu"),
        ("  p: {m: {input: 1, output: 1, valid_from: 2026-02-01, valid_to: 2026-01-01}}\n", "valid_to"),
        ("  p: [\n", "not YAML"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, rows, message):
    with pytest.raises(PolicyError, match=message):
        book(tmp_path, rows)


def test_zero_must_be_said(tmp_path):
    price = book(tmp_path, "  p: {m: {free: true}}\n").price("p", "m", DAY)
    assert price.cost_total(Usage(uncached_input=10**6, output=10**6)) == 0


@pytest.mark.parametrize(
    ("text", "expected"), [("0.15", 150_000), ("3.75", 3_750_000), ("0.000001", 1), ("75", 75_000_000)]
)
def test_published_prices_are_exact_integers(text, expected):
    assert pico_per_token(text) == expected


def test_the_shipped_book_is_dated_and_complete():
    prices = load_book(SHIPPED)
    assert prices.snapshot == "2026-11-21"
    assert len(prices) > 200
    for provider, model in (
        ("mistral", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("google", "gemini-2.5-pro"),
    ):
        assert prices.price(provider, model, DAY) is not None, model
