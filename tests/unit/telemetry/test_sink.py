"""That records reach every consumer, that the queue is bounded, and that no consumer can hurt another."""

import asyncio
import logging
import timeit

from gateway.telemetry.sink import RecordSink
from tests.support.records import RECORD, record


def numbered(count: int) -> list:
    return [record(request_id=f"{n:032x}") for n in range(count)]


def broken(batch):
    raise RuntimeError("disk full")


def test_every_consumer_gets_the_batch_in_order():
    one, two = [], []
    sink = RecordSink([one.extend, two.extend])
    records = numbered(3)
    for each in records:
        sink.put(each)
    sink.drain()
    assert one == two == records


def test_a_record_is_handed_on_once():
    seen = []
    sink = RecordSink([seen.extend])
    sink.put(RECORD)
    sink.drain()
    sink.drain()
    assert seen == [RECORD]


def test_without_records_no_consumer_is_called():
    calls = []
    RecordSink([calls.append]).drain()
    assert calls == []


def test_a_drain_takes_no_more_than_asked():
    batches = []
    sink = RecordSink([batches.append])
    for each in numbered(5):
        sink.put(each)
    sink.drain(2)
    sink.drain()
    assert [len(batch) for batch in batches] == [2, 3]


def test_a_full_queue_drops_new_records_and_counts_them():
    seen = []
    sink = RecordSink([seen.extend], capacity=2)
    records = numbered(5)
    for each in records:
        sink.put(each)
    sink.drain()
    assert seen == records[:2]
    assert sink.dropped == 3
    sink.put(records[4])
    sink.drain()
    assert seen[-1] is records[4], "there is room again"


def test_a_consumer_that_raises_is_counted_and_the_others_still_get_the_batch():
    seen = []
    sink = RecordSink([broken, seen.extend])
    sink.put(RECORD)
    sink.drain()
    assert seen == [RECORD]
    assert sink.failures == 1


def test_failures_are_logged_once_a_minute_with_their_traceback(caplog):
    now = [0.0]
    sink = RecordSink([broken], monotonic=lambda: now[0])
    for moment in (0.0, 1.0, 59.9, 60.0, 61.0):
        now[0] = moment
        sink.put(RECORD)
        sink.drain()
    lines = [each for each in caplog.records if each.name == "farthing.telemetry"]
    assert sink.failures == 5
    assert [each.levelno for each in lines] == [logging.ERROR, logging.ERROR]
    assert "RuntimeError: disk full" in caplog.text


async def test_the_loop_drains_and_cancelling_it_drains_the_rest():
    drained = asyncio.Event()
    seen = []

    def consume(batch):
        seen.extend(batch)
        drained.set()

    sink = RecordSink([consume])
    task = asyncio.create_task(sink.run(interval_s=0.001))
    sink.put(RECORD)
    await asyncio.wait_for(drained.wait(), 5)
    sink.put(RECORD)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert seen == [RECORD, RECORD]


async def test_a_backlog_is_worked_off_in_slices_that_let_requests_in_between():
    batches, turns = [], []
    done = asyncio.Event()

    def consume(batch):
        batches.append(len(batch))
        asyncio.get_running_loop().call_soon(turns.append, len(batches))
        if sum(batches) == 1000:
            done.set()

    sink = RecordSink([consume])
    for _ in range(1000):
        sink.put(RECORD)
    task = asyncio.create_task(sink.run(interval_s=0.001))
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert max(batches) <= 16
    assert turns[:10] == list(range(1, 11)), "other callbacks ran after each slice"


def test_put_costs_the_request_far_less_than_a_microsecond():
    sink = RecordSink([], capacity=1 << 30)
    best_s = min(timeit.repeat(lambda: sink.put(RECORD), number=10_000, repeat=5)) / 10_000
    assert best_s < 1e-6
