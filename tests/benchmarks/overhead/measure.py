"""One gateway, one round: started, checked, loaded in each case; what it took per request. Prints nothing."""

import contextlib
import http.client
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from tests.benchmarks.overhead import instructions
from tests.benchmarks.overhead.gateways import DIRECT, Entry, Gateway
from tests.benchmarks.overhead.load import (
    PATH,
    Load,
    Stub,
    await_ok,
    drive,
    fetch,
    request_body,
    stub,
    wrong_answer,
)
from tests.benchmarks.overhead.machine import (
    BenchmarkError,
    Cores,
    beside_s,
    core_time,
    cpu_s,
    rss_mb,
    running,
    tree,
    wait_quiet,
)
from tests.benchmarks.overhead.results import Case, Mode, Round, Row, Start

_START_LIMIT_S = 60
_DRAIN_LIMIT_S = 30
_WARM_UP_S = 1
_LONGEST_S = 20
_REQUESTS_A_CONNECTION = 4
"""A run lasts long enough for this many, up to `_LONGEST_S`, so that answers cut off at its end hardly count."""
_BYTES_AN_ANSWER: dict[Mode, int] = {"json": 400, "sse": 8000}
"""Fewer than any honest answer has, more than an error has."""


@dataclass(frozen=True)
class Plan:
    """How every gateway is measured."""

    cores: Cores
    cases: tuple[Case, ...]
    seconds: int
    chunk_delay_ms: int = 0
    count_instructions: bool = False


@dataclass(frozen=True)
class Running:
    """A gateway that serves."""

    gateway: Gateway
    pid: int
    upstream: Stub
    start: Start


@contextlib.contextmanager
def serving(
    entry: Entry, cores: Cores, number: int, chunk_delay_ms: int = 0, under: Sequence[str] = ()
) -> Iterator[Running]:
    """The gateway in front of a fresh stub, from its first answer on; raises `BenchmarkError` with the end of its log.

    `under` is a profiler's command to run the gateway's under; it gets time to write what it found.
    """
    with (
        tempfile.TemporaryDirectory(prefix="overhead-") as folder,
        stub(cores.load, Path(folder), chunk_delay_ms) as up,
    ):
        run = Path(folder) / entry.name
        run.mkdir()
        gateway = entry.configure(up.port, run)
        log = run / "log"
        began = time.monotonic()
        command, patience_s = [*under, *gateway.command], 60 if under else 3
        with running(command, gateway.env, cores.gateway, log, patience_s) as pid:
            try:
                yield Running(gateway, pid, up, _await_start(gateway, pid, began, number))
            except BenchmarkError as exc:
                raise BenchmarkError(f"{exc}\n{_end(log)}".rstrip()) from exc


def measure(entry: Entry, plan: Plan, number: int, progress: Callable[[str], None]) -> Round:
    """All cases of `plan` on a freshly started gateway."""
    try:
        with serving(entry, plan.cores, number, plan.chunk_delay_ms) as live:
            rows = []
            _use_every_key(live, progress)
            for case in plan.cases:
                progress(f"{entry.name}: {case}")
                rows.append(_row(live, case, plan, number, *_warm(live, case, plan.seconds)))
            return _round(live, rows)
    except BenchmarkError as exc:
        return Round(entry.name, None, (), str(exc))


def in_turns(entries: Sequence[Entry], plan: Plan, turns: int, progress: Callable[[str], None]) -> list[Round]:
    """One round of each gateway, all running at once and loaded one after the other, `plan.seconds` each, many times.

    The rows of a turn lie seconds apart, so that their differences bear a machine whose speed wanders by the minute.
    """
    with contextlib.ExitStack() as stack:
        lives = [stack.enter_context(serving(entry, plan.cores, 0, plan.chunk_delay_ms)) for entry in entries]
        for live in lives:
            _use_every_key(live, progress)
        rows: dict[str, list[Row]] = {live.gateway.name: [] for live in lives}
        for case in plan.cases:
            wrong = {live.gateway.name: _warm(live, case, plan.seconds)[0] for live in lives}
            for turn in range(1, turns + 1):
                progress(f"turn {turn} of {turns}, {', '.join(rows)}: {case}")
                for i in range(len(lives)):
                    live = lives[(i + turn) % len(lives)]
                    name = live.gateway.name
                    rows[name].append(_row(live, case, plan, turn, wrong[name], plan.seconds))
        return [_round(live, rows[live.gateway.name]) for live in lives]


def measure_direct(plan: Plan, number: int, progress: Callable[[str], None]) -> Round:
    """The stub alone: its own CPU time, and the requests/s that no gateway can exceed here."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        with stub(plan.cores.load, Path(folder), plan.chunk_delay_ms) as up:
            start = Start(DIRECT, number, None, 0.0, 0.0)
            live = Running(Gateway(DIRECT, (), up.port), up.pid, up, start)
            rows = []
            for case in plan.cases:
                progress(f"{DIRECT}: {case}")
                rows.append(_row(live, case, plan, number, *_warm(live, case, plan.seconds)))
            return Round(DIRECT, start, tuple(rows))


def seconds_for(connections: int, rps: float, least: int) -> int:
    """How long a case runs at a rate of `rps` (0: unknown, very slow)."""
    wanted = _REQUESTS_A_CONNECTION * connections / rps if rps else _LONGEST_S
    return max(least, min(_LONGEST_S, round(wanted)))


def _await_start(gateway: Gateway, pid: int, began: float, number: int) -> Start:
    ready_s = None
    if gateway.ready_path is not None:
        await_ok(pid, gateway.port, gateway.ready_path, _START_LIMIT_S)
        ready_s = time.monotonic() - began
    await_ok(pid, gateway.port, PATH, _START_LIMIT_S, request_body("json"), gateway.headers)
    return Start(gateway.name, number, ready_s, time.monotonic() - began, cpu_s(pid))


def _use_every_key(live: Running, progress: Callable[[str], None]) -> None:
    """Where there are many: the first use of each one's budget asks the ledger, once a day."""
    gateway = live.gateway
    if gateway.credentials is None:
        return
    keys = len(gateway.credentials.read_text().splitlines())
    case, cpu = Case("json", 32), cpu_s(live.pid)
    first = _drive(live, case, _WARM_UP_S)
    each_us = (cpu_s(live.pid) - cpu) / max(1, first.requests) * 1e6
    progress(
        f"{gateway.name}: json c=32 takes {each_us:.0f} CPU us/request while all {keys:,} keys are used the first time"
    )
    _drive(live, case, math.ceil(keys / max(1.0, first.rps)))


def _warm(live: Running, case: Case, least: int) -> tuple[str, int]:
    """What is wrong with an answer, empty if nothing, and how many seconds to measure, after a first load unmeasured."""
    wrong = wrong_answer(live.gateway.port, case.mode, live.gateway.headers)
    warm_up = _drive(live, case, _WARM_UP_S)
    _settle(live)
    return wrong, seconds_for(case.connections, warm_up.rps, least)


def _drive(live: Running, case: Case, seconds: int) -> Load:
    gateway = live.gateway
    return drive(gateway.port, case.mode, case.connections, seconds, gateway.headers, gateway.credentials)


def _round(live: Running, rows: Sequence[Row]) -> Round:
    unrecorded = _unrecorded(live)
    return Round(live.gateway.name, live.start, tuple(_invalidated(r, unrecorded) if unrecorded else r for r in rows))


def _row(live: Running, case: Case, plan: Plan, number: int, wrong: str, seconds: int) -> Row:
    gateway, pid = live.gateway, live.pid
    before = _Reading.now(live, plan.cores)

    def work() -> Load:
        load = _drive(live, case, seconds)
        _settle(live)
        return load

    load, executed = instructions.counted(tree(pid), work) if plan.count_instructions else (work(), None)
    spent = _Reading.now(live, plan.cores).less(before)
    requests = max(1, spent.requests)
    return Row(
        gateway=gateway.name,
        case=case,
        round=number,
        requests=spent.requests,
        cpu_us=spent.cpu_s / requests * 1e6,
        beside_us=spent.beside_s / requests * 1e6,
        rps=load.rps,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        rss_mb=rss_mb(pid),
        softirq_us=spent.interrupts_s / requests * 1e6,
        others=max(0.0, spent.others_s / (2 * spent.at_s)),
        instructions=executed / requests if executed is not None else None,
        invalid=wrong or load.faults or _short(load, case.mode),
    )


@dataclass(frozen=True)
class _Reading:
    """The counters that only go up, at one moment."""

    at_s: float
    requests: int
    cpu_s: float
    beside_s: float
    interrupts_s: float
    others_s: float

    @classmethod
    def now(cls, live: Running, cores: Cores) -> "_Reading":
        """`others_s` is what both cores ran less what this program and all that it started did."""
        requests = live.upstream.counts()[0]
        direct = live.pid == live.upstream.pid
        core = core_time(cores, cores.load if direct else cores.gateway)
        others_s = core.processes_s - cpu_s(os.getpid())
        return cls(time.monotonic(), requests, cpu_s(live.pid), beside_s(live.pid), core.interrupts_s, others_s)

    def less(self, before: "_Reading") -> "_Reading":
        """What came between."""
        return _Reading(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def _settle(live: Running) -> None:
    """Waits until what wrk left unanswered at its end is done with, so that it is counted where it belongs."""
    end = time.monotonic() + _DRAIN_LIMIT_S
    while live.upstream.counts()[1] and time.monotonic() < end:
        time.sleep(0.05)
    wait_quiet(live.pid, max(0.0, end - time.monotonic()))


def _short(load: Load, mode: Mode) -> str:
    mean = load.bytes / max(1, load.requests)
    return f"{mean:.0f} bytes an answer" if mean < _BYTES_AN_ANSWER[mode] else ""


def _unrecorded(live: Running) -> str:
    """What is missing from the gateway's own records, for one that says that it keeps them."""
    if live.gateway.answered is None:
        return ""
    sent, _ = live.upstream.counts()
    try:
        _, text = fetch(live.gateway.port, "GET", "/metrics")
    except (OSError, http.client.HTTPException) as exc:
        return f"/metrics does not answer: {exc!r}"
    samples = re.findall(rf"^{live.gateway.answered}(?:{{.*}})? (\S+)$", text.decode(), re.MULTILINE)
    recorded = sum(map(float, samples))
    return f"recorded {recorded:.0f} of {sent} requests" if recorded < sent else ""


def _invalidated(row: Row, why: str) -> Row:
    return replace(row, invalid=row.invalid or why)


def _end(log: Path) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join(f"    {line}" for line in lines[-8:])
