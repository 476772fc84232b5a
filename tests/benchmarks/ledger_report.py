"""How long a report takes on a ledger of millions of requests in SQLite, and how large that is. docs/ledger.md.

    python -m tests.benchmarks.ledger_report [--rows 10000000] [--days 30] [--into DIR] [--verify 1000000]

Makes the rows (50 tenants x 20 routes x 10 models, some of each busier than others) and their roll-ups as the gateway's
writer would, in a folder that is removed again. Exit status 1 when a report took longer than the goal.
"""

import argparse
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.core.exchange import RequestRecord, Savings, Usage
from gateway.database import open_database
from gateway.ledger.rows import DAY_S, DIMENSIONS, HOUR_S, MEASURES, Row, closed, group, measures
from gateway.ledger.schema import migrate
from tests.support.records import attempt, record

GOAL_S = 2.0
FORMATS = ("table", "csv", "json", "parquet")
TENANTS, ROUTES, MODELS, KEYS = 50, 20, 10, 4
_VERIFY = """
import sys
from gateway.cli import main
status = main(["ledger", "verify"])
with open("/proc/self/status") as file:
    print(*(line.split()[1] for line in file if line.startswith("VmHWM:")))
sys.exit(status)
"""
TEMPLATES = 100_000
"""Different requests; the others repeat them at another time."""


def main() -> int:
    """Makes the ledger, asks it, prints figures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.ledger_report", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="requests [%(default)s]")
    parser.add_argument("--days", type=int, default=30, help="days that they are spread over [%(default)s]")
    parser.add_argument("--into", type=Path, metavar="DIR", help="where the database is made [the temporary folder]")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="ask this one instead, and keep it")
    parser.add_argument(
        "--verify",
        type=int,
        default=1_000_000,
        metavar="ROWS",
        help="how many `verify` reads, 0 for none [%(default)s]",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farthing-ledger-", dir=arguments.into) as folder:
        path = arguments.ledger or Path(folder) / "ledger.db"
        if arguments.ledger is None:
            make(path, arguments.rows, arguments.days)
        print(sizes(path))
        worst = [time_reports(path, since, name) for since in ("7d", "30d") for name in FORMATS]
        if arguments.verify:
            few = Path(folder) / "few.db"
            make(few, arguments.verify, arguments.days)
            time_verify(few, arguments.verify)
    slowest = max(worst)
    met = slowest < GOAL_S
    print(f"{'PASS' if met else 'MISS'}  a report answers in less than {GOAL_S:g} s: the slowest took {slowest:.2f} s")
    return int(not met)


def make(path: Path, rows: int, days: int) -> None:
    end_s = time.time()
    fill(path, rows, end_s - days * DAY_S, end_s)


def fill(path: Path, rows: int, since_s: float, until_s: float) -> None:
    """Rows in the order of time, their roll-ups hour by hour, the budgets at the end."""
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    database.close()
    dice = random.Random(1)
    templates = [template(dice) for _ in range(TEMPLATES)]
    began = time.monotonic()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN")
    insert = f"INSERT INTO requests VALUES ({', '.join('?' * len(Row._fields))})"
    step = (until_s - since_s) / rows
    numbers = iter(range(rows))
    days: dict[tuple, list[int]] = {}
    spent: dict[str, int] = {}
    done = 0
    for hour in range(int(since_s // HOUR_S), int(until_s // HOUR_S) + 1):
        ending = min(until_s, (hour + 1) * HOUR_S)
        count = min(rows, int((ending - since_s) / step + 0.5)) - done
        chosen = dice.choices(templates, k=count)
        connection.executemany(insert, timed(chosen, numbers, since_s, step))
        add_hour(connection, hour * HOUR_S, chosen, days, spent)
        done += count
        if hour % 24 == 23:
            flush_days(connection, days)
            say(f"{done:,} of {rows:,} rows, {done / (time.monotonic() - began):,.0f} a second")
    flush_days(connection, days)
    connection.executemany("INSERT INTO spend VALUES (?, ?, 0)", spent.items())
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    say(f"{rows:,} rows in {time.monotonic() - began:,.0f} s\n")


def template(dice: random.Random) -> tuple[Row, tuple[int, ...], tuple[str, ...]]:
    """One request: the first tenants, routes and models are the busiest; an application has a key and some routes."""
    tenant, route, model = (int(most * dice.random() ** 2) for most in (TENANTS, ROUTES, MODELS))
    usage = Usage(dice.randrange(100, 8000), dice.randrange(4000), output=dice.randrange(20, 1200))
    cost = usage.uncached_input * (model + 1) // 8 + usage.output * (model + 1)
    savings = Savings(baseline=cost * 3, routing=cost * 2) if dice.random() < 0.7 else None
    made: RequestRecord = record(
        tenant=f"tenant-{tenant:02}",
        key=f"key-{tenant:02}-{route % KEYS}",
        route=f"route-{route:02}",
        policy="0123456789abcdef",
        model=f"model-{model:02}",
        target=f"target-{model:02}",
        provider="anthropic" if model % 3 == 2 else "openai_compatible",
        outcome=dice.choices(("ok", "client_disconnect", "upstream_error"), (97, 2, 1))[0],
        cache="off" if route % 5 else dice.choices(("miss", "hit"), (3, 1))[0],
        usage=usage,
        cost_micro_usd=cost,
        savings=savings,
        attempts=(attempt(cost_micro_usd=cost, usage=usage),),
        ttft_s=dice.randrange(100, 900) / 1000,
        duration_s=dice.randrange(500, 9000) / 1000,
        windows=(f"tenant:tenant-{tenant:02}/total@0",),
        admitted=True,
        reserved_micro_usd=cost * 2,
    )
    row = closed(made).row
    return row, measures([row]), made.windows


def timed(chosen: list, numbers: Iterator[int], since_s: float, step: float) -> Iterator[tuple]:
    """Rows with ids and times of their own."""
    for (row, _, _), number in zip(chosen, numbers, strict=False):
        started = since_s + (number + 0.5) * step
        yield (f"{int(started * 1000):012x}{number:020x}", started, started + row.duration_s, *row[3:])


def add_hour(connection: sqlite3.Connection, hour: int, chosen: list, days: dict, spent: dict[str, int]) -> None:
    """Writes the roll-up of an hour, and counts it in its day."""
    sums: dict[tuple, list[int]] = {}
    for row, amounts, windows in chosen:
        at = group(row)[1:]
        kept = sums.get(at)
        sums[at] = list(amounts) if kept is None else [a + b for a, b in zip(kept, amounts, strict=True)]
        for window in windows:
            spent[window] = spent.get(window, 0) + row.charged_micro
    marks = ", ".join("?" * (1 + len(DIMENSIONS) + len(MEASURES)))
    connection.executemany(
        f"INSERT INTO rollup_hour VALUES ({marks})", [(hour, *at, *amounts) for at, amounts in sorted(sums.items())]
    )
    for at, amounts in sums.items():
        key = (hour // DAY_S * DAY_S, *at)
        kept = days.get(key)
        days[key] = amounts if kept is None else [a + b for a, b in zip(kept, amounts, strict=True)]


def flush_days(connection: sqlite3.Connection, days: dict) -> None:
    marks = ", ".join("?" * (1 + len(DIMENSIONS) + len(MEASURES)))
    connection.executemany(
        f"INSERT INTO rollup_day VALUES ({marks})", [(*at, *amounts) for at, amounts in sorted(days.items())]
    )
    days.clear()


def sizes(path: Path) -> str:
    """What the ledger holds, and how large it is a request, with its roll-ups and without."""
    connection = sqlite3.connect(path)
    tables = ("requests", "rollup_hour", "rollup_day")
    counts = {table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}
    connection.close()
    size = path.stat().st_size
    a_million = size / counts["requests"]
    return f"{size / 1e9:.2f} GB, {a_million:,.0f} MB a million requests: " + ", ".join(
        f"{number:,} rows in {table}" for table, number in counts.items()
    )


def time_reports(path: Path, since: str, name: str) -> float:
    """The command from start to end, once from a cold page cache and three times more; the fastest of these, in seconds."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    output = path.parent / f"report.{name}"
    words = ["report", "--by", "tenant,route,model", "--since", since, "--format", name, "--output", str(output)]
    environment = {**os.environ, "FARTHING_DATABASE": f"sqlite:///{path.absolute()}"}
    took, used = [], []
    for _ in range(4):
        began, before = time.monotonic(), cpu_s()
        subprocess.run([sys.executable, "-m", "gateway.cli", "ledger", *words], check=True, env=environment)
        took.append(time.monotonic() - began)
        used.append(cpu_s() - before)
    output.unlink()
    warm = min(took[1:])
    print(
        f"ledger report --by tenant,route,model --since {since:>3} --format {name:7}: {warm:.2f} s"
        f" (CPU {min(used):.2f} s), {took[0]:.2f} s from a cold cache",
        flush=True,
    )
    return warm


def cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def time_verify(path: Path, rows: int) -> None:
    environment = {
        **os.environ,
        "FARTHING_DATABASE": f"sqlite:///{path.absolute()}",
        "FARTHING_DATA_DIR": f"{path.parent}",
    }
    began, before = time.monotonic(), cpu_s()
    said = subprocess.run(
        [sys.executable, "-c", _VERIFY], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    took, used = time.monotonic() - began, cpu_s() - before
    memory = int(said.stdout.split()[-1]) / 1024
    print(f"ledger verify over {rows:,} rows: {took:.1f} s (CPU {used:.1f} s), {memory:.0f} MB at most")


def say(text: str) -> None:
    sys.stderr.write(f"\r{text}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
