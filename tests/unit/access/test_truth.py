"""What the ledger is asked, and how often, however many requests wait for it."""

import asyncio

import pytest

from gateway.access.accounts import Unavailable, Window
from gateway.access.truth import Questions, Told
from gateway.core.limits import Budget


def window(name: str) -> Window:
    return Window(f"{name}@0", Budget(name, name, "total", 10), 0, None)


class Ledger:
    """Answers when it is let; `calls` has what it was asked each time."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.open = asyncio.Event()
        self.fails = False

    async def __call__(self, windows):
        self.calls.append([each.id for each in windows])
        await self.open.wait()
        if self.fails:
            raise OSError("no ledger")
        return [len(self.calls) * 100 + n for n in range(len(windows))]


async def test_what_is_asked_during_a_call_goes_into_the_next_and_each_window_once():
    ledger, now = Ledger(), iter((1.0, 2.0))
    questions = Questions(ledger, lambda: next(now))
    first = [asyncio.create_task(questions.ask(window(name))) for name in ("a", "b", "a")]
    await asyncio.sleep(0.01)
    later = [asyncio.create_task(questions.ask(window(name))) for name in ("c", "a", "d", "c")]
    await asyncio.sleep(0.01)
    ledger.open.set()
    assert await asyncio.gather(*first) == [Told(100, 1.0), Told(101, 1.0), Told(100, 1.0)]
    assert await asyncio.gather(*later) == [Told(200, 2.0), Told(100, 1.0), Told(201, 2.0), Told(200, 2.0)]
    assert ledger.calls == [["a@0", "b@0"], ["c@0", "d@0"]]


async def test_a_ledger_that_fails_refuses_all_who_wait_and_is_asked_again():
    ledger = Ledger()
    ledger.fails = True
    ledger.open.set()
    questions = Questions(ledger, lambda: 0.0)
    for refused in await asyncio.gather(*(questions.ask(window(n)) for n in "ab"), return_exceptions=True):
        assert isinstance(refused, Unavailable)
    ledger.fails = False
    assert await questions.ask(window("a")) == Told(200, 0.0)


async def test_who_leaves_takes_nobody_elses_answer_away():
    ledger = Ledger()
    questions = Questions(ledger, lambda: 0.0)
    leaves, stays = (asyncio.create_task(questions.ask(window("a"))) for _ in range(2))
    await asyncio.sleep(0.01)
    leaves.cancel()
    ledger.open.set()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert await stays == Told(100, 0.0)
