"""Decides what the measured rows amount to: tables, ratios, goals. Pure; knows no process and no clock."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal

from tests.benchmarks.overhead.gateways import FARTHING, LITELLM, NGINX, SGLANG, WITH_BOOKS
from tests.benchmarks.overhead.results import Case, Round, Row, Start

Verdict = Literal["PASS", "MISS", "SKIP"]
JSON_ONE = Case("json", 1)
"""The case in which added latency is read: nothing waits for anything else."""

_BUSY_PERCENT = 5


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest over the rounds; over turns the bounds of the middle half."""

    median: float
    least: float
    most: float

    def show(self, digits: int) -> str:
        """`12.3 [11.9-13.0]`, the median alone when there was one round."""
        if self.least == self.most:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} [{self.least:,.{digits}f}-{self.most:,.{digits}f}]"


@dataclass(frozen=True)
class Goal:
    """One target of the project and whether this run meets it; `SKIP` when what it needs was not measured."""

    verdict: Verdict
    text: str
    found: str

    def __str__(self) -> str:
        return f"{self.verdict}  {self.text}: {self.found}"


def spread(values: Iterable[float | None]) -> Spread | None:
    """`None` when there is no value."""
    known = [value for value in values if value is not None]
    return Spread(median(known), min(known), max(known)) if known else None


def middle(values: Iterable[float | None]) -> Spread | None:
    """As `spread`, with the bounds of the middle half in place of least and greatest: for many short measurements."""
    known = [value for value in values if value is not None]
    if len(known) < 4:
        return spread(known)
    low, mid, high = quantiles(known, n=4, method="inclusive")
    return Spread(mid, low, high)


def valid_rows(rounds: Sequence[Round]) -> list[Row]:
    """The rows whose figures may be used."""
    return [row for part in rounds for row in part.rows if not row.invalid]


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded to be read as text as well; the first column left, the others right."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(heads), f"| {' | '.join(rule)} |", *map(line, lines)])


def figures(rounds: Sequence[Round], cases: Sequence[Case]) -> str:
    """One table a case: what each gateway took, median and range over the rounds; then starts and what is invalid."""
    rows = valid_rows(rounds)
    names = list(dict.fromkeys(part.gateway for part in rounds))
    parts = []
    for case in cases:
        heads, columns = _columns([row for row in rows if row.case == case])
        lines = [
            [name, *(_cell(rows, name, case, read, digits) for read, digits in columns)]
            for name in names
            if any(row.gateway == name and row.case == case for row in rows)
        ]
        if lines:
            parts.append(f"{_title(case)}\n\n{table(heads, lines)}")
    parts.append(f"Start, in seconds from exec\n\n{_starts(rounds, names)}")
    parts += _disturbance(rows)
    parts += [f"INVALID  {row.gateway} {row.case}, round {row.round}: {row.invalid}" for row in _invalid(rounds)]
    parts += [f"FAILED   {part.gateway}: {part.failed}" for part in rounds if part.failed]
    return "\n\n".join(parts)


def ratios(rounds: Sequence[Round], cases: Sequence[Case]) -> str:
    """Farthing against the three that the goals name, each ratio formed within one round."""
    rows = valid_rows(rounds)
    peers = [SGLANG, LITELLM, NGINX]
    lines = [[f"CPU/request, {case}", *(_ratio_text(cpu_ratio(rows, peer, case)) for peer in peers)] for case in cases]
    one = [case for case in cases if case.connections == 1]
    lines += [
        [f"added p50 ms, {case}", *(_added_text(added_p50_ms(rows, peer, case)) for peer in peers)] for case in one
    ]
    return table([FARTHING, *(f"/ {peer}" for peer in peers)], lines)


def books(turns: Sequence[Round], cases: Sequence[Case]) -> str:
    """What the books add to Farthing's CPU per request, measured in turns: median and middle half of the turns.

    In microseconds, and as a share of what a request takes without them: that share differs less between machines.
    """
    rows = valid_rows(turns)
    names = [name for name in WITH_BOOKS if any(part.gateway == name for part in turns)]
    columns = [(case, cost) for case in cases for cost in (path_us, cpu_us)]
    heads = [f"{case}, {part}" for case in cases for part in ("path", "in all")]
    lines = []
    for name in names:
        lines.append([name, *(_added_text(added_us(rows, name, case, cost), 1) for case, cost in columns)])
        shares = [added_share(rows, name, case, cost) for case, cost in columns]
        lines.append([f"{name} / {FARTHING}", *(f"{share.show(2)} x" if share else "not measured" for share in shares)])
    plain = [middle(row.cpu_us for row in rows if row.gateway == FARTHING and row.case == case) for case in cases]
    without = ", ".join(f"{case} {_added_text(found, 1)}" for case, found in zip(cases, plain, strict=True))
    title = (
        f"CPU us/request that the books add, in turns (without them: {without}); median and middle half of the turns"
    )
    return f"{title}\n\n{table(['gateway', *heads], lines)}"


def goals(rounds: Sequence[Round], turns: Sequence[Round], connections: int) -> list[Goal]:
    """The goals of the project, against what `rounds` and `turns` hold; `connections` is the many of the cases."""
    rows, in_turns = valid_rows(rounds), valid_rows(turns)
    json, sse = Case("json", connections), Case("sse", connections)
    ready = spread(part.start.ready_s for part in rounds if part.gateway == FARTHING and part.start)
    rss = spread(row.rss_mb for row in rows if row.gateway == FARTHING)
    return [
        _goal(f"{json} CPU/request at most 1.3 x {SGLANG}'s", cpu_ratio(rows, SGLANG, json), 1.3, "x", 2),
        _goal(f"{json} CPU/request at most 1/50 (0.02 x) of {LITELLM}'s", cpu_ratio(rows, LITELLM, json), 0.02, "x", 4),
        _goal(f"{sse} CPU/request at most 1.5 x {SGLANG}'s", cpu_ratio(rows, SGLANG, sse), 1.5, "x", 2),
        _goal(f"{JSON_ONE} adds at most 0.5 ms to {NGINX}'s p50", added_p50_ms(rows, NGINX, JSON_ONE), 0.5, " ms", 3),
        *(
            _goal(
                f"{case} {name} takes at most 60 us more CPU{part}", added_us(in_turns, name, case, cost), 60, " us", 1
            )
            for name in WITH_BOOKS
            for case in (json, JSON_ONE)
            for part, cost in ((" on the request's path", path_us), (", its storing of rows included", cpu_us))
        ),
        _goal("ready within 2 s of the start", ready, 2.0, " s", 2),
        _goal("RSS at most 120 MB, the greatest of all rows", _worst(rss), 120.0, " MB", 1),
    ]


def cpu_ratio(rows: Sequence[Row], peer: str, case: Case) -> Spread | None:
    """Farthing's CPU time per request over the peer's; `None` when no round has both."""
    return spread(_by_round(rows, peer, case, lambda own, other: own.cpu_us / other.cpu_us if other.cpu_us else None))


def cpu_us(row: Row) -> float:
    """CPU time per request."""
    return row.cpu_us


def path_us(row: Row) -> float:
    """The same of the event loop's thread alone, which keys, reservation, settling and journal are on."""
    return row.cpu_us - row.beside_us


def added_us(rows: Sequence[Row], name: str, case: Case, cost: Callable[[Row], float]) -> Spread | None:
    """The cost of a request to Farthing as `name` less that to Farthing alone; `None` when no turn has both."""
    return middle(_by_round(rows, name, case, lambda own, other: cost(other) - cost(own)))


def added_share(rows: Sequence[Row], name: str, case: Case, cost: Callable[[Row], float]) -> Spread | None:
    """The same over all CPU time of a request to Farthing alone."""
    return middle(_by_round(rows, name, case, lambda own, other: (cost(other) - cost(own)) / own.cpu_us))


def added_p50_ms(rows: Sequence[Row], peer: str, case: Case) -> Spread | None:
    """Farthing's median latency less the peer's; `None` when no round has both."""
    return spread(_by_round(rows, peer, case, lambda own, other: own.p50_ms - other.p50_ms))


def _by_round(
    rows: Sequence[Row], peer: str, case: Case, compare: Callable[[Row, Row], float | None]
) -> list[float | None]:
    """Farthing's row compared with the peer's in each round or turn that has both."""
    found = {(row.gateway, row.round): row for row in rows if row.case == case}
    own = {number: row for (name, number), row in found.items() if name == FARTHING}
    return [compare(row, found[peer, number]) for number, row in own.items() if (peer, number) in found]


def _goal(text: str, found: Spread | None, most: float, unit: str, digits: int) -> Goal:
    if found is None:
        return Goal("SKIP", text, "not measured")
    return Goal("PASS" if found.median <= most else "MISS", text, f"{found.show(digits)}{unit}")


def _worst(found: Spread | None) -> Spread | None:
    return Spread(found.most, found.most, found.most) if found else None


def _columns(rows: Sequence[Row]) -> tuple[list[str], list[tuple[Callable[[Row], float | None], int]]]:
    heads = ["gateway", "CPU us/request", "softirq us", "requests/s", "p50 ms", "p99 ms", "RSS MB"]
    columns: list[tuple[Callable[[Row], float | None], int]] = [
        (lambda row: row.cpu_us, 1),
        (lambda row: row.softirq_us, 1),
        (lambda row: row.rps, 0),
        (lambda row: row.p50_ms, 3),
        (lambda row: row.p99_ms, 2),
        (lambda row: row.rss_mb, 0),
    ]
    if any(row.instructions is not None for row in rows):
        heads.append("instructions/request")
        columns.append((lambda row: row.instructions, 0))
    return heads, columns


def _cell(rows: Sequence[Row], name: str, case: Case, read: Callable[[Row], float | None], digits: int) -> str:
    found = spread(read(row) for row in rows if row.gateway == name and row.case == case)
    return found.show(digits) if found else ""


def _title(case: Case) -> str:
    kind = "JSON answers" if case.mode == "json" else "SSE answers of 64 chunks"
    return f"{kind}, {case.connections} connection{'s' if case.connections > 1 else ''}"


def _starts(rounds: Sequence[Round], names: Sequence[str]) -> str:
    reads: list[Callable[[Start], float | None]] = [lambda s: s.ready_s, lambda s: s.answer_s, lambda s: s.cpu_s]
    lines = []
    for name in names:
        starts = [part.start for part in rounds if part.gateway == name and part.start and part.start.answer_s]
        values = [spread(read(start) for start in starts) for read in reads]
        if starts:
            lines.append([name, *(value.show(2) if value else "" for value in values)])
    return table(["gateway", "ready", "first answer", "CPU s by then"], lines)


def _disturbance(rows: Sequence[Row]) -> list[str]:
    """A warning when other processes took part of the cores; CPU per request bears that, times do not."""
    others = spread(row.others * 100 for row in rows)
    if others is None or others.most < _BUSY_PERCENT:
        return []
    return [f"BUSY     other processes took {others.show(0)} % of the two cores: trust CPU per request, not the times"]


def _invalid(rounds: Sequence[Round]) -> list[Row]:
    return [row for part in rounds for row in part.rows if row.invalid]


def _ratio_text(found: Spread | None) -> str:
    return found.show(4 if found.median < 0.1 else 2) if found else "not measured"


def _added_text(found: Spread | None, digits: int = 3) -> str:
    return found.show(digits) if found else "not measured"
