"""The journal: nothing admitted is lost, nothing is admitted that could be lost, and it does not grow for ever."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from gateway.core.exchange import Admission
from gateway.ledger.entry import ADMITTED
from gateway.ledger.journal import Journal, JournalError
from gateway.ledger.segment import VERSION, Reading, header
from tests.support.ledger import admission, ended, request_id

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


def opened(folder: Path, **options) -> Journal:
    journal = Journal(folder, **options)
    journal.recover()
    return journal


def ends(journal: Journal, position: int = 0) -> list[str]:
    return [value.request_id for _, value in journal.ends(position) if value is not None]


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.journal"))


def abandon(journal: Journal) -> None:
    """What the end of a process does: nothing but closing its files."""
    for file in (journal._file, *journal._retired):
        if file is not None:
            file.close()
    os.close(journal._lock_fd)


def test_ends_are_told_in_their_order_over_segments(folder):
    journal = opened(folder, segment_bytes=2400)
    for number in range(20):
        journal.admit(admission(number))
        journal.close(ended(number))
    assert len(segments(folder)) > 3
    assert ends(journal) == [request_id(number) for number in range(20)]
    assert journal.under_way == 0
    journal.shut()


def test_ends_go_on_from_any_position(folder):
    journal = opened(folder, segment_bytes=2400)
    for number in range(20):
        journal.admit(admission(number))
        journal.close(ended(number))
    told = list(journal.ends(0))
    for index, (position, _) in enumerate(told):
        rest = [value for _, value in told[index + 1 :] if value is not None]
        assert [value for _, value in journal.ends(position) if value is not None] == rest
    assert told[-1] == (journal.position, None)
    journal.shut()


def test_the_position_of_an_end_is_one_from_which_it_is_told(folder):
    journal = opened(folder, segment_bytes=2400)
    for number in range(20):
        journal.admit(admission(number))
        assert ends(journal, journal.close(ended(number))) == [request_id(number)]
    journal.shut()


def test_what_had_not_ended_when_the_process_died_has_crashed(folder):
    journal = opened(folder, segment_bytes=2400)
    for number in range(20):
        journal.admit(admission(number))
        if number % 4:
            journal.close(ended(number))
    abandon(journal)
    after = Journal(folder)
    assert after.recover() == 5
    crashed = [value.request_id for _, value in after.ends(after.floor) if isinstance(value, Admission)]
    assert crashed == [request_id(number) for number in range(0, 20, 4)]
    assert len(ends(after)) == 20
    abandon(after)
    again = Journal(folder)
    assert again.recover() == 0, "they have ended, as crashed"
    again.shut()


def test_a_segment_goes_once_all_of_it_is_stored_and_ended(folder):
    journal = opened(folder, segment_bytes=2400)
    journal.admit(admission(0))
    for number in range(1, 20):
        journal.admit(admission(number))
        journal.close(ended(number))
    before = segments(folder)
    size = journal.size_bytes
    journal.settle(journal.position)
    assert segments(folder) == before, "request 0 is under way since the first"
    journal.close(ended(0))
    journal.settle(journal.position)
    assert segments(folder) == before[-1:]
    assert journal.size_bytes < size / 3
    journal.shut()


def test_nothing_stored_is_told_again_after_a_crash(folder):
    journal = opened(folder)
    for number in range(10):
        journal.admit(admission(number))
        position = journal.close(ended(number))
    journal.settle(position)
    abandon(journal)
    after = opened(folder)
    assert ends(after, after.floor) == [request_id(9)]
    after.shut()


def test_a_damaged_checkpoint_means_everything_again(folder):
    journal = opened(folder)
    journal.admit(admission(1))
    journal.close(ended(1))
    journal.admit(admission(2))
    journal.settle(journal.position)
    abandon(journal)
    checkpoint = folder / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"1", b"9", 1))
    after = opened(folder)
    assert ends(after, after.floor) == [request_id(1), request_id(2)]
    after.shut()


def test_a_journal_that_owes_nothing_leaves_nothing(folder):
    journal = opened(folder)
    journal.admit(admission(1))
    journal.close(ended(1))
    journal.settle(journal.position)
    journal.shut()
    assert segments(folder) == []
    after = opened(folder)
    after.admit(admission(2))
    assert ends(after, after.close(ended(2))) == [request_id(2)]
    assert ends(after, after.floor) == [request_id(2)]
    after.shut()


def test_a_journal_that_owes_something_keeps_it(folder):
    journal = opened(folder)
    journal.admit(admission(1))
    journal.close(ended(1))
    journal.shut()
    after = opened(folder)
    assert ends(after, after.floor) == [request_id(1)]
    after.shut()


def test_two_processes_never_share_a_folder(folder):
    journal = Journal(folder)
    with pytest.raises(JournalError, match=f"in use by process {os.getpid()}; fix: "):
        Journal(folder)
    journal.shut()
    Journal(folder).shut()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file/journal: Not a directory; fix: "):
        Journal(tmp_path / "file" / "journal")


def test_segments_of_another_version_are_not_touched(folder):
    folder.mkdir()
    path = folder / "00000001.journal"
    path.write_bytes(header(VERSION + 1) + b"what it may hold")
    with pytest.raises(JournalError, match="another version; fix: "):
        Journal(folder)
    assert path.exists()


def test_a_journal_that_is_full_admits_nothing_and_ends_everything(folder):
    journal = opened(folder, segment_bytes=2400, max_bytes=12_000)
    number = 0
    with pytest.raises(JournalError, match="fix: bring the database back") as refusal:
        while True:
            journal.admit(admission(number))
            number += 1
    assert (refusal.value.status, refusal.value.code, refusal.value.retryable) == (503, "ledger_unavailable", True)
    assert journal.refused == 1
    for ending in range(number):
        journal.close(ended(ending))
    assert ends(journal) == [request_id(ending) for ending in range(number)]
    journal.settle(journal.position)
    journal.admit(admission(number))
    journal.shut()


def test_a_full_disk_refuses_and_keeps_what_was_admitted(folder):
    done = subprocess.run(
        [sys.executable, str(HERE / "full_disk.py"), str(folder)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "fix: make room on its disk" in told["message"]
    assert told["unwritten"] == told["admitted"] - 1, "no end is lost for want of room"
    assert told["unwritten_after"] == 0
    assert told["under_way"] == 2
    journal = Journal(folder)
    assert journal.recover() == 2
    assert journal.damaged_bytes == 0, "nothing half written is left"
    assert len(ends(journal)) == told["admitted"] + 1
    journal.shut()


def mounted(folder: Path) -> bool:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        return subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_a_full_file_system_refuses_until_there_is_room(folder):
    if os.getuid() != 0 or not mounted(folder):
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        journal = opened(folder)
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(30_000))
        number = 0
        with pytest.raises(JournalError, match="fix: make room"):
            while True:
                journal.admit(admission(number))
                number += 1
        journal.close(ended(0))
        assert journal.unwritten == 1
        with pytest.raises(JournalError, match="fix: make room"):
            journal.admit(admission(number))
        abandon(journal)
        journal = opened(folder)
        assert journal.unwritten == number, "even their crash cannot be written yet"
        journal.settle(journal.position)
        ballast.unlink()
        assert journal.retry()
        assert ends(journal, journal.floor) == [request_id(n) for n in range(number)]
        journal.admit(admission(number))
        assert journal.damaged_bytes == 0
        journal.shut()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_loses_no_admission_that_it_has_told(folder, seed):
    process = subprocess.Popen(
        [sys.executable, str(HERE / "appender.py"), str(folder)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = Random(seed).randrange(1, 3000)
    told = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    ids = {line.decode().strip() for line in told if line.endswith(b"\n")}
    assert len(ids) >= lines
    found, torn = set(), 0
    for path in sorted(folder.glob("*.journal")):
        reading = Reading(path)
        found |= {value.request_id for entry in reading if entry.kind == ADMITTED and (value := entry.decode())}
        assert reading.skipped == 0
        torn += reading.torn
    assert ids <= found
    assert torn < 2000, "at most the entry that was being copied"
    journal = opened(folder)
    assert set(ends(journal)) == found
    journal.shut()
