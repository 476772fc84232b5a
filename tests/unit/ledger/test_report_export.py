"""What a report looks like: for people, and for machines to the micro-dollar."""

import csv
import io
import json
import sys
from decimal import Decimal

import pytest

from gateway.core.errors import BadRequest
from gateway.ledger.export import as_csv, as_json, as_table, write_parquet
from gateway.ledger.period import Slice
from gateway.ledger.report import Line, Measures, Report, total
from gateway.ledger.rows import MEASURES
from gateway.ledger.table import count, dollars, layout, percent

SHOP = Measures(
    requests=3,
    uncached_input=1_234_567,
    cache_read=20,
    cache_write=30,
    output=40,
    reasoning=5,
    charged_micro=1_700_000,
    estimated=1,
    baseline_micro=2_000_000,
    saved_cache=600_000,
    saved_routing=-50_000,
    saved_compression=100_000,
    waste_escalation=200_000,
    waste_retries=30_000,
    own_micro=20_000,
    duration_ms=3001,
    ttft_ms=1000,
    ttft_count=2,
)
LAB = Measures(requests=2, charged_micro=0, unknown_cost=2, duration_ms=10)


def made(*lines, by=("tenant", "day")):
    return Report(by, lines, total(line.sums for line in lines), (Slice("rollup_day", "day", 0, None),), False)


REPORT = made(Line(("shop", 1_793_491_200), SHOP), Line(("lab", 1_793_577_600), LAB))


def test_measures_are_the_columns_of_the_roll_ups():
    assert Measures.__struct_fields__ == MEASURES


def test_a_table_has_a_line_a_group_and_a_total():
    lines = as_table(REPORT).splitlines()
    assert lines[0].split()[:8] == ["tenant", "day", "requests", "in", "cached", "written", "out", "cost"]
    assert lines[2].split()[:4] == ["shop", "2026-11-01", "3", "1,234,567"]
    assert lines[3].split()[7] == "unknown"
    assert lines[5].split()[:4] == ["total", "of", "2", "5"]


def test_a_table_shows_every_term_of_the_identity_and_what_is_outside_of_it():
    assert (
        "baseline $2.0000 - charged $1.6000 = cache $0.6000 + routing -$0.0500 + compression $0.1000"
        " - escalation $0.2000 - retries $0.0300 - own $0.0200 = net saved $0.4000\n"
    ) in as_table(REPORT)
    assert "$0.100000 of the cost has no baseline" in as_table(REPORT)


def test_a_table_tells_what_is_unknown_and_what_is_estimated():
    assert "2 requests have no known price: their cost is in no sum." in as_table(REPORT)
    assert "1 requests are estimated" in as_table(REPORT)


def test_without_a_baseline_no_savings_are_shown():
    text = as_table(made(Line(("a", 0), Measures(requests=1, charged_micro=5))))
    assert "net saved" not in text
    assert "No savings" in text


def test_negative_savings_are_shown_negative():
    worse = Measures(requests=1, charged_micro=30, baseline_micro=10, saved_routing=-20)
    assert "net saved -$0.000020" in as_table(made(Line(("a", 0), worse)))


def test_csv_has_dollars_with_six_places_and_nothing_for_the_unknown():
    shop, lab = csv.DictReader(io.StringIO(as_csv(REPORT)))
    assert (shop["tenant"], shop["day"], shop["requests"], shop["mean_ttft_ms"]) == ("shop", "2026-11-01", "3", "500")
    assert (shop["cost_usd"], shop["saved_routing_usd"], shop["net_saved_usd"]) == ("1.700000", "-0.050000", "0.400000")
    assert (lab["cost_usd"], lab["mean_ttft_ms"], lab["unknown_cost_requests"]) == ("", "", "2")


def test_json_has_the_lines_the_total_and_where_it_was_read():
    document = json.loads(as_json(REPORT))
    assert document["read"] == [{"table": "rollup_day", "since": "1970-01-01T00:00Z", "until": None}]
    assert document["lines"][1]["cost_usd"] is None
    assert document["total"]["requests"] == 5
    assert document["total"]["baseline_usd"] == "2.000000"


def test_the_terms_in_csv_add_up_to_the_net():
    for row in csv.DictReader(io.StringIO(as_csv(REPORT))):
        money = {name: Decimal(value or 0) for name, value in row.items() if name.endswith("_usd")}
        saved = money["saved_cache_usd"] + money["saved_routing_usd"] + money["saved_compression_usd"]
        spent = money["waste_escalation_usd"] + money["waste_retries_usd"] + money["own_usd"]
        assert money["net_saved_usd"] == saved - spent == money["baseline_usd"] - money["cost_with_baseline_usd"]


def test_parquet_holds_exact_decimals(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(REPORT, tmp_path / "report.parquet")
    shop, lab = parquet.read_table(tmp_path / "report.parquet").to_pylist()
    assert (shop["day"], shop["cost_usd"]) == ("2026-11-01", Decimal("1.700000"))
    assert lab["cost_usd"] is None


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadRequest, match=r"pip install 'farthing\[parquet\]'"):
        write_parquet(REPORT, tmp_path / "report.parquet")


@pytest.mark.parametrize(
    ("micro", "places", "text"),
    [
        (1_234_567_890, 2, "$1,234.57"),
        (-1, 6, "-$0.000001"),
        (-1, 2, "$0.00"),
        (5_000, 2, "$0.01"),
        (None, 2, "unknown"),
    ],
)
def test_dollars_are_rounded_half_up(micro, places, text):
    assert dollars(micro, places) == text


def test_numbers_are_grouped_and_shares_have_a_sign():
    assert (count(1_234_567), percent(5, 400), percent(-1, 100), percent(3, 0)) == (
        "1,234,567",
        "+1.25%",
        "-1.00%",
        "-",
    )


def test_text_stands_left_and_numbers_right():
    assert layout(["name", "n"], [["a", "10"], ["long", "5"]], text=1).splitlines() == [
        "name   n",
        "----  --",
        "a     10",
        "long   5",
    ]
