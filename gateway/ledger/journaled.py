"""Checks that what the journals say was accepted has its row; reads them beside a running gateway and locks nothing.

An end before its folder's checkpoint must have a row; one behind it may still be on its way to the database, and a
request without an end is under way (or waits for the next start, when its gateway was killed).
"""

import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from gateway.core.exchange import RequestRecord
from gateway.core.money import usd
from gateway.database import Database
from gateway.ledger.check import Check
from gateway.ledger.entry import ADMITTED
from gateway.ledger.journal import _OFFSET_BITS
from gateway.ledger.rows import Row, charge
from gateway.ledger.segment import Reading
from gateway.ledger.table import count

BATCH = 500


def check_journal(database: Database, folder: Path) -> Check:
    """Looks for the row of every request in the journals below `folder`. Raises `DatabaseError`."""
    check = Check("every accepted request has its row, charged as it ended", "journaled requests")
    under_way: dict[str, None] = {}
    waiting = 0
    for place in sorted({path.parent for path in folder.rglob("[0-9]*.journal")}):
        floor = _checkpoint(place)
        for segment in sorted(place.glob("[0-9]*.journal")):
            ends = _ends(segment, under_way, check)
            while batch := list(islice(ends, BATCH)):
                waiting += _look_up(database, batch, floor, check)
    open_ids = list(under_way)
    settled = 0
    for start in range(0, len(open_ids), BATCH):
        settled += len(_stored(database, open_ids[start : start + BATCH]))
    check.checked += settled
    if under_way:
        check.notes.append(f"{count(len(under_way) - settled)} requests are under way or were cut off by a crash")
    if waiting:
        check.notes.append(f"{count(waiting)} ended requests wait to be written; a gateway writes them when it starts")
    return check


def _ends(path: Path, under_way: dict[str, None], check: Check) -> Iterator[tuple[int, Row]]:
    """The rows that the ends in a segment ask for, each with its position; keeps book of what is under way."""
    try:
        reading = Reading(path)
    except FileNotFoundError:  # settled and deleted by its gateway meanwhile
        return
    number = int(path.stem) << _OFFSET_BITS
    for entry in reading:
        value = entry.decode()
        if value is None:
            check.fail(f"{path.name} byte {entry.offset}: an entry that this version cannot read")
        elif entry.kind == ADMITTED:
            under_way[value.request_id] = None
        else:
            under_way.pop(value.request_id, None)
            if not isinstance(value, RequestRecord) or value.admitted:
                yield number | entry.end, charge(value).row
    if reading.skipped:
        check.fail(f"{path.name}: {count(reading.skipped)} damaged bytes, their entries are lost")
    if reading.torn:
        check.notes.append(f"{path.name}: {count(reading.torn)} bytes of an unfinished entry at its end")


def _look_up(database: Database, batch: list[tuple[int, Row]], floor: int, check: Check) -> int:
    """Compares ends with their rows; how many wait to be written."""
    stored = _stored(database, [row.request_id for _, row in batch])
    waiting = 0
    for position, row in batch:
        found = stored.get(row.request_id)
        if found is None:
            if position > floor:
                waiting += 1
                continue
            check.fail(f"{row.request_id}: accepted, ended, and without a row")
        elif found != (row.charged_micro, row.outcome):
            kept = f"{usd(found[0])} USD, {found[1]}"
            check.fail(f"{row.request_id}: ended as {usd(row.charged_micro)} USD, {row.outcome}; its row says {kept}")
        check.checked += 1
    return waiting


def _stored(database: Database, ids: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    asked = list(ids)
    marks = ", ".join("?" * len(asked))
    sql = f"SELECT request_id, charged_micro, outcome FROM requests WHERE request_id IN ({marks})"  # noqa: S608 - marks
    rows = database.query(sql, asked)
    return {row[0]: row[1:] for row in rows}


def _checkpoint(folder: Path) -> int:
    """The position before which everything is in the store; 0 where it cannot be read."""
    try:
        digits, checksum = (folder / "checkpoint").read_bytes().split()
        return int(digits) if zlib.crc32(digits) == int(checksum) else 0
    except (OSError, ValueError):
        return 0
