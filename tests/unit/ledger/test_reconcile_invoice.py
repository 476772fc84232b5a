"""Exports of providers, as their consoles write them, become lines per day and model."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.core.errors import BadRequest
from gateway.ledger.invoice import FORMS, Billed, canonical, parse

FIXTURES = Path(__file__).parents[2] / "fixtures" / "invoices"


def day(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


FIRST, SECOND = day("2026-11-01"), day("2026-11-02")


def read(name, kind="csv"):
    return parse((FIXTURES / f"{name}.{kind}").read_text(encoding="utf-8"))


def test_an_openai_usage_export_counts_cached_input_once_and_skips_empty_days():
    invoice = read("openai_usage")
    assert (invoice.form, invoice.provider) == ("OpenAI usage export", "openai_compatible")
    assert invoice.lines == (
        Billed(FIRST, "gpt-4o-2024-08-06", 3000, 600),
        Billed(FIRST, "gpt-4o-2024-08-06", 500, 100),
        Billed(FIRST, "gpt-4o-mini-2024-07-18", 2000, 400),
    )


def test_an_openai_cost_export_gives_the_model_of_its_line_items():
    invoice = read("openai_cost")
    assert (invoice.form, invoice.provider) == ("OpenAI cost export", "openai_compatible")
    assert [(line.model, line.micro_usd) for line in invoice.lines] == [
        ("gpt-4o-2024-08-06", Decimal(6250)),
        ("gpt-4o-2024-08-06", Decimal(1250)),
        ("gpt-4o-2024-08-06", Decimal(7000)),
        ("web search tool calls", Decimal(10_000)),
        ("gpt-image-2", Decimal("0.32")),
    ]


def test_an_anthropic_usage_export_adds_the_classes_of_input():
    invoice = read("anthropic_usage")
    assert (invoice.form, invoice.provider) == ("Anthropic usage export", "anthropic")
    assert invoice.lines == (
        Billed(FIRST, "claude-haiku-4-5-20251001", 6300, 300),
        Billed(FIRST, "claude-haiku-4-5-20251001", 10, 3),
        Billed(SECOND, "claude-sonnet-4-5-20250929", 700, 90),
    )


def test_an_anthropic_cost_export_names_models_for_people():
    invoice = read("anthropic_cost")
    assert (invoice.form, invoice.provider) == ("Anthropic cost export", "anthropic")
    assert sum(line.micro_usd for line in invoice.lines) == 4_380_000
    assert {line.model for line in invoice.lines} == {"Claude Haiku 4.5", "Claude Sonnet 4.5"}


def test_a_plain_invoice_may_leave_the_cost_out():
    assert read("plain").lines == (
        Billed(FIRST, "mistral-large", 1200, 340, Decimal(4500)),
        Billed(FIRST, "other", 10, 2, None),
    )
    assert read("plain").provider is None


def test_a_byte_order_mark_and_capital_letters_do_not_hide_a_format():
    assert parse("\ufeffDate,Model,Input_Tokens,Output_Tokens,Cost_USD\n2026-11-01,a,1,2,3\n").form == "plain invoice"


def test_unknown_columns_are_refused_naming_every_format():
    with pytest.raises(BadRequest) as caught:
        parse("day,amount\n2026-11-01,3\n")
    assert "its columns are day, amount" in caught.value.message
    assert all(form.name in caught.value.message for form in FORMS)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("yesterday,a,1,2,3", "'yesterday' is no date"),
        ("2026-11-01,a,many,2,3", "'many' is no number"),
        ("2026-11-01,a,1,2,NaN", "'NaN' is no number"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(row, says):
    with pytest.raises(BadRequest, match=f"line 2 of the plain invoice: {says}"):
        parse(f"date,model,input_tokens,output_tokens,cost_usd\n{row}\n")


def test_amounts_in_another_currency_are_refused():
    with pytest.raises(BadRequest, match="an amount in eur"):
        parse("start_time,amount_value,amount_currency,line_item\n1793491200,1,eur,a\n")


def test_an_amount_without_a_currency_is_taken_for_no_currency():
    with pytest.raises(BadRequest, match="its columns are start_time, amount_value, line_item"):
        parse("start_time,amount_value,line_item\n1793491200,1,a\n")


def test_a_table_copied_with_tabs_reads_like_one_with_commas():
    text = (FIXTURES / "anthropic_cost.csv").read_text(encoding="utf-8")
    assert parse(text.replace(",", "\t")) == parse(text)


def test_times_for_people_do_as_well_as_those_for_machines():
    text = (FIXTURES / "openai_usage.csv").read_text(encoding="utf-8")
    assert parse(text.replace("start_time,", "begin,")) == parse(text)


@pytest.mark.parametrize("time", ["timestamp", "date", "aggregation_timestamp"])
def test_a_usage_export_of_before_2025_has_other_names(time):
    invoice = parse(
        f"{time},snapshot_id,n_requests,n_context_tokens_total,n_generated_tokens_total\n2026-11-01,a,1,5,7\n"
    )
    assert (invoice.provider, invoice.lines) == ("openai_compatible", (Billed(FIRST, "a", 5, 7),))


@pytest.mark.parametrize("amount", ["0,5", "12,34.5", "1,0000"])
def test_a_comma_that_is_no_thousand_is_refused_and_not_dropped(amount):
    with pytest.raises(BadRequest, match=f"'{amount}' is no number"):
        parse(f'date,model,input_tokens,output_tokens,cost_usd\n2026-11-01,a,1,2,"{amount}"\n')


def test_a_line_that_ends_early_bills_what_it_says():
    assert parse("date,model,input_tokens,output_tokens,cost_usd\n2026-11-01,a,1\n").lines == (
        Billed(FIRST, "a", 1, 0),
    )


def test_pages_of_the_usage_api_of_openai_are_one_invoice():
    invoice = read("openai_usage", "json")
    assert (invoice.form, invoice.provider) == ("OpenAI usage export", "openai_compatible")
    assert invoice.lines == (
        Billed(FIRST, "gpt-4o-2024-08-06", 3000, 600),
        Billed(day("2026-11-03"), "gpt-4o-mini-2024-07-18", 2000, 400),
    )


def test_the_costs_api_of_openai_reads_like_its_export():
    invoice = read("openai_cost", "json")
    assert invoice.form == "OpenAI cost export"
    assert [(line.model, line.micro_usd) for line in invoice.lines] == [
        ("gpt-4o-2024-08-06", Decimal(6250)),
        ("gpt-4o-2024-08-06", Decimal(70)),
    ]


def test_the_usage_report_of_anthropic_adds_the_classes_of_input():
    invoice = read("anthropic_usage", "json")
    assert (invoice.form, invoice.provider) == ("Anthropic usage export", "anthropic")
    assert invoice.lines == (Billed(FIRST, "claude-haiku-4-5-20251001", 6300, 300),)


def test_the_cost_report_of_anthropic_counts_cents():
    invoice = read("anthropic_cost", "json")
    assert (invoice.form, invoice.provider) == ("Anthropic cost export", "anthropic")
    assert invoice.lines == (
        Billed(FIRST, "claude-haiku-4-5-20251001", micro_usd=Decimal("1237891.2")),
        Billed(FIRST, "Web Search Usage", micro_usd=Decimal(100_000)),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"error": {"message": "no key"}}', "not an invoice: .*`data`.*fix: what the usage or cost API"),
        ("[1]", "not an invoice"),
        ('{"data": [', "not an invoice"),
        ("[]", "no usage and no cost"),
        ('{"data": [{"start_time": 1793491200, "results": []}]}', "no usage and no cost"),
        ('{"data": [{"results": [{}]}]}', "a period without `start_time` or `starting_at`"),
        ('{"data": [], "has_more": true}', "more follow; fix: put all of them into one JSON list"),
        (
            '{"data": [{"starting_at": "2026-11-01", "results": [{"amount": "1"}, {"output_tokens": 1}]}]}',
            "usage and costs in one list",
        ),
        ('{"data": [{"starting_at": "2026-11-01", "results": [{"amount": "1", "currency": "EUR"}]}]}', "in EUR"),
        ('{"data": [{"starting_at": "2026-11-01", "results": [{"amount": "much"}]}]}', "'much' is no amount"),
        (
            '{"data": [{"starting_at": "soon", "results": [{"amount": "1"}]}]}',
            "result 1 of the Anthropic cost export: 'soon' is no date",
        ),
    ],
)
def test_json_that_is_no_invoice_is_refused_saying_why(text, says):
    with pytest.raises(BadRequest, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("names", "one"),
    [
        (("Claude Haiku 4.5", "claude-haiku-4-5", "claude-haiku-4-5-20251001"), "claude-haiku-4-5"),
        (("gpt-4o-2024-08-06", "GPT-4o", "gpt-4o-latest"), "gpt-4o"),
        (("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet-20241022"), "claude-3-5-sonnet"),
        (("gpt-4o-mini-2024-07-18",), "gpt-4o-mini"),
    ],
)
def test_names_of_one_model_meet(names, one):
    assert {canonical(name) for name in names} == {one}
