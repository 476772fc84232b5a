"""`farthing ledger report|verify|reconcile|replay`: parses what is asked, prints what the ledger answers."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.core.clock import SystemClock
from gateway.core.errors import BadRequest
from gateway.database import Database, DatabaseError, open_database
from gateway.ledger import export, invoice, reconcile, report, verify
from gateway.ledger.period import FORMS, moment
from gateway.ledger.store import LedgerStore
from gateway.ledger.table import count
from gateway.ledger.writer import replay_abandoned

READ_TIMEOUT_S = 600.0
"""A report or a check may take as long as a person waits."""

_FIX = "fix: run `farthing serve` first, or set FARTHING_DATABASE or FARTHING_DATA_DIR to what it uses"


class Where(msgspec.Struct, frozen=True):
    """The ledger's database and the folder of its journal."""

    database_url: str
    journal: Path


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", where: Callable[[], Where]) -> None:
    """Adds the `ledger` command; `where` is asked when one of its actions runs."""
    ledger = subparsers.add_parser(
        "ledger",
        help="report, verify, reconcile, replay",
        description="Reads the ledger, and stores what a gateway that is gone has left.",
    )
    actions = ledger.add_subparsers(title="actions", required=True, metavar="ACTION")
    _report_parser(actions, where)
    _verify_parser(actions, where)
    _reconcile_parser(actions, where)
    _replay_parser(actions, where)


def _report_parser(actions: Any, where: Callable[[], Where]) -> None:
    parser = actions.add_parser(
        "report",
        help="what was used, spent and saved",
        description="Sums of the ledger's roll-ups: requests, tokens, cost, savings.\n"
        f"dimensions: {', '.join(report.DIMENSIONS)}\ndates: {FORMS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--by", default="tenant,route,model", metavar="NAME,...", help="dimensions [%(default)s]")
    parser.add_argument("--since", metavar="DATE", help="the first hour counted [the beginning]")
    parser.add_argument("--until", metavar="DATE", help="the first hour no longer counted [now]")
    parser.add_argument(
        "--where",
        dest="only",
        default="",
        metavar="NAME=VALUE,...",
        help=f"only these: any of {', '.join(report.COLUMNS)}",
    )
    parser.add_argument("--format", choices=("table", "csv", "json", "parquet"), default="table", help="[%(default)s]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there [standard output]")
    parser.set_defaults(func=lambda arguments: _report(arguments, where()))


def _report(arguments: argparse.Namespace, where: Where) -> int:
    asked = report.question(arguments.by, arguments.only, *_period(arguments))
    if arguments.format == "parquet" and arguments.output is None:
        raise BadRequest("Parquet is not for a terminal; fix: --output FILE.parquet")
    with _opened(where) as database:
        answer = report.ask(database, asked)
    try:
        if arguments.format == "parquet":
            export.write_parquet(answer, arguments.output)
        else:
            _write(_text(answer, asked, where, arguments.format), arguments.output)
    except OSError as exc:
        raise BadRequest(
            f"{arguments.output}: {exc.strerror or exc}; fix: --output FILE in a folder that is there"
        ) from exc
    return 0


def _text(answer: report.Report, asked: report.Question, where: Where, form: str) -> str:
    if form == "csv":
        return export.as_csv(answer)
    if form == "json":
        return export.as_json(answer)
    return export.as_table(answer) if answer.lines else _nothing(answer, asked, where)


def _verify_parser(actions: Any, where: Callable[[], Where]) -> None:
    parser = actions.add_parser(
        "verify",
        help="check that the ledger adds up",
        description="Every accepted request has one row, and every sum is the sum of its rows. Exits 1 if not.\n"
        "Reads all rows: about half a minute for each million.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(func=lambda arguments: _verify(arguments, where()))


def _verify(arguments: argparse.Namespace, where: Where) -> int:
    with _opened(where) as database:
        found = verify.verify(database, where.journal)
    sys.stdout.write(verify.as_json(found) if arguments.json else verify.as_text(found))
    return 0 if found.sound else 1


def _reconcile_parser(actions: Any, where: Callable[[], Where]) -> None:
    forms = "\n".join(f"  {form}" for form in invoice.FORMS)
    parser = actions.add_parser(
        "reconcile",
        help="compare with a provider's invoice",
        description="Compares tokens and dollars per day and model with what a provider says it was asked for.\n"
        f"CSV formats, told by their columns:\n{forms}\n"
        "JSON: a page, or a list of pages, of the usage or cost API of OpenAI or Anthropic.\n"
        f"dates: {FORMS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--invoice", type=Path, required=True, metavar="FILE", help="the export, CSV or JSON")
    parser.add_argument("--provider", choices=tuple(reconcile.PROVIDERS), help="whose targets [as the file tells]")
    parser.add_argument("--since", metavar="DATE", help="the first day compared [the invoice's]")
    parser.add_argument("--until", metavar="DATE", help="the first day no longer compared [after the invoice's last]")
    parser.add_argument(
        "--where", dest="only", default="", metavar="NAME=VALUE,...", help="only these, e.g. target=gpt-4o"
    )
    parser.add_argument(
        "--fail-above", type=_share, metavar="PERCENT", help="exit 1 when the totals differ by more, e.g. 1%%"
    )
    parser.set_defaults(func=lambda arguments: _reconcile(arguments, where()))


def _reconcile(arguments: argparse.Namespace, where: Where) -> int:
    billed = _invoice(arguments.invoice)
    if arguments.provider is not None:
        billed = msgspec.structs.replace(billed, provider=reconcile.PROVIDERS[arguments.provider])
    with _opened(where) as database:
        found = reconcile.compare(database, billed, *_period(arguments), report.conditions(arguments.only))
    sys.stdout.write(f"{arguments.invoice.name}: {billed.form}\n\n{reconcile.as_table(found)}")
    limit: Decimal | None = arguments.fail_above
    if limit is not None and found.off > limit:
        sys.stdout.write(f"the totals differ by {found.off:.2%}, more than {limit:.2%}\n")
        return 1
    return 0


def _replay_parser(actions: Any, where: Callable[[], Where]) -> None:
    parser = actions.add_parser(
        "replay",
        help="store what gateways that are gone have left in their journals",
        description="Stores the rows that wait in journals whose gateway is not started again (a pod that is gone).\n"
        "A gateway does it for its own journal when it starts. Journals in use are left alone; the same again changes\n"
        "nothing. Requests without an end are charged as reserved, with outcome `crashed`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--journal", type=Path, metavar="DIR", help="journals at and below it [that of FARTHING_DATA_DIR]"
    )
    parser.set_defaults(func=lambda arguments: _replay(arguments, where()))


def _replay(arguments: argparse.Namespace, where: Where) -> int:
    root: Path = arguments.journal or where.journal
    if not root.is_dir():
        raise BadRequest(f"no journal at {root}; fix: --journal DIR, the folder that holds *.journal files")
    with _opened(where) as database:
        store = LedgerStore(database)
        store.migrate()
        found = replay_abandoned(root, store, SystemClock())
    for folder in found.in_use:
        sys.stdout.write(f"{folder}: in use by a gateway that runs, left alone\n")
    sys.stdout.write(f"stored {count(found.rows)} rows that were missing, from {count(len(found.stored))} journals\n")
    return 0


def _invoice(path: Path) -> invoice.Invoice:
    """Errors begin with the name of the file."""
    try:
        return invoice.parse(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise BadRequest(f"{path}: {exc.strerror or exc}; fix: --invoice FILE, the provider's export") from exc
    except UnicodeDecodeError as exc:
        raise BadRequest(f"{path}: not text in UTF-8; fix: the export as CSV or JSON, not as a spreadsheet") from exc
    except BadRequest as exc:
        raise BadRequest(f"{path}: {exc.message}") from exc


def _share(text: str) -> Decimal:
    """`1%` or `1` as 0.01."""
    try:
        share = Decimal(text.removesuffix("%")) / 100
    except InvalidOperation:
        share = Decimal(-1)
    if not share.is_finite() or share < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage; fix: 1% or 0.5%")
    return share


def _nothing(answer: report.Report, asked: report.Question, where: Where) -> str:
    """What to do when a report has no line."""
    if answer.empty:
        return (
            f"The ledger at {shown(where.database_url)} is empty: no request has been settled yet.\n"
            "Send one through the gateway (`farthing serve`), or check FARTHING_DATABASE when there were some.\n"
        )
    limits = ", ".join(f"{name}={value}" for name, value in asked.where)
    only = f" with {limits}" if limits else ""
    return f"No requests in this period{only}; fix: an earlier --since, or another --where.\n"


def _period(arguments: argparse.Namespace) -> tuple[int | None, int | None]:
    now_s = time.time()
    since = None if arguments.since is None else moment(arguments.since, now_s)
    return since, None if arguments.until is None else moment(arguments.until, now_s)


@contextlib.contextmanager
def _opened(where: Where) -> Iterator[Database]:
    scheme, _, path = where.database_url.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():
        raise BadRequest(f"no ledger at {path}; {_FIX}")
    database = open_database(where.database_url, timeout_s=READ_TIMEOUT_S)
    try:
        try:
            database.query("SELECT MIN(day) FROM rollup_day")
        except DatabaseError as exc:
            raise BadRequest(f"no ledger in {shown(where.database_url)}: {exc.message}; {_FIX}") from exc
        yield database
    finally:
        database.close()


def shown(url: str) -> str:
    """A database URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


def _write(text: str, path: Path | None) -> None:
    if path is None:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
