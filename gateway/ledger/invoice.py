"""Reads what a provider says it was asked for and charges: exports and API pages of OpenAI and Anthropic, a plain CSV.

Pure: text in, lines out. The formats are told apart by their columns. A provider exports tokens and money apart, so a
line has one or the other, and `None` is what an export does not say. Sources: the files that platform.openai.com
(Usage, Export: activity or cost data) and platform.claude.com (Usage and Cost, Export) write in 2026, and have written.
"""

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.money import MICRO
from gateway.ledger.invoice_pages import rows
from gateway.ledger.rows import DAY_S

Row = Mapping[str, str]


class Billed(msgspec.Struct, frozen=True):
    """One line. `day` is the Unix time of its first second; `model` is empty where the export does not split by it.

    `micro_usd` has the provider's fractions.
    """

    day: int
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    micro_usd: Decimal | None = None


class Invoice(msgspec.Struct, frozen=True):
    """`provider` as the ledger names it, `None` when the file does not tell."""

    form: str
    provider: str | None
    lines: tuple[Billed, ...]


class Form(msgspec.Struct, frozen=True):
    """A format: the columns that tell it, each with the names it goes by, and how one of its rows reads.

    `read` gets the columns under the first of their names, and answers `None` for a row that bills nothing.
    """

    name: str
    provider: str | None
    columns: tuple[tuple[str, ...], ...]
    read: Callable[[Row], Billed | None]

    def names(self, given: Collection[str]) -> dict[str, str] | None:
        """What each of `given` is called here; `None` when a column is missing."""
        found = {}
        for column in self.columns:
            present = next((name for name in column if name in given), None)
            if present is None:
                return None
            found[present] = column[0]
        return {name: found.get(name, name) for name in given}

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(' or '.join(column) for column in self.columns)}"


def parse(text: str) -> Invoice:
    """The invoice in an export. Raises `BadRequest` naming the formats, or the line that cannot be read."""
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        pages = rows(text)
        return _invoice(tuple(pages[0]), enumerate(pages, 1), "result")
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in text.partition("\n")[0] else ",")
    columns = reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    numbered = ((reader.line_num, {name: row[name] or "" for name in columns}) for row in reader)
    return _invoice(columns, numbered, "line")


def _invoice(columns: Collection[str], numbered: Iterable[tuple[int, Row]], unit: str) -> Invoice:
    for form in FORMS:
        if (names := form.names(columns)) is not None:
            return Invoice(form.name, form.provider, tuple(_lines(form, names, numbered, unit)))
    known = "".join(f"\n  {form}" for form in FORMS)
    given = ", ".join(columns) or "nothing"
    raise BadRequest(f"not an invoice: its columns are {given}; fix: an export with at least the columns of{known}")


def _lines(form: Form, names: dict[str, str], numbered: Iterable[tuple[int, Row]], unit: str) -> Iterator[Billed]:
    for number, row in numbered:
        try:
            line = form.read({names[name]: value.strip() for name, value in row.items()})
        except (ValueError, ArithmeticError) as exc:
            raise BadRequest(f"{unit} {number} of the {form.name}: {exc}") from exc
        if line is not None:
            yield line


def _openai_usage(row: Row) -> Billed | None:
    """A day (or hour) without requests has its times alone; `input_tokens` holds the cached ones."""
    if not row.get("input_tokens") and not row.get("output_tokens"):
        return None
    return Billed(
        _day(row["start_time"]), row.get("model", ""), _tokens(row["input_tokens"]), _tokens(row["output_tokens"])
    )


def _openai_cost(row: Row) -> Billed | None:
    """`line_item` is `gpt-4o-2024-08-06, input`, also with a tier before (`priority | ...`) or a modality behind."""
    if not row.get("amount_value"):
        return None
    currency = row.get("amount_currency", "usd") or "usd"
    if currency.lower() != "usd":
        raise ValueError(f"an amount in {currency}; fix: an export in USD")
    item = row.get("line_item", "").rpartition("|")[2].partition(",")
    model = item[0].strip()
    if item[1] and model:
        model = model.split()[0]
    return Billed(_day(row["start_time"]), model, micro_usd=_micro(row["amount_value"]))


def _anthropic_usage(row: Row) -> Billed | None:
    names = ("no_cache", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h")
    read = sum(_tokens(row.get(f"usage_input_tokens_{name}", "")) for name in names)
    return Billed(_day(row["usage_date_utc"]), row["model_version"], read, _tokens(row["usage_output_tokens"]))


def _anthropic_cost(row: Row) -> Billed | None:
    """Models by their display name (`Claude Haiku 4.5`), amounts in whole cents."""
    return Billed(_day(row["usage_date_utc"]), row["model"], micro_usd=_micro(row["cost_usd"]))


def _plain(row: Row) -> Billed | None:
    return Billed(
        _day(row["date"]),
        row["model"],
        _tokens(row["input_tokens"]),
        _tokens(row["output_tokens"]),
        _micro(row["cost_usd"]) if row["cost_usd"] else None,
    )


FORMS = (
    Form(
        "OpenAI usage export",
        "openai_compatible",
        (
            ("start_time", "start_time_iso"),
            ("input_tokens",),
            ("output_tokens",),
            ("num_model_requests",),
        ),
        _openai_usage,
    ),
    Form(
        "OpenAI usage export of before 2025",
        "openai_compatible",
        (
            ("start_time", "timestamp", "aggregation_timestamp", "date", "usage_date"),
            ("model", "snapshot_id"),
            ("input_tokens", "n_context_tokens_total"),
            ("output_tokens", "n_generated_tokens_total"),
            ("num_model_requests", "n_requests"),
        ),
        _openai_usage,
    ),
    Form(
        "OpenAI cost export",
        "openai_compatible",
        (("start_time", "start_time_iso"), ("amount_value",), ("amount_currency",)),
        _openai_cost,
    ),
    Form(
        "Anthropic usage export",
        "anthropic",
        (
            ("usage_date_utc",),
            ("model_version",),
            ("usage_input_tokens_no_cache",),
            ("usage_output_tokens",),
        ),
        _anthropic_usage,
    ),
    Form("Anthropic cost export", "anthropic", (("usage_date_utc",), ("model",), ("cost_usd",)), _anthropic_cost),
    Form(
        "plain invoice",
        None,
        (("date",), ("model",), ("input_tokens",), ("output_tokens",), ("cost_usd",)),
        _plain,
    ),
)


def canonical(model: str) -> str:
    """What names of one model have in common: `Claude Haiku 4.5` and `claude-haiku-4-5-20251001` are one.

    Lower case, dashes for spaces and dots, no date at the end, no version word (`-latest`).
    """
    name = re.sub(r"[\s._]+", "-", model.strip().lower())
    return re.sub(r"-(\d{4}-\d{2}-\d{2}|20\d{6}|latest)$", "", name)


def _day(text: str) -> int:
    """The UTC day of `1790553600`, `2026-09-28` or `2026-09-28T10:00:00Z`."""
    if re.fullmatch(r"\d{9,11}", text):
        seconds = int(text)
    else:
        try:
            read = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is no date; fix: YYYY-MM-DD") from None
        seconds = int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())
    return seconds - seconds % DAY_S


def _tokens(text: str) -> int:
    """Counts come as `1234`, `1,234` or `1234.0`; none is 0."""
    return int(_decimal(text)) if text else 0


def _micro(text: str) -> Decimal:
    return _decimal(text.replace("$", "")) * MICRO


def _decimal(text: str) -> Decimal:
    """A comma separates thousands; one that cannot is refused, for it may be meant as a decimal point."""
    if "," in text and not re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d*)?", text):
        raise ValueError(f"{text!r} is no number")
    try:
        read = Decimal(text.replace(",", ""))
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number") from None
    if not read.is_finite():
        raise ValueError(f"{text!r} is no number")
    return read
