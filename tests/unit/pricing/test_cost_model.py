"""The worked example of docs/cost-model.md, computed anew."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.core.exchange import Pool, Usage
from gateway.core.money import cost_micro_usd
from gateway.pricing import hosted, live, utilisation, worst_case

TEXT = (Path(__file__).parents[3] / "docs/cost-model.md").read_text()
EXAMPLE = TEXT.partition("### Worked example")[2].partition("### ")[0]
ROWS = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for line in EXAMPLE.splitlines() if line.startswith("|") for cells in [line.strip("|").split("|")]}  # fmt: skip
POOL = Pool(
    "p", ("http://a", "http://b"), gpu_hour_usd="2.10", gpus=2, input_tokens_per_s=10_000, output_tokens_per_s=1_000
)
REQUEST = Usage(uncached_input=2_000, output=300)
DAY = 201_600_000


@pytest.mark.parametrize(("column", "use"), [(0, 1.0), (1, 0.5), (2, 0.02)])
def test_the_worked_example_adds_up(column, use):
    rates = hosted.configured_rates(POOL)
    price = hosted.full_price(POOL, rates, use)
    tier = price.tiers[0]
    shown = {name: cells[column] for name, cells in ROWS.items()}
    assert shown["$ per million input tokens"] == f"{Decimal(tier.input) / 1_000_000:.6f}"
    assert shown["$ per million output tokens"] == f"{Decimal(tier.output) / 1_000_000:.6f}"
    one = price.cost_total(REQUEST)
    assert shown["the request, micro-USD"] == f"{one:,}"
    count = round(use * 2 * 86_400 / rates.work_s(2_000, 300))
    assert shown["requests of that day"] == f"{count:,}"
    assert shown["charged"] == dollars(count * one)
    assert shown["idle"] == dollars(DAY - count * one)


def dollars(micro: int) -> str:
    return f"{'-' if micro < 0 else ''}${abs(Decimal(micro)) / 1_000_000:.2f}"


def test_the_example_states_its_day_and_its_work():
    assert "**$201.60**" in EXAMPLE
    assert "**0.5 s**" in EXAMPLE
    assert hosted.configured_rates(POOL).work_s(2_000, 300) == 0.5
    assert cost_micro_usd(2_000, 116_667) + cost_micro_usd(300, 1_166_667) == 583


@pytest.mark.parametrize(
    "stated",
    [
        f"{hosted.FLOOR:.0%}".replace("%", " %"),
        f"({hosted.ENERGY_SHARE} + pressure / (1 - pressure))",
        f"last {utilisation.SAMPLES} streamed",
        f"prompts of {utilisation.LONG_PROMPT} tokens",
        f"Plus {worst_case.PROMPT_TOKENS} per prompt",
        f"with tools {worst_case.TOOLS_TOKENS:,}, and {worst_case.TYPED_TOOL_TOKENS:,} for each typed tool",
        f"{worst_case.ANTHROPIC_IMAGE_TOKENS:,} tokens (Anthropic), {worst_case.MINI_IMAGE_TOKENS:,} (gpt-4o-mini)",
        f"{worst_case.IMAGE_TOKENS:,} (others)",
        f"{worst_case.OPAQUE_TOKENS:,} tokens each",
    ],
)
def test_the_page_states_the_constants_of_the_code(stated):
    assert stated in re.sub(r"\s+", " ", TEXT)


def test_what_the_page_says_of_the_ceiling_is_so():
    prices = live.HostedPrices([POOL], lambda: 0.0)
    now, most = prices.price(POOL).tiers[0], prices.ceiling(POOL, 600).tiers[0]
    assert most.output / now.output == pytest.approx(1.331, rel=1e-4)
