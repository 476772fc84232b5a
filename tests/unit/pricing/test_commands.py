import json

import pytest

from gateway.cli import main
from gateway.pricing.book import load_book, read_document

MAP = {
    "gpt-x": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05},
    "gemini/gem-x": {
        "litellm_provider": "gemini", "mode": "chat", "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05,
        "input_cost_per_token_above_200k_tokens": 2.5e-06, "cache_read_input_token_cost": 3.75e-08,
    },
    "free-x": {"litellm_provider": "mistral", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
    "picture": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 1e-06},
    "elsewhere": {"litellm_provider": "bedrock", "mode": "chat", "input_cost_per_token": 1e-06},
}  # fmt: skip


@pytest.fixture
def imported(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps(MAP))
    book = tmp_path / "prices.yaml"
    assert (
        main(["prices", "import", "--from", str(tmp_path / "map.json"), "--into", str(book), "--date", "2026-01-01"])
        == 0
    )
    return book


def again(book, price_map, day):
    source = book.parent / "map.json"
    source.write_text(json.dumps(price_map))
    return main(["prices", "import", "--from", str(source), "--into", str(book), "--date", day])


def test_an_import_takes_token_prices_of_the_known_providers(imported):
    prices = read_document(imported).prices
    assert set(prices) == {"google", "mistral", "openai"}
    assert prices["openai"]["gpt-x"].input == "2.5"
    assert prices["google"]["gem-x"].cached_read == "0.0375"
    assert prices["google"]["gem-x"].tiers == [{"above": 200_000, "input": "2.5"}]
    assert prices["mistral"]["free-x"].free
    assert len(load_book(imported)) == 3


def test_importing_the_same_map_again_changes_only_the_date(imported):
    before = imported.read_text()
    again(imported, MAP, "2026-02-02")
    assert imported.read_text() == before.replace("snapshot: 2026-01-01", "snapshot: 2026-02-02")


def test_a_vanished_row_is_kept_and_ended(imported):
    again(imported, {key: row for key, row in MAP.items() if key != "gpt-x"}, "2026-02-02")
    assert read_document(imported).prices["openai"]["gpt-x"].valid_to == "2026-02-02"


def test_a_changed_price_keeps_its_past(imported):
    changed = MAP | {"gpt-x": MAP["gpt-x"] | {"input_cost_per_token": 5e-06}}
    again(imported, changed, "2026-02-02")
    old, new = read_document(imported).prices["openai"]["gpt-x"]
    assert (old.input, old.valid_to, new.input, new.valid_from) == ("2.5", "2026-02-02", "5", "2026-02-02")


def test_diff_tells_what_moved_and_by_how_much(imported, capsys):
    old = imported.with_name("old.yaml")
    old.write_text(imported.read_text())
    again(imported, MAP | {"gpt-x": MAP["gpt-x"] | {"input_cost_per_token": 5e-06}}, "2026-02-02")
    capsys.readouterr()
    assert main(["prices", "diff", str(old), str(imported)]) == 0
    out = capsys.readouterr().out
    assert "openai/gpt-x" in out
    assert "input 2.5 -> 5 (+100 %)" in out
    assert "1 changed" in out


def test_check_warns_of_age_and_fails_on_errors(imported, capsys):
    assert main(["prices", "check", str(imported)]) == 0
    assert "days old" in capsys.readouterr().out
    imported.write_text(imported.read_text().replace('"2.5"', '"-2.5"'))
    assert main(["prices", "check", str(imported)]) == 1
    assert "gem-x: .-2.5. is negative" in capsys.readouterr().err.replace("'", ".")


def test_a_file_that_is_no_map_is_named(tmp_path, capsys):
    (tmp_path / "map.json").write_text("[]")
    assert main(["prices", "import", "--from", str(tmp_path / "map.json"), "--into", str(tmp_path / "p.yaml")]) == 2
    assert "map.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("import", "--from", "none.json"), ("diff", "none.yaml", "none.yaml"), ("check", "none.yaml")]
)
def test_a_file_that_is_not_there_is_told_in_a_line_with_the_fix(words, capsys):
    assert main(["prices", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("farthing: none.")
    assert "; fix: " in said
    assert said.count("\n") == 1
