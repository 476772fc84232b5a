"""A provider's export against the ledger, on each database."""

from decimal import Decimal
from pathlib import Path

import pytest

from gateway.core.errors import BadRequest
from gateway.core.exchange import Usage
from gateway.ledger.invoice import parse
from gateway.ledger.reconcile import compare
from gateway.ledger.rows import closed
from tests.support.ledger_rows import at, ended

FIXTURES = Path(__file__).parents[2] / "fixtures" / "invoices"


def read(name):
    return parse((FIXTURES / f"{name}.csv").read_text(encoding="utf-8"))


def settle(store, started, cost, model, provider, **fields):
    store.insert([closed(ended(started, cost, model=model, provider=provider, **fields))])


@pytest.fixture
def haiku(store):
    usage = Usage(1010, 5000, 200, 100, output=303)
    settle(store, "2026-11-01T10:00", 3_030_000, "claude-haiku-4-5-20251001", "anthropic", usage=usage)
    settle(store, "2026-11-01T10:00", 77, "gpt-4o", "openai_compatible")


def test_a_ledger_that_agrees_with_the_tokens_of_its_provider(haiku, database):
    invoice = read("anthropic_usage")
    found = compare(database, invoice, None, int(at("2026-11-02")), ())
    (only,) = found.pairs
    assert (only.model, only.ledger.input_tokens, only.ledger.output_tokens) == ("claude-haiku-4-5-20251001", 6310, 303)
    assert found.off == 0


def test_a_ledger_that_agrees_with_the_money_of_its_provider(haiku, database):
    found = compare(database, read("anthropic_cost"), None, int(at("2026-11-02")), ())
    assert (found.ledger.micro_usd, found.invoice.micro_usd, found.off) == (3_030_000, 3_030_000, 0)


def test_days_of_the_invoice_alone_are_compared(haiku, database, store):
    settle(store, "2026-11-03", 5, "claude-haiku-4-5-20251001", "anthropic")
    found = compare(database, read("anthropic_cost"), None, None, ())
    assert {p.day for p in found.pairs} == {int(at("2026-11-01")), int(at("2026-11-02"))}
    assert found.off == Decimal("1.35") / Decimal("4.38")


def test_a_target_narrows_the_ledger_to_what_the_invoice_bills(haiku, database, store):
    settle(store, "2026-11-01", 5_000_000, "qwen", "anthropic", target="our-own")
    found = compare(database, read("anthropic_cost"), None, int(at("2026-11-02")), (("target", "gpt"),))
    assert found.off == 0


def test_an_invoice_that_is_not_split_by_model_is_compared_by_day(haiku, database):
    text = "start_time,amount_value,amount_currency,line_item\n1793491200,0.000077,usd,\n"
    (only,) = compare(database, parse(text), None, None, ()).pairs
    assert (only.model, only.ledger.micro_usd, only.invoice.micro_usd) == ("(all)", 77, 77)


def test_a_period_that_the_invoice_does_not_bill_is_refused(haiku, database):
    with pytest.raises(BadRequest, match="bills nothing from 2026-12-01 to 2026-12-01"):
        compare(database, read("plain"), int(at("2026-12-01")), int(at("2026-12-02")), ())
