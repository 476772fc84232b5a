"""A gateway that is killed again and again at random moments still has one row for each request that it accepted."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from gateway.ledger.store import LedgerStore
from tests.support.ledger_sums import check

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
KILLS = 8


def live_and_die(url: str, folder: Path, first: int, seconds: float) -> list[list[str]]:
    """What it told before it was killed: `A id` and `C id`."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "running.py"), url, str(folder), str(first)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    told = [process.stdout.readline()]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        told.append(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    return [line.decode().split() for line in told if line.endswith(b"\n")]


def test_every_accepted_request_has_one_row_after_many_kills(url, open_ledger, open_writer, tmp_path):
    random = Random(7)
    told = []
    for life in range(KILLS):
        told += live_and_die(url, tmp_path / "journal", life * 1_000_000, random.random() * 0.6)
    admitted = {request_id for what, request_id in told if what == "A"}
    ended = {request_id for what, request_id in told if what == "C"}
    database = open_ledger(url)
    writer = open_writer(LedgerStore(database))
    writer.replay()
    assert writer.lag().rows == 0
    rows = database.query("SELECT request_id, outcome, charged_micro, usage_source FROM requests")
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == len(rows)
    assert len(admitted) > 100 * KILLS
    assert admitted <= set(found)
    assert len(set(found) - admitted) <= KILLS, "only what was written and not yet told"
    assert {found[request_id] for request_id in ended} == {("ok", 100, "reported")}
    crashed = [row for row in found.values() if row[0] == "crashed"]
    assert set(crashed) == {("crashed", 5000, "estimated")}
    assert len(found) - len(ended) - KILLS <= len(crashed) <= len(found) - len(ended)
    check(database)
