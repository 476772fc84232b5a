import asyncio

import msgspec
import pytest

from gateway.access.accounts import Spent, Window
from gateway.access.alerts import Alerts
from gateway.core.limits import Budget

BUDGET = Budget("all/day", "all", "day", 1_000)
TODAY = Window("all/day@0", BUDGET, 0, 86_400)
TOMORROW = Window("all/day@86400", BUDGET, 86_400, 172_800)


class Receiver:
    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.bodies: list[dict] = []
        self.arrived = asyncio.Event()

    async def __call__(self, url: str, body: bytes) -> None:
        assert url == "http://hook"
        if self.failures:
            self.failures -= 1
            raise OSError("status 500")
        self.bodies.append(msgspec.json.decode(body))
        self.arrived.set()


def alerts(receiver: Receiver) -> Alerts:
    return Alerts(lambda: "http://hook", receiver, retry_s=0)


async def announced(alerts: Alerts, receiver: Receiver) -> list[dict]:
    task = asyncio.create_task(alerts.run())
    async with asyncio.timeout(2):
        await receiver.arrived.wait()
    task.cancel()
    return receiver.bodies


@pytest.mark.parametrize(
    ("used", "raised"), [((799,), 0), ((800, 850), 1), ((850, 900), 2), ((1_000,), 1), ((800, 900, 1_000, 1_000), 3)]
)
def test_each_soft_limit_is_announced_once(used, raised):
    noted = alerts(Receiver())
    for committed in used:
        noted.note([Spent(TODAY, committed, 0)], 10.0)
    assert noted.raised == raised


def test_the_next_window_is_announced_anew():
    noted = alerts(Receiver())
    noted.note([Spent(TODAY, 900, 0)], 10.0)
    noted.note([Spent(TOMORROW, 900, 0)], 86_500.0)
    assert noted.raised == 2
    assert len(noted._highest) == 1


async def test_the_webhook_is_told_what_happened():
    receiver = Receiver()
    noted = alerts(receiver)
    noted.note([Spent(TODAY, 700, 150)], 10.0)
    assert await announced(noted, receiver) == [
        {
            "type": "budget.soft_limit",
            "budget": "all/day",
            "scope": "all",
            "period": "day",
            "threshold": 0.8,
            "used_micro_usd": 850,
            "limit_micro_usd": 1_000,
            "at_s": 10.0,
            "ends_s": 86_400,
        }
    ]


async def test_a_delivery_is_tried_three_times():
    receiver = Receiver(failures=2)
    noted = alerts(receiver)
    noted.note([Spent(TODAY, 900, 0)], 10.0)
    assert len(await announced(noted, receiver)) == 1
    assert noted.undelivered == 0


async def test_an_alert_that_is_not_taken_is_counted_and_the_next_one_goes_out():
    receiver = Receiver(failures=3)
    noted = alerts(receiver)
    noted.note([Spent(TODAY, 800, 0)], 10.0)
    noted.note([Spent(TODAY, 900, 0)], 11.0)
    assert [body["threshold"] for body in await announced(noted, receiver)] == [0.9]
    assert noted.undelivered == 1


async def test_what_is_not_of_a_budget_reaches_the_webhook_too():
    receiver = Receiver()
    noted = alerts(receiver)
    noted.send("routing.calibration_stale", {"route": "r", "at_s": 10.0})
    assert await announced(noted, receiver) == [{"type": "routing.calibration_stale", "route": "r", "at_s": 10.0}]
