"""Writes a report as a table for people, or as CSV, JSON or Parquet for machines; decides no sum.

For machines money is dollars with six places, as text (Parquet: decimals), and what is unknown is empty; groups by
day or hour are ISO 8601 in UTC. CSV and Parquet hold the groups alone, so that a column can be summed.
"""

import csv
import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.money import usd
from gateway.ledger.period import day_text, hour_text
from gateway.ledger.report import Measures, Report
from gateway.ledger.table import count, dollars, layout, places_for

COUNTS: dict[str, Callable[[Measures], int | None]] = {
    "requests": lambda sums: sums.requests,
    "uncached_input_tokens": lambda sums: sums.uncached_input,
    "cache_read_tokens": lambda sums: sums.cache_read,
    "cache_write_tokens": lambda sums: sums.cache_write,
    "output_tokens": lambda sums: sums.output,
    "reasoning_tokens": lambda sums: sums.reasoning,
    "unknown_cost_requests": lambda sums: sums.unknown_cost,
    "estimated_requests": lambda sums: sums.estimated,
    "mean_ttft_ms": lambda sums: sums.mean_ttft_ms,
    "mean_duration_ms": lambda sums: sums.mean_duration_ms,
}
MONEY: dict[str, Callable[[Measures], int | None]] = {
    "cost_usd": lambda sums: sums.charged,
    "baseline_usd": lambda sums: sums.baseline_micro,
    "cost_with_baseline_usd": lambda sums: sums.charged_compared,
    "saved_cache_usd": lambda sums: sums.saved_cache,
    "saved_routing_usd": lambda sums: sums.saved_routing,
    "saved_compression_usd": lambda sums: sums.saved_compression,
    "waste_escalation_usd": lambda sums: sums.waste_escalation,
    "waste_retries_usd": lambda sums: sums.waste_retries,
    "own_usd": lambda sums: sums.own_micro,
    "net_saved_usd": lambda sums: sums.net_saved,
}


def as_table(report: Report) -> str:
    """For a terminal: one line a group, the total, and the identity with its terms."""
    compared = report.total.compared
    amounts = [amount(line.sums) or 0 for line in report.lines for amount in MONEY.values()]
    places = places_for(max(map(abs, amounts), default=0))
    rows = [_groups(report, line.group) + _cells(line.sums, places, compared=compared) for line in report.lines]
    head = [*report.by, "requests", "in", "cached", "written", "out", "cost", "unpriced", "estimated"]
    head += ["baseline", "cache", "routing", "compression", "waste", "own", "net saved"] if compared else []
    lines = f"total of {len(rows)}"
    foot = [lines, *[""] * (len(report.by) - 1), *_cells(report.total, places, compared=compared)]
    return layout([*head, "ttft ms"], rows, text=len(report.by), foot=foot) + "\n" + _identity(report.total)


def as_csv(report: Report) -> str:
    """A header and one line a group."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*report.by, *COUNTS, *MONEY])
    for line in report.lines:
        money = ["" if (micro := amount(line.sums)) is None else usd(micro) for amount in MONEY.values()]
        writer.writerow([*_texts(report, line.group), *(number(line.sums) for number in COUNTS.values()), *money])
    return out.getvalue()


def as_json(report: Report) -> str:
    """`{"by", "read", "lines", "total"}`; `read` says which roll-up answered for which period."""
    lines = [
        {**dict(zip(report.by, _texts(report, line.group), strict=True)), **_named(line.sums)} for line in report.lines
    ]
    read = [{"table": part.table, "since": _hour(part.since_s), "until": _hour(part.until_s)} for part in report.read]
    document = {"by": report.by, "read": read, "lines": lines, "total": _named(report.total)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def write_parquet(report: Report, path: Path) -> None:
    """One row a group. Raises `BadRequest` without pyarrow, `OSError`."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as exc:
        raise BadRequest("Parquet needs pyarrow; fix: pip install 'farthing[parquet]'") from exc
    texts = [_texts(report, line.group) for line in report.lines]
    columns: dict[str, Any] = {
        name: pa.array([row[i] for row in texts], pa.string()) for i, name in enumerate(report.by)
    }
    for name, number in COUNTS.items():
        columns[name] = pa.array([number(line.sums) for line in report.lines], pa.int64())
    for name, amount in MONEY.items():
        micro = [amount(line.sums) for line in report.lines]
        columns[name] = pa.array(
            [None if value is None else Decimal(value).scaleb(-6) for value in micro], pa.decimal128(19, 6)
        )
    with path.open("wb") as file:
        parquet.write_table(pa.table(columns), file)


def _named(sums: Measures) -> dict[str, int | str | None]:
    named: dict[str, int | str | None] = {name: number(sums) for name, number in COUNTS.items()}
    for name, amount in MONEY.items():
        named[name] = None if (micro := amount(sums)) is None else usd(micro)
    return named


def _texts(report: Report, group: Sequence[str | int]) -> list[str]:
    return [
        day_text(int(value)) if name == "day" else hour_text(int(value)) if name == "hour" else str(value)
        for name, value in zip(report.by, group, strict=True)
    ]


def _groups(report: Report, group: Sequence[str | int]) -> list[str]:
    return [text or "(none)" for text in _texts(report, group)]


def _cells(sums: Measures, places: int, *, compared: bool) -> list[str]:
    tokens = (sums.requests, sums.uncached_input, sums.cache_read, sums.cache_write, sums.output)
    cells = [*map(count, tokens), dollars(sums.charged, places), count(sums.unknown_cost), count(sums.estimated)]
    if compared:
        saved = (sums.saved_cache, sums.saved_routing, sums.saved_compression)
        amounts = (sums.baseline_micro, *saved, sums.waste, sums.own_micro, sums.net_saved)
        cells += [dollars(amount, places) for amount in amounts]
    return [*cells, "-" if sums.mean_ttft_ms is None else count(sums.mean_ttft_ms)]


def _identity(sums: Measures) -> str:
    """The savings of the total, term by term, and what stands outside of them."""
    lines = []
    if sums.compared:
        places = places_for(max(abs(sums.baseline_micro), abs(sums.charged_compared)))

        def amount(micro: int) -> str:
            return dollars(micro, places)

        lines.append(
            f"baseline {amount(sums.baseline_micro)} - charged {amount(sums.charged_compared)}"
            f" = cache {amount(sums.saved_cache)} + routing {amount(sums.saved_routing)}"
            f" + compression {amount(sums.saved_compression)} - escalation {amount(sums.waste_escalation)}"
            f" - retries {amount(sums.waste_retries)} - own {amount(sums.own_micro)}"
            f" = net saved {amount(sums.net_saved)}"
        )
        if sums.charged_apart:
            apart = dollars(sums.charged_apart, places_for(sums.charged_apart))
            lines.append(f"{apart} of the cost has no baseline to compare with and is not in this line.")
    else:
        lines.append("No savings: the policy names no baseline to compare with (`baseline:`, see docs/cost-model.md).")
    if sums.unknown_cost:
        lines.append(f"{count(sums.unknown_cost)} requests have no known price: their cost is in no sum.")
    if sums.estimated:
        lines.append(f"{count(sums.estimated)} requests are estimated: their provider reported no usage.")
    return "".join(f"{line}\n" for line in lines)


def _hour(seconds: int | None) -> str | None:
    return None if seconds is None else hour_text(seconds)
