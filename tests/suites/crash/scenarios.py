"""What happens to the gateway's own process and to its callers. Each scenario drives a `World` and returns its line."""

import asyncio
import signal
import time
from collections.abc import Callable

from tests.suites.crash.books import read_bill, read_ledger
from tests.suites.crash.load import Answer, Caller, Wish
from tests.suites.crash.processes import bill_lines, poll
from tests.suites.crash.signing import Ask
from tests.suites.crash.world import TENANTS, World, brief

REPLAY_LIMIT_S = 5.0
GRACE_S = 2
"""`FARTHING_GRACEFUL_SHUTDOWN_S` of the SIGTERM scenario."""


async def sigkill(world: World, points: int, callers: int = 12) -> str:
    """SIGKILL at random points under load, every fifth while the gateway starts; restarts on the same data."""
    await world.up()
    load = world.load()
    with world.watched() as watch:
        load.start(callers)
        read = 0
        for point in range(points):
            await asyncio.sleep(world.rng.uniform(0.02, 0.6))
            await asyncio.to_thread(world.gateway.kill)
            began = len(bill_lines(world.stub.bill))
            if point % 5 == 4:
                await asyncio.to_thread(world.gateway.start_and_kill, world.rng.uniform(0.2, 1.2))
            await asyncio.to_thread(world.gateway.start)
            await asyncio.to_thread(
                poll,
                lambda: not world.missing(since_line=read, until_line=began),
                "the journal is replayed",
                REPLAY_LIMIT_S,
            )
            read = began
        await load.stop()
    found = await world.closing()
    assert found.outcomes["crashed"] > 0, "no request was under way at any kill"
    return brief(
        world, f"sigkill x{points}", found, f"crashed {found.outcomes['crashed']}", f"{watch.looks} looks at budgets"
    )


async def sigterm(world: World, streams: int) -> str:
    """SIGTERM with open streams: those that end in time end whole, the others are cut; every row is stored at exit."""
    await world.up()
    before = len(read_ledger(world.gateway.database_url).rows)
    tenants = [tenant for tenant in TENANTS if tenant != "tight"]
    callers = [Caller(world.gateway.port, world.keys[tenants[n % len(tenants)]]) for n in range(streams)]
    tasks = []
    for number, caller in enumerate(callers):
        words = world.rng.randint(12, 60)
        ask = Ask(tenants[number % len(tenants)], world.nonce(), words, 50, 100)
        tasks.append(asyncio.create_task(caller.ask(Wish(ask, stream=True, max_tokens=64))))
    await _until(
        lambda: all(caller.current is not None and caller.current.chunks for caller in callers), "all streams run"
    )
    asked_s = time.time()
    ending = asyncio.create_task(asyncio.to_thread(world.gateway.terminate, GRACE_S + 15.0))
    answers = await asyncio.gather(*tasks)
    status, took_s = await ending
    for caller in callers:
        await caller.close()
    world.answers += answers
    assert status in (0, -signal.SIGTERM), f"exit status {status}"
    for answer in answers:
        assert answer.status == 200, answer
        _ended_in_time_or_cut(answer, asked_s)
    await asyncio.to_thread(world.stub.quiet)
    found = await asyncio.to_thread(world.audited)  # before any restart
    assert found.rows == before + streams
    await world.up()
    await world.closing()
    whole = sum(answer.end == "whole" for answer in answers)
    return brief(
        world, f"sigterm, {streams} streams", found, f"{whole} whole, {streams - whole} cut", f"exit in {took_s:.1f} s"
    )


def _ended_in_time_or_cut(answer: Answer, asked_s: float) -> None:
    ended_s = answer.sent_s + answer.took_s - asked_s
    if answer.end != "whole":
        assert ended_s > GRACE_S - 0.3, f"cut {ended_s:.1f} s after SIGTERM, {GRACE_S} s were promised: {answer}"


async def disconnects(world: World, points: int, each: int = 3) -> str:
    """Callers leave before the head, after every k-th chunk, or while JSON is being generated."""
    await world.up()
    left: list[Answer] = []
    words = max(3, points)
    for point in range(points + 1):
        wishes = [
            Wish(Ask("shop", world.nonce(), words, 60, 8), stream=True, max_tokens=words, leave_after=point)
            for _ in range(each)
        ]
        wait_s = 0.06 + point * 0.008
        wishes += [
            Wish(Ask("mill", world.nonce(), words, 60, 8), stream=False, max_tokens=words, leave_s=wait_s)
            for _ in range(each)
        ]
        left += await asyncio.gather(*[_ask(world, wish) for wish in wishes])
    world.answers += left
    await asyncio.to_thread(world.settled)
    found = await asyncio.to_thread(world.audited)
    bill, rows = read_bill(world.stub.bill), read_ledger(world.gateway.database_url).by_id
    by_nonce = {billed.nonce: request_id for request_id, billed in bill.items()}
    reached = [answer for answer in left if answer.ask.nonce in by_nonce]  # a slow machine may see them leave earlier
    assert len(reached) > len(left) // 2
    for answer in reached:
        row = rows[by_nonce[answer.ask.nonce]]
        billed = bill[row.request_id]
        assert row.charged is not None
        assert row.charged > 0, f"billed {billed}, charged nothing"
        if not billed.finished:
            assert (row.outcome, row.usage_source) == ("client_disconnect", "estimated"), row
    await world.closing()
    return brief(world, f"disconnect at {points + 1} points", found)


async def _ask(world: World, wish: Wish) -> Answer:
    caller = Caller(world.gateway.port, world.keys[wish.ask.tenant])
    try:
        return await caller.ask(wish)
    finally:
        await caller.close()


async def _until(holds: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    await asyncio.to_thread(poll, holds, what, limit_s)
