from pathlib import Path

from gateway.core.exchange import Pool, Target, Usage
from gateway.pricing.book import ModelPrice, Tier, load_book
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


def test_midnight_changes_the_price_of_every_target_that_serves_a_model(tmp_path):
    clock = [JUNE_1ST - 1]
    quote = quotes(tmp_path, clock)
    other = Target("other", "openai_compatible", options={"preset": "p"})
    for moved, paid in ((0, 1_000_000), (1, 2_000_000), (-1, 1_000_000)):
        clock[0] += moved
        for _ in range(2):
            assert (quote(TARGET, "m", MILLION), quote(other, "m", MILLION)) == (paid, paid)


def test_a_change_of_policy_forgets_the_targets_that_were(tmp_path):
    quote = quotes(tmp_path, [JUNE_1ST])
    changing = Target("c", "openai_compatible", options={"preset": "p"})
    for target in (TARGET, changing):
        assert quote(target, "m", MILLION) == 2_000_000
        target.options["preset"] = "nobody"
        assert quote(target, "m", MILLION) == 2_000_000, "remembered"
    quote.forget()
    try:
        assert quote(TARGET, "m", MILLION) is None
        assert quote(changing, "m", MILLION) is None
    finally:
        TARGET.options["preset"] = "p"


def test_targets_that_come_and_go_do_not_fill_the_memory(tmp_path):
    quote = quotes(tmp_path, [JUNE_1ST])
    for _ in range(MAX_QUOTES + 10):
        assert quote(Target("t", "openai_compatible", options={"preset": "p"}), "m", MILLION) == 2_000_000
    assert max(len(quote._known), len(quote._first)) <= MAX_QUOTES


def test_a_live_price_is_asked_for_each_time_and_a_stated_one_is_charged_as_reserved(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(ROWS)
    asked = []

    def live(price):
        return lambda pool: asked.append(pool.name) or ModelPrice((Tier(price + len(asked), 0),))

    quote = Quotes(load_book(path), lambda: JUNE_1ST, charged=live(100), ceiling=live(200))
    pool = Pool("gpus", ("http://127.0.0.1:1",))
    free = Target("live", "openai_compatible", pool=pool)
    named = Target("named", "openai_compatible", pool=pool, price_key="p/m")
    inline = Target("inline", "openai_compatible", pool=pool, options={"price": {"input": 7, "output": 0}})
    prices = [ask(free, "m").tiers[0].input for ask in (quote.price, quote.most, quote.price, quote.most)]
    assert prices == [101, 202, 103, 204]
    assert quote.most(named, "m") == quote.price(named, "m") == ModelPrice((Tier(2_000_000, 2_000_000),))
    assert quote.price(inline, "m") == quote.most(inline, "m") == ModelPrice((Tier(7, 0),))
    assert quote.price(free, "m").tiers[0].input == 105, "others that serve the model have not taken its place"
