"""What the ledger costs: the journal per request, the writer per row, the database per million requests.

`python -m tests.benchmarks.ledger_write [--rows N] [--folder DIR]`; CPU seconds are those of the calling thread.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.clock import SystemClock
from gateway.database import Database, open_database
from gateway.ledger.journal import Journal
from gateway.ledger.rows import build
from gateway.ledger.store import LedgerStore
from gateway.ledger.writer import LedgerWriter
from tests.support.ledger import admission, traffic
from tests.support.postgres_server import postgres_server

GOAL_US = 12.0


def cpu_us(count: int, act: Callable[[], None]) -> float:
    """Best of three: microseconds of CPU per item."""
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        act()
        best = min(best, time.thread_time() - start)
    return best / count * 1e6


def journal(folder: Path, count: int) -> tuple[float, float]:
    """Microseconds of CPU to admit and close one request, and the bytes that it takes."""
    pairs = [(admission(number), record) for number, record in enumerate(traffic(count))]
    journal = Journal(folder)
    journal.recover()
    rounds = 0

    def act() -> None:
        nonlocal rounds
        rounds += 1
        for admitted, record in pairs:
            journal.admit(admitted)
            journal.close(record)

    try:
        cost_us = cpu_us(count, act)
        return cost_us, journal.size_bytes / (rounds * count)
    finally:
        journal.shut()


def slowest_ms(folder: Path, count: int) -> tuple[float, float]:
    """The 99.9th percentile and the longest of single writes while another thread syncs the files."""
    store = LedgerStore(open_database(f"sqlite:///{folder}/beside.db"))
    store.migrate()
    writer = LedgerWriter(Journal(folder / "beside"), store, SystemClock())
    writer.replay()
    writer.start()
    took = []
    for record in traffic(count, seed=2):
        start = time.perf_counter()
        writer.close(record)
        took.append(time.perf_counter() - start)
        if len(took) % 100 == 0:
            time.sleep(0.02)
    writer.drain(60)
    took.sort()
    return took[int(len(took) * 0.999)] * 1e3, took[-1] * 1e3


def store_rows(url: str, count: int, size: Callable[[Database], int]) -> None:
    """Rows of one day into an empty database, in batches of 500."""
    database = open_database(url, timeout_s=60)
    store = LedgerStore(database)
    store.migrate()
    records = traffic(count)
    cpu, wall, building = time.process_time(), time.perf_counter(), 0.0
    for start in range(0, count, 500):
        began = time.thread_time()
        charges = build(records[start : start + 500], 50, lambda: None)
        building += time.thread_time() - began
        store.insert(charges)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    bytes_each = size(database) / count
    name = database.dialect
    database.close()
    print(f"{name}: {cpu / count * 1e6:.1f} us CPU per row (of it {building / count * 1e6:.1f} us building the row)")
    print(f"{name}: {count / wall:,.0f} rows/s, one commit per 500 rows")
    print(f"{name}: {bytes_each:,.0f} bytes per request, {bytes_each:,.0f} MB per million requests")


def sqlite_bytes(database: Database) -> int:
    """Pages in use, also those that are in the write-ahead log."""
    return int(database.query("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")[0][0])


def postgres_bytes(database: Database) -> int:
    """Tables with their indexes; what an empty database holds is left out."""
    tables = ("requests", "rollup_hour", "rollup_day", "spend")
    return sum(int(database.query("SELECT pg_total_relation_size(?)", (table,))[0][0]) for table in tables)


def main() -> int:
    """Prints figures; exit status 1 when the journal costs more than the goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ledger_write")
    parser.add_argument("--rows", type=int, default=50_000, help="requests of each part [%(default)s]")
    parser.add_argument("--folder", type=Path, default=None, metavar="DIR", help="on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        cost_us, bytes_each = journal(folder / "journal", options.rows)
        print(f"journal: {cost_us:.1f} us CPU per request (admit and close)")
        print(f"journal: {bytes_each:,.0f} bytes per request, {bytes_each:,.0f} MB per million until they are stored")
        p999, longest = slowest_ms(folder, options.rows // 4)
        print(f"journal: close beside the running writer: p99.9 {p999:.2f} ms, longest {longest:.2f} ms")
        store_rows(f"sqlite:///{folder}/ledger.db", options.rows, sqlite_bytes)
    try:
        with postgres_server() as server, server.database() as url:
            store_rows(url, options.rows, postgres_bytes)
    except pytest.skip.Exception as exc:
        print(f"SKIP  PostgreSQL: {exc}")
    met = cost_us <= GOAL_US
    print(f"{'PASS' if met else 'MISS'}  the journal costs at most {GOAL_US:g} us CPU per request: {cost_us:.1f} us")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
