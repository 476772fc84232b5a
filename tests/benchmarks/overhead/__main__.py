"""Gateways side by side in front of one stub: CPU per request, requests/s, latency, memory, start. docs/benchmarks.md.

    python -m tests.benchmarks.overhead [--peers DIR] [--only NAME,NAME] [--rounds 3] [--seconds 5] [--json FILE]
    python -m tests.benchmarks.overhead --soak 200000
    python -m tests.benchmarks.overhead --hold json --seconds 60

Exit status: 0 when every goal that could be measured is met, 1 for a MISS or rows that are not valid, 2 when it
cannot run.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

from tests.benchmarks.overhead import instructions, report, soak
from tests.benchmarks.overhead.gateways import DIRECT, FARTHING, WITH_BOOKS, Entry, entries
from tests.benchmarks.overhead.load import drive
from tests.benchmarks.overhead.machine import BenchmarkError, Cores, check_machine, cpu_s, describe
from tests.benchmarks.overhead.measure import Plan, in_turns, measure, measure_direct, serving
from tests.benchmarks.overhead.results import Case, Round

_BEGAN = time.monotonic()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the arguments ask for and returns the exit status."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        check_machine(arguments.cores)
        os.sched_setaffinity(0, {arguments.cores.load})
        known = entries(arguments.peers.resolve(), arguments.farthing)
        command = _soak if arguments.soak else _hold if arguments.hold else _compare
        return command(arguments, known)
    except BenchmarkError as exc:
        sys.stderr.write(f"overhead: {exc}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.overhead",
        description=(__doc__ or "").splitlines()[0],
    )
    add = parser.add_argument
    peers = Path(os.environ.get("PEERS") or "peers")
    add("--peers", type=Path, default=peers, metavar="DIR", help=f"where the peers are installed [$PEERS, now {peers}]")
    add("--farthing", type=Path, metavar="PATH", help="the `farthing` command [.venv/bin/farthing, else by PATH]")
    add("--only", type=_names, metavar="NAME,...", help=f"these alone; `{DIRECT}` is the stub with nothing before it")
    add("--rounds", type=_positive, default=3, help="times that each gateway is started and measured [3]")
    add("--turns", type=_positive, default=20, help="turns of 1 s in which the books' cost is measured [20]")
    add("--seconds", type=_positive, default=5, help="length of each measurement; slow gateways get more [5]")
    add("--connections", type=_positive, default=32, help="connections of the cases with many [32]")
    add("--chunk-delay-ms", type=int, default=0, metavar="MS", help="pause of the stub between two SSE chunks [0]")
    add("--cores", type=_cores, default=Cores(0, 1), metavar="GATEWAY,LOAD", help="cores to pin to [0,1]")
    add("--json", type=Path, metavar="FILE", help="write every figure of every round there as well")
    add("--soak", type=_positive, metavar="REQUESTS", help="memory over so many requests to the first of --only")
    add("--hold", choices=("json", "sse"), help="only serve and load the first of --only, for a profiler to look at")
    add("--under", type=shlex.split, default=[], metavar="COMMAND", help="with --hold: a profiler to start it under")
    return parser


def _compare(arguments: argparse.Namespace, known: dict[str, Entry]) -> int:
    many = arguments.connections
    counting = instructions.supported()
    cases = (Case("json", many), Case("sse", many), Case("json", 1), Case("sse", 1))
    plan = Plan(arguments.cores, cases, arguments.seconds, arguments.chunk_delay_ms, counting)
    names, versions = _chosen(arguments.only, known)
    _say_setting(versions, plan)
    rounds = _rounds(names, known, plan, arguments.rounds)
    turns = _turns(names, known, replace(plan, cases=(cases[0], cases[2]), seconds=1), arguments.turns)
    goals = report.goals(rounds, turns, many)
    print(f"\n{report.figures(rounds, cases)}\n\n{report.ratios(rounds, cases)}\n")
    if turns:
        print(f"{report.books(turns, (cases[0], cases[2]))}\n")
    print("\n".join(map(str, goals)), flush=True)
    if arguments.json:
        _write(arguments.json, {"versions": versions, "rounds": rounds, "turns": turns, "goals": goals})
    ours = [
        part for part in (*rounds, *turns) if part.gateway == FARTHING
    ]  # a peer that fails is shown, and its goals skipped
    broken = any(part.failed or any(row.invalid for row in part.rows) for part in ours)
    return 1 if broken or any(goal.verdict == "MISS" for goal in goals) else 0


def _soak(arguments: argparse.Namespace, known: dict[str, Entry]) -> int:
    entry, versions = _one(arguments, known)
    with serving(entry, arguments.cores, 0) as live:
        found = soak.soak(live, arguments.soak, seed=1, progress=_progress)
    goal = soak.goal(found)
    print(f"\n{entry.name} {versions[entry.name]}, {found.hung_up:,} callers hung up\n\n{soak.show(found)}\n\n{goal}")
    if arguments.json:
        _write(arguments.json, {"versions": versions, "soak": found, "goals": [goal]})
    return 0 if goal.verdict == "PASS" else 1


def _hold(arguments: argparse.Namespace, known: dict[str, Entry]) -> int:
    mode, many, seconds = arguments.hold, arguments.connections, arguments.seconds
    entry, _ = _one(arguments, known)
    with serving(entry, arguments.cores, 0, arguments.chunk_delay_ms, arguments.under) as live:
        gateway = live.gateway
        drive(gateway.port, mode, many, 1, gateway.headers, gateway.credentials)
        (before, _), cpu = live.upstream.counts(), cpu_s(live.pid)
        print(f"{entry.name} is process {live.pid}, under load for {seconds} s: {mode} c={many}", flush=True)
        load = drive(gateway.port, mode, many, seconds, gateway.headers, gateway.credentials)
        requests = live.upstream.counts()[0] - before
        used_us = (cpu_s(live.pid) - cpu) / max(1, requests) * 1e6
    print(f"{requests:,} requests, {used_us:.1f} CPU us/request, {load.rps:,.0f}/s {load.faults}".rstrip())
    print(f"{before + requests:,} requests since the start")
    return 1 if load.faults else 0


def _one(arguments: argparse.Namespace, known: dict[str, Entry]) -> tuple[Entry, dict[str, str]]:
    """The first of --only, else farthing, and its version."""
    names, versions = _chosen((arguments.only or [FARTHING])[:1], known)
    if names[0] not in known:
        raise BenchmarkError(f"needs a gateway, not {names[0]}")
    return known[names[0]], versions


def _chosen(only: list[str] | None, known: dict[str, Entry]) -> tuple[list[str], dict[str, str]]:
    """The gateways to run, in order, and their versions. Raises `BenchmarkError` for one asked for but not here."""
    unknown = [name for name in only or () if name != DIRECT and name not in known]
    if unknown:
        raise BenchmarkError(f"no gateway {', '.join(unknown)}; known: {', '.join([DIRECT, *known])}")
    names, versions = [], {}
    for name in only or [DIRECT, *known]:
        version = known[name].find() if name != DIRECT else ""
        if version is None and only:
            raise BenchmarkError(f"{name} is not installed: {known[name].install}")
        if version is None:
            print(f"{name} is not installed and left out: {known[name].install}", flush=True)
        else:
            names.append(name)
            versions[name] = version
    return names, versions


def _rounds(names: list[str], known: dict[str, Entry], plan: Plan, count: int) -> list[Round]:
    """Each gateway once a round, in another order each time, so that what disturbs the machine hits all alike."""
    rounds = []
    for number in range(1, count + 1):
        first = (number - 1) % len(names)
        for name in names[first:] + names[:first]:

            def progress(text: str, number: int = number) -> None:
                _progress(f"round {number} of {count}, {text}")

            progress(f"{name}: starting")
            part = (
                measure(known[name], plan, number, progress)
                if name in known
                else measure_direct(plan, number, progress)
            )
            rounds.append(part)
            if part.failed:
                _progress(f"{name}: {part.failed}")
    order = {name: i for i, name in enumerate(names)}
    return sorted(rounds, key=lambda part: (order[part.gateway], part.rows[0].round if part.rows else 0))


def _turns(names: list[str], known: dict[str, Entry], plan: Plan, count: int) -> list[Round]:
    """Farthing with books and without, in turns; nothing when both were not asked for."""
    chosen = [known[name] for name in (FARTHING, *WITH_BOOKS) if name in names]
    return in_turns(chosen, plan, count, _progress) if FARTHING in names and len(chosen) > 1 else []


def _say_setting(versions: dict[str, str], plan: Plan) -> None:
    machine = ", ".join(f"{name} {value}" for name, value in describe().items())
    print(f"{machine}; gateway on core {plan.cores.gateway}, stub and load on core {plan.cores.load}")
    print(", ".join(f"{name} {version}".strip() for name, version in versions.items()), flush=True)


def _progress(text: str) -> None:
    sys.stderr.write(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}\n")
    sys.stderr.flush()


def _write(path: Path, found: dict[str, object]) -> None:
    """Everything as JSON, data classes as objects."""
    text = json.dumps({"machine": describe(), **found}, default=asdict, indent=1)
    path.write_text(text + "\n")


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _cores(text: str) -> Cores:
    with contextlib.suppress(ValueError):
        gateway, load = map(int, text.split(","))
        return Cores(gateway, load)
    raise argparse.ArgumentTypeError("must be two numbers: GATEWAY,LOAD")


def _terminate(_: int, __: FrameType | None) -> None:
    """Leaves by way of every `finally`, so that no gateway is left running."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
