"""`farthing prices import|diff|check`: keeps the price book dated, sourced and sound."""

import argparse
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.errors import PolicyError

STALE_DAYS = 120
BOOK = Path("routing_policies/prices.yaml")
HEADER = """\
# What providers charge: USD per million tokens. Facts with a source; a model that is not here has no known price.
# Made by `farthing prices import`; see docs/cost-model.md for the fields. Own prices go into the policy, not here.
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `prices` command."""
    prices = subparsers.add_parser("prices", help="keep the price book", description="Works on the price book.")
    actions = prices.add_subparsers(title="actions", required=True, metavar="ACTION")
    importer = actions.add_parser(
        "import",
        help="take prices from LiteLLM's price map",
        description="Makes or updates a price book from LiteLLM's model_prices_and_context_window.json (MIT).\n"
        "Rows that the map no longer has are kept and marked as ended.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    importer.add_argument("--from", dest="source", type=Path, required=True, metavar="FILE", help="the price map")
    importer.add_argument("--into", type=Path, default=BOOK, metavar="FILE", help="the price book [%(default)s]")
    importer.add_argument("--date", type=_day, metavar="DATE", help="date of the snapshot, 2026-11-01 [today]")
    importer.add_argument("--origin", default="", metavar="TEXT", help="what the map is of, e.g. 'litellm 1.109.1'")
    importer.set_defaults(func=_import)
    diff = actions.add_parser(
        "diff", help="what differs between two price books", description="Compares two price books, row by row."
    )
    diff.add_argument("old", type=Path, metavar="OLD", help="a price book")
    diff.add_argument("new", type=Path, metavar="NEW", help="another")
    diff.set_defaults(func=_diff)
    check = actions.add_parser(
        "check",
        help="errors, past deprecations and age of a price book",
        description="Tells errors, past deprecations and the age of a price book. Exits 1 if a row is wrong.",
    )
    check.add_argument("book", type=Path, nargs="?", default=BOOK, metavar="FILE", help="the price book [%(default)s]")
    check.set_defaults(func=_check)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write it as 2026-11-01") from None


def _today() -> date:
    return datetime.now(UTC).date()


def _import(arguments: argparse.Namespace) -> int:
    from gateway.pricing.book import VERSION, Document, load_book, read_document  # noqa: PLC0415 - YAML
    from gateway.pricing.importer import merge, rows_from_litellm  # noqa: PLC0415

    try:
        price_map = msgspec.json.decode(arguments.source.read_bytes(), type=dict[str, dict[str, Any]])
    except (OSError, msgspec.DecodeError) as exc:
        what = exc.strerror if isinstance(exc, OSError) else f"not a price map: {exc}"
        raise PolicyError(
            f"{arguments.source}: {what}; fix: --from FILE, LiteLLM's model_prices_and_context_window.json"
        ) from exc
    on = (arguments.date or _today()).isoformat()
    old = read_document(arguments.into).prices if arguments.into.exists() else {}
    source = f"LiteLLM model_prices_and_context_window.json{f', {arguments.origin}' if arguments.origin else ''}"
    book = Document(
        version=VERSION,
        snapshot=on,
        source=source,
        licence="public price facts; the map they were taken from is MIT (c) Berri AI",
        prices=merge(old, rows_from_litellm(price_map), on),
    )
    write(book, arguments.into)
    print(f"{arguments.into}: {len(load_book(arguments.into))} priced models, snapshot of {on}")  # noqa: T201
    return 0


def write(book: Any, path: Path) -> None:
    """Writes a price book: one line per row, stable order."""
    lines = [HEADER, f"version: {book.version}\n", f"snapshot: {book.snapshot}\n"]
    lines += [f"source: {_flow(book.source)}\n", f"licence: {_flow(book.licence)}\n", "prices:\n"]
    for provider, models in book.prices.items():
        lines.append(f"  {provider}:\n")
        lines += [f"    {_flow(model)}: {_flow(msgspec.to_builtins(entry))}\n" for model, entry in models.items()]
    path.write_text("".join(lines), encoding="utf-8")


def _flow(value: Any) -> str:
    """JSON is YAML's flow style; keys of a row need no quotes."""
    if isinstance(value, dict):
        given = {k: v for k, v in value.items() if v is not None}
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in given.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return msgspec.json.encode(value).decode()


def _diff(arguments: argparse.Namespace) -> int:
    from gateway.pricing.book import read_document  # noqa: PLC0415
    from gateway.pricing.importer import differences  # noqa: PLC0415

    found = differences(read_document(arguments.old), read_document(arguments.new))
    width = max((len(name) for name, _, _ in found), default=0)
    for name, what, detail in found:
        print(f"{name:<{width}}  {what:<8} {detail}")  # noqa: T201
    counts = {what: sum(row[1] == what for row in found) for what in ("added", "removed", "changed")}
    print(", ".join(f"{count} {what}" for what, count in counts.items()))  # noqa: T201
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from gateway.pricing.book import load_book, read_document  # noqa: PLC0415

    if not arguments.book.is_file():
        raise PolicyError(f"{arguments.book}: no such file; fix: name a price book")
    try:
        document = read_document(arguments.book)
        count = len(load_book(arguments.book))
    except PolicyError as exc:
        sys.stderr.write(f"error: {exc.message}\n")
        return 1
    today = _today()
    warnings = []
    age = (today - date.fromisoformat(document.snapshot)).days
    if age > STALE_DAYS:
        warnings.append(f"the snapshot is {age} days old; fix: farthing prices import --from FILE")
    for provider, models in document.prices.items():
        for model, entry in models.items():
            row = entry[-1] if isinstance(entry, list) else entry
            if row.deprecated and row.deprecated <= today.isoformat() and not row.valid_to:
                warnings.append(f"{provider}/{model} was deprecated on {row.deprecated}")
    for warning in warnings:
        print(f"warning: {warning}")  # noqa: T201
    print(f"{arguments.book}: {count} priced models, snapshot of {document.snapshot}, {len(warnings)} warnings")  # noqa: T201
    return 0
