"""What the ledger costs: the journal per request, the writer per row, the database per million requests.

`python -m tests.benchmarks.ledger_write [--rows N] [--folder DIR]`; CPU seconds are those of the calling thread.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway.core.clock import SystemClock
from gateway.database import open_database
from gateway.ledger.journal import Journal
from gateway.ledger.rows import build
from gateway.ledger.store import LedgerStore
from gateway.ledger.writer import LedgerWriter
from tests.support.ledger import admission, traffic


def cpu_us(count: int, act: Callable[[], None]) -> float:
    """Best of three: microseconds of CPU per item."""
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        act()
        best = min(best, time.thread_time() - start)
    return best / count * 1e6


def journal_us(folder: Path, count: int) -> float:
    """Admit and close of one request, with the files synced beside it as the writer does."""
    pairs = [(admission(number), record) for number, record in enumerate(traffic(count))]
    journal = Journal(folder)
    journal.recover()

    def act() -> None:
        for admitted, record in pairs:
            journal.admit(admitted)
            journal.close(record)

    try:
        return cpu_us(count, act)
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


def store_rows(folder: Path, count: int) -> None:
    """Rows of one day into a fresh SQLite file, in batches of 500."""
    path = folder / "ledger.db"
    database = open_database(f"sqlite:///{path}")
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
    database.close()
    size = path.stat().st_size
    print(f"writer: {cpu / count * 1e6:.1f} us CPU per row (of it {building / count * 1e6:.1f} us building the row)")
    print(f"writer: {count / wall:,.0f} rows/s into SQLite, one commit per 500 rows")
    print(f"growth: {size / count:.0f} bytes per request, {size / count * 1e6 / 2**20:,.0f} MiB per million requests")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        print(f"journal: {journal_us(folder / 'journal', options.rows):.1f} us CPU per request (admit and close)")
        p999, longest = slowest_ms(folder, options.rows // 4)
        print(f"journal: close beside the running writer: p99.9 {p999:.2f} ms, longest {longest:.2f} ms")
        store_rows(folder, options.rows)


if __name__ == "__main__":
    main()
