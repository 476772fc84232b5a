"""The thread between the event loop and the model: who shares a pass, who is dropped, who gets which error."""

import asyncio

import pytest

from gateway.encoder import BatchingEncoder, EncoderError, Pass
from tests.support.encoders import CountingModel


@pytest.fixture
async def encoder():
    encoder = BatchingEncoder(CountingModel())
    yield encoder
    encoder._model.gate.set()
    await encoder.aclose()


@pytest.fixture
def model(encoder):
    return encoder._model


async def held(encoder, model, text="first"):
    """A pass that the model is in the middle of; what is asked now waits behind it."""
    model.gate.clear()
    task = asyncio.ensure_future(encoder.encode(text))
    await asyncio.to_thread(model.began.acquire)
    return task


async def asked(encoder, *texts):
    """Callers that are in the queue, in this order."""
    tasks = [asyncio.ensure_future(encoder.encode(text)) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def test_a_text_gets_its_vector_and_its_token_count(encoder, model):
    encoding = await encoder.encode("a_b_")
    assert encoding.vector.tolist() == model.encode_batch(["a_b_"])[0].tolist()
    assert (encoding.tokens, encoding.unknown) == (4, 2)


async def test_a_text_beyond_the_window_gets_none_and_no_pass(encoder, model):
    assert await encoder.encode("a" * 9) is None
    assert model.passes == []


async def test_an_idle_encoder_runs_one_text_at_once(encoder, model):
    await encoder.encode("alone")
    assert model.passes == [["alone"]]


async def test_those_who_wait_share_the_next_pass(encoder, model):
    first = await held(encoder, model)
    others = await asked(encoder, "b", "c", "d")
    model.gate.set()
    encodings = await asyncio.gather(first, *others)
    assert model.passes == [["first"], ["b", "c", "d"]]
    assert [e.vector.tolist() for e in encodings] == [v.tolist() for v in model.encode_batch(["first", "b", "c", "d"])]


async def test_no_more_share_a_pass_than_fit_it(encoder, model):
    first = await held(encoder, model)
    others = await asked(encoder, *(["a"] * 20))
    model.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in model.passes] == [1, 16, 4]


async def test_a_text_beyond_the_window_does_not_end_the_pass_that_it_waits_with(encoder, model):
    first = await held(encoder, model)
    others = await asked(encoder, "b", "c" * 9, "d")
    model.gate.set()
    assert (await asyncio.gather(first, *others))[2] is None
    assert model.passes == [["first"], ["b", "d"]]


async def test_who_is_cancelled_while_waiting_is_left_out(encoder, model):
    first = await held(encoder, model)
    kept, dropped = await asked(encoder, "kept", "dropped")
    dropped.cancel()
    await asyncio.sleep(0)
    model.gate.set()
    await asyncio.gather(first, kept)
    assert model.passes == [["first"], ["kept"]]


async def test_who_is_cancelled_during_the_pass_disturbs_no_one(encoder, model):
    first = await held(encoder, model)
    first.cancel()
    (second,) = await asked(encoder, "second")
    model.gate.set()
    assert (await second).tokens == 6
    assert first.cancelled()


async def test_a_deadline_belongs_to_the_caller(encoder, model):
    first = await held(encoder, model)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(encoder.encode("late"), 0.01)
    model.gate.set()
    await first
    assert (await encoder.encode("next")).tokens == 4


async def test_a_failed_pass_reaches_all_who_wait_for_it_each_with_an_error_of_its_own(encoder, model):
    first = await held(encoder, model)
    others = await asked(encoder, "b!", "c")
    model.gate.set()
    failed = await asyncio.gather(*others, return_exceptions=True)
    assert [type(error) for error in failed] == [EncoderError, EncoderError]
    assert failed[0] is not failed[1]
    assert "a pass that fails" in failed[0].message
    await first
    assert (await encoder.encode("after")).tokens == 5


async def test_a_text_that_cannot_be_read_fails_alone(encoder, model):
    first = await held(encoder, model)
    unreadable, fine = await asked(encoder, "?", "fine")
    model.gate.set()
    await first
    assert (await fine).tokens == 4
    with pytest.raises(EncoderError, match="unreadable"):
        await unreadable


async def test_a_vector_is_read_only_and_keeps_no_others_alive(encoder):
    vector = (await encoder.encode("kept")).vector
    assert vector.base is None
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 0


async def test_the_event_loop_runs_on_during_a_pass(encoder, model):
    first = await held(encoder, model)
    assert await asyncio.wait_for(asyncio.sleep(0, "turned"), 5) == "turned"
    assert not first.done()
    model.gate.set()
    await first


async def test_closing_fails_those_who_wait_and_ends_the_thread():
    model = CountingModel()
    encoder = BatchingEncoder(model)
    first = await held(encoder, model)
    (waiting,) = await asked(encoder, "waiting")
    closing = asyncio.ensure_future(encoder.aclose())
    with pytest.raises(EncoderError, match="closed"):
        await waiting
    model.gate.set()
    await closing
    assert (await first).tokens == 5
    assert not encoder._thread.is_alive()
    with pytest.raises(EncoderError, match="closed"):
        await encoder.encode("too late")


async def test_closing_twice_is_harmless():
    encoder = BatchingEncoder(CountingModel())
    await encoder.aclose()
    await encoder.aclose()


def test_a_loop_that_ended_does_not_end_the_thread():
    model = CountingModel()
    encoder = BatchingEncoder(model)

    async def give_up():
        (await held(encoder, model)).cancel()

    asyncio.run(give_up())
    model.gate.set()

    async def again():
        encoding = await encoder.encode("again")
        await encoder.aclose()
        return encoding

    assert asyncio.run(again()).tokens == 5


async def test_all_who_need_a_request_s_text_share_one_pass(encoder, model):
    shared = Pass(encoder, "text")
    first, second = await asyncio.gather(shared.encoding(), shared.encoding())
    assert first is second is await shared.encoding()
    assert model.passes == [["text"]]


async def test_nobody_asks_and_there_is_no_pass(encoder, model):
    Pass(encoder, "text").close()
    await encoder.encode("other")
    assert model.passes == [["other"]]


async def test_one_who_gives_up_on_a_shared_pass_leaves_it_to_the_others(encoder, model):
    first = await held(encoder, model)
    shared = Pass(encoder, "text")
    impatient = asyncio.ensure_future(shared.encoding())
    patient = asyncio.ensure_future(shared.encoding())
    await asyncio.sleep(0)
    impatient.cancel()
    model.gate.set()
    assert (await patient).tokens == 4
    assert impatient.cancelled()
    await first


async def test_a_shared_pass_that_fails_fails_for_all(encoder):
    shared = Pass(encoder, "!")
    failed = await asyncio.gather(shared.encoding(), shared.encoding(), return_exceptions=True)
    assert [type(error) for error in failed] == [EncoderError, EncoderError]


async def test_a_closed_pass_that_waited_is_never_run(encoder, model):
    first = await held(encoder, model)
    shared = Pass(encoder, "dropped")
    asker = asyncio.ensure_future(shared.encoding())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    shared.close()
    with pytest.raises(asyncio.CancelledError):
        await asker
    model.gate.set()
    await first
    await encoder.encode("last")
    assert model.passes == [["first"], ["last"]]
