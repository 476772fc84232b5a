"""From the journal into the store: nothing lost, nothing twice, whatever the store does meanwhile."""

import os
import threading
import time

import pytest

from gateway.core.clock import SystemClock
from gateway.database import DatabaseError
from gateway.ledger.store import LedgerStore
from gateway.ledger.writer import replay_abandoned
from tests.support.ledger import admission, ended, request_id, traffic
from tests.support.ledger_sums import check


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def send(writer, records) -> None:
    for record in records:
        writer.admit(admission(int(record.request_id, 16)))
        writer.close(record)


def stored(database) -> list[str]:
    return [row[0] for row in database.query("SELECT request_id FROM requests ORDER BY request_id")]


def ids(records) -> list[str]:
    return sorted(record.request_id for record in records)


def abandon(writer) -> None:
    """The end of a process without a drain: its files are closed, its memory is gone."""
    journal = writer.journal
    for file in (journal._file, *journal._retired):
        if file is not None:
            file.close()
    os.close(journal._lock_fd)
    journal._file, journal._retired, journal.in_use = None, [], False


def test_what_ended_is_stored_and_leaves_the_journal(database, store, open_writer, tmp_path):
    writer = open_writer(store)
    writer.replay()
    writer.start()
    records = traffic(1234)
    send(writer, records)
    assert writer.drain(20)
    assert stored(database) == ids(records)
    check(database)
    assert not list((tmp_path / "journal").glob("*.journal"))


def test_rows_are_there_soon_after_their_end(database, store, open_writer):
    writer = open_writer(store)
    writer.replay()
    writer.start()
    send(writer, [ended(1)])
    wait_for(lambda: stored(database) == [request_id(1)], 5)
    wait_for(lambda: writer.lag() == (0, 0.0), 5)


def test_a_restart_stores_what_the_journal_holds_once(database, store, open_writer):
    records = traffic(700)
    writer = open_writer(store)
    writer.replay()
    send(writer, records)
    writer.admit(admission(9999, reserved_micro_usd=42))
    abandon(writer)
    steps = []
    again = open_writer(store)
    assert again.replay(steps.append) == 701
    assert steps
    assert steps[-1] <= 701
    rows = database.query("SELECT outcome, charged_micro, usage_source, status FROM requests WHERE outcome <> 'ok'")
    assert ("crashed", 42, "estimated", 0) in rows
    abandon(again)
    assert open_writer(store).replay() == 0, "it has been settled"
    assert stored(database) == sorted([*ids(records), request_id(9999)])
    check(database)


def test_a_replay_that_was_interrupted_is_done_again(database, store, open_writer, tmp_path):
    records = traffic(1300)
    writer = open_writer(store)
    writer.replay()
    send(writer, records)
    abandon(writer)
    again = open_writer(store)
    again.journal.recover()
    assert again._step(), "one batch, and then the process dies"
    assert len(stored(database)) == 500
    abandon(again)
    assert open_writer(store).replay() == 800
    assert stored(database) == ids(records)
    check(database)


def test_more_than_the_queue_holds_is_read_from_the_journal(database, store, open_writer):
    writer = open_writer(store, queue_rows=50, segment_bytes=60_000)
    writer.replay()
    records = traffic(2000)
    send(writer, records[:1000])
    assert writer.lag().rows == 1000
    assert len(writer._queue) == 50
    writer.start()
    send(writer, records[1000:])
    assert writer.drain(20)
    assert stored(database) == ids(records)
    check(database)


def test_it_goes_back_to_the_queue_once_it_has_caught_up(database, store, open_writer, tmp_path):
    writer = open_writer(store, queue_rows=50)
    writer.replay()
    records = traffic(240)
    send(writer, records[:200])
    writer.start()
    wait_for(lambda: writer.lag() == (0, 0.0))
    (segment,) = (tmp_path / "journal").glob("*.journal")
    segment.unlink()
    send(writer, records[200:])
    wait_for(lambda: stored(database) == ids(records), 10)
    assert writer.error is None, "what fits into the queue is not read from the journal"


def test_a_journal_from_before_is_stored_although_the_store_was_away_at_the_start(
    postgres, postgres_url, open_ledger, open_writer
):
    database = open_ledger(postgres_url, timeout_s=1)
    store = LedgerStore(database)
    writer = open_writer(store)
    writer.replay()
    send(writer, traffic(100))
    writer.admit(admission(5000))
    abandon(writer)
    postgres.stop()
    try:
        after = open_writer(store)
        with pytest.raises(DatabaseError):
            after.replay()
        after.start()
        send(after, [ended(6000)])
    finally:
        postgres.start()
    assert after.drain(30)
    database = open_ledger(postgres_url)
    assert len(stored(database)) == 102
    check(database)


@pytest.mark.parametrize("what", ["frozen", "killed"])
def test_nothing_is_lost_or_stored_twice_while_postgresql_is_away(
    postgres, postgres_url, open_ledger, open_writer, what
):
    writer = open_writer(LedgerStore(open_ledger(postgres_url, timeout_s=1)), queue_rows=300)
    writer.replay()
    writer.start()
    records = traffic(3000)
    send(writer, records[:1000])
    postgres.freeze() if what == "frozen" else postgres.stop()
    try:
        took = time.monotonic()
        send(writer, records[1000:2000])
        assert time.monotonic() - took < 2, "requests do not wait for the store"
        wait_for(lambda: writer.error is not None)
        assert "PostgreSQL at 127.0.0.1" in writer.error
        assert writer.lag().rows >= 1000
        assert writer.lag().seconds > 0
    finally:
        postgres.thaw() if what == "frozen" else postgres.start()
    send(writer, records[2000:])
    assert writer.drain(30)
    assert writer.error is None
    database = open_ledger(postgres_url)
    assert stored(database) == ids(records)
    check(database)


def test_a_drain_gives_up_in_time_and_the_next_start_stores_the_rest(postgres, postgres_url, open_ledger, open_writer):
    store = LedgerStore(open_ledger(postgres_url, timeout_s=1))
    writer = open_writer(store)
    writer.replay()
    postgres.stop()
    try:
        writer.start()
        send(writer, traffic(100))
        began = time.monotonic()
        assert not writer.drain(1)
        assert time.monotonic() - began < 4
    finally:
        postgres.start()
    after = open_writer(LedgerStore(open_ledger(postgres_url)))
    assert after.replay() == 100
    check(open_ledger(postgres_url))


def test_writers_of_several_replicas_share_a_database(url, open_ledger, open_writer):
    records = traffic(900)

    def replica(number):
        writer = open_writer(LedgerStore(open_ledger(url)), f"journal-{number}")
        writer.replay()
        writer.start()
        send(writer, records[number::3])
        assert writer.drain(20)

    threads = [threading.Thread(target=replica, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database = open_ledger(url)
    assert stored(database) == ids(records)
    check(database)


def test_folders_of_processes_that_are_gone_are_stored_by_another(database, store, open_writer, tmp_path):
    gone = [open_writer(store, f"worker-{number}") for number in range(3)]
    for number, writer in enumerate(gone):
        writer.replay()
        send(writer, traffic(40)[number::4])
        writer.admit(admission(1000 + number))
    abandon(gone[0])
    abandon(gone[1])
    own = open_writer(store, "worker-3")
    found = replay_abandoned(tmp_path, store, SystemClock())
    assert (found.rows, [folder.name for folder in found.stored]) == (22, ["worker-0", "worker-1"])
    assert [folder.name for folder in found.in_use] == ["worker-2", "worker-3"]
    assert replay_abandoned(tmp_path, store, SystemClock()).rows == 0
    assert own.replay() == 0
    assert len(stored(database)) == 22, "worker 2 lives"
    check(database)


def test_a_full_sqlite_disk_is_a_store_that_is_away(tmp_path, open_ledger, open_writer):
    database = open_ledger(f"sqlite:///{tmp_path}/small.db")
    pages = database._writer.execute("PRAGMA page_count").fetchone()[0]
    database._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    writer = open_writer(LedgerStore(database))
    writer.replay()
    writer.start()
    records = traffic(1500)
    send(writer, records)
    wait_for(lambda: writer.error is not None)
    assert "full" in writer.error
    database._writer.execute("PRAGMA max_page_count = 1000000")
    assert writer.drain(20)
    assert stored(database) == ids(records)
    check(database)
