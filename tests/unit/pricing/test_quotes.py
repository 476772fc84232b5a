from pathlib import Path

from gateway.core.exchange import Target, Usage
from gateway.pricing.book import load_book
from gateway.pricing.quotes import MAX_QUOTES, Quotes

ROWS = """\
version: 1
snapshot: 2026-01-01
source: a test
licence: none
prices:
  p:
    m:
      - {input: 1, output: 1, valid_to: 2026-06-01}
      - {input: 2, output: 2, valid_from: 2026-06-01}
"""
TARGET = Target("t", "openai_compatible", options={"preset": "p"})
MILLION = Usage(uncached_input=1_000_000)
JUNE_1ST = 1_780_272_000.0


def quotes(tmp_path: Path, clock: list[float]) -> Quotes:
    path = tmp_path / "prices.yaml"
    path.write_text(ROWS)
    return Quotes(load_book(path), lambda: clock[0])


def test_a_price_changes_at_midnight_utc(tmp_path):
    clock = [JUNE_1ST - 1]
    quote = quotes(tmp_path, clock)
    assert quote(TARGET, "m", MILLION) == 1_000_000
    clock[0] += 1
    assert quote(TARGET, "m", MILLION) == 2_000_000


def test_an_unknown_price_stays_unknown(tmp_path):
    quote = quotes(tmp_path, [JUNE_1ST])
    assert quote(TARGET, "other", MILLION) is None
    assert quote(TARGET, "other", MILLION) is None


def test_invented_model_names_do_not_fill_the_memory(tmp_path):
    quote = quotes(tmp_path, [JUNE_1ST])
    for number in range(MAX_QUOTES + 10):
        quote(TARGET, f"model-{number}", MILLION)
    assert len(quote._known) <= MAX_QUOTES
    assert quote(TARGET, "m", MILLION) == 2_000_000


def test_two_targets_of_one_name_have_prices_of_their_own(tmp_path):
    quote = quotes(tmp_path, [JUNE_1ST])
    other = Target("t", "openai_compatible", options={"preset": "p", "price": {"input": 7_000_000, "output": 0}})
    for _ in range(2):
        assert (quote(TARGET, "m", MILLION), quote(other, "m", MILLION)) == (2_000_000, 7_000_000)
