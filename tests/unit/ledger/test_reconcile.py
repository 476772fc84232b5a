"""Two sides next to each other: names meet, and nothing on one side is lost."""

from decimal import Decimal

from gateway.ledger.invoice import Billed
from gateway.ledger.reconcile import Side, as_table, pair

DAY = 1_793_491_200


def test_names_on_both_sides_stay_apart_however_alike():
    ours = {(DAY, "gpt-4o-2024-05-13"): Side(10, 1), (DAY, "gpt-4o-2024-08-06"): Side(20, 2)}
    found = pair(ours, [Billed(DAY, "gpt-4o-2024-05-13", 10, 1), Billed(DAY, "gpt-4o-2024-08-06", 20, 2)])
    assert [(p.model, p.ledger == p.invoice) for p in found.pairs] == [
        ("gpt-4o-2024-05-13", True),
        ("gpt-4o-2024-08-06", True),
    ]


def test_a_display_name_meets_the_name_that_answers():
    ours = {(DAY, "claude-haiku-4-5-20251001"): Side(10, 1, Decimal(5000))}
    (only,) = pair(ours, [Billed(DAY, "Claude Haiku 4.5", micro_usd=Decimal(6000))]).pairs
    assert (only.model, only.ledger.micro_usd, only.invoice.micro_usd) == ("claude-haiku-4-5", 5000, 6000)


def test_lines_of_one_model_and_day_are_one():
    billed = [Billed(DAY, "a", 1, 2), Billed(DAY, "a", 3, 4), Billed(DAY, "a", micro_usd=Decimal("0.5"))]
    (only,) = pair({}, billed).pairs
    assert only.invoice == Side(4, 6, Decimal("0.5"))


def test_models_of_one_side_are_named():
    found = pair({(DAY, "ours"): Side(10, 1)}, [Billed(DAY, "theirs", 10, 1)])
    text = as_table(found)
    assert "only in the ledger: ours (not billed by it? leave them out with --where target=NAME)\n" in text
    assert "only in the invoice: theirs\n" in text
    assert "no request in these days" not in text


def test_a_ledger_without_a_request_in_these_days_says_so():
    assert "the ledger has no request in these days; fix: " in as_table(pair({}, [Billed(DAY, "theirs", 10, 1)]))


def test_how_far_totals_are_apart_is_a_share_of_the_invoice():
    ours = {(DAY, "a"): Side(10, 1, Decimal(98))}
    assert pair(ours, [Billed(DAY, "a", micro_usd=Decimal(100))]).off == Decimal("0.02")
    assert pair(ours, [Billed(DAY, "a", 5, 5)]).off == Decimal("0.1")
    assert pair(ours, [Billed(DAY, "a", micro_usd=Decimal(98))]).off == 0
    assert pair(ours, [Billed(DAY, "a", micro_usd=Decimal(0))]).off == Decimal("Infinity")


def test_only_what_an_export_states_is_compared():
    ours = {(DAY, "a"): Side(10, 1, Decimal(98))}
    tokens, money = (
        as_table(pair(ours, [Billed(DAY, "a", 5, 5)])),
        as_table(pair(ours, [Billed(DAY, "a", micro_usd=Decimal(1))])),
    )
    assert "USD" not in tokens
    assert "in: ledger" not in money


def test_requests_without_a_price_are_told_where_money_is_compared():
    assert "3 requests of the ledger have no known price" in as_table(
        pair({}, [Billed(DAY, "a", micro_usd=Decimal(1))], unpriced=3)
    )
