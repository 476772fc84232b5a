"""What a replayed request costs, and whether its budgets have room for it. Pure state, no clock.

Budgets begin empty with the first request of the traffic, and requests under way hold nothing: refusals are those
that the money spent alone makes.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

import msgspec

from gateway.access.windows import Windows
from gateway.core.exchange import Plan, Target
from gateway.core.limits import Budget
from gateway.policy.limits import MoneyRules
from gateway.pricing.book import ModelPrice, PriceBook
from gateway.pricing.resolve import price_of
from gateway.pricing.worst_case import Refuse, WorstCase, plan_worst_case, reservation
from gateway.simulate.traffic import Recorded

DAY_S: Final = 86_400


class DayPrices:
    """Prices of targets on the day of a request; pools at full use of their stated rates."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._known: dict[tuple[str, str, int], ModelPrice | None] = {}

    def on(self, at_s: float) -> Callable[[Target, str], ModelPrice | None]:
        """The prices of the day that holds `at_s`."""
        day = int(at_s // DAY_S)
        return lambda target, model: self.price(target, model, day)

    def price(self, target: Target, model: str, day: int) -> ModelPrice | None:
        """`day` counts from the epoch; `None` is unknown."""
        key = (target.name, model, day)
        if key not in self._known:
            self._known[key] = price_of(target, model, self._book, _date(day))
        return self._known[key]


class BudgetUse(msgspec.Struct, frozen=True):
    """Micro-USD. `fullest` is the most that one window was charged, `windows` how many were charged anything.

    `passed`: in how many of them each soft limit, a share of the budget, was reached. `refused` counts requests.
    """

    budget: Budget
    windows: int
    fullest: int
    passed: tuple[tuple[float, int], ...]
    refused: int


class Spending:
    """What each budget window has been charged."""

    def __init__(self) -> None:
        self._windows = Windows()
        self._spent: dict[str, int] = {}
        self._budgets: dict[str, tuple[Budget, set[str]]] = {}
        self._refused: Counter[str] = Counter()

    def refuses(self, budgets: tuple[Budget, ...], amount: int, at_s: float) -> Budget | None:
        """The first budget that has no room for `amount` micro-USD."""
        for budget in budgets:
            if self._spent.get(self._windows.of(budget, at_s).id, 0) + amount > budget.limit_micro_usd:
                self._budgets.setdefault(budget.id, (budget, set()))
                self._refused[budget.id] += 1
                return budget
        return None

    def charge(self, budgets: tuple[Budget, ...], amount: int, at_s: float) -> None:
        """Commits it in every window."""
        for budget in budgets:
            window = self._windows.of(budget, at_s).id
            if window not in self._spent:
                self._spent[window] = 0
                self._budgets.setdefault(budget.id, (budget, set()))[1].add(window)
            self._spent[window] += amount

    def use(self) -> tuple[BudgetUse, ...]:
        """Of every budget that a request met, the fullest first."""
        found = [self._use(budget, windows) for budget, windows in self._budgets.values()]
        return tuple(sorted(found, key=lambda use: (-use.fullest / (use.budget.limit_micro_usd or 1), use.budget.id)))

    def _use(self, budget: Budget, windows: set[str]) -> BudgetUse:
        spent = [self._spent[window] for window in windows]
        passed = tuple(
            (share, sum(amount >= share * budget.limit_micro_usd for amount in spent)) for share in budget.soft
        )
        return BudgetUse(budget, len(windows), max(spent, default=0), passed, self._refused[budget.id])


def reserved(
    recorded: Recorded,
    plan: Plan,
    cost: int | None,
    price_of_target: Callable[[Target, str], ModelPrice | None],
    rules: MoneyRules,
) -> int | Refuse:
    """What would be reserved: the worst case of the body where there is one, else what the request did cost."""
    if recorded.call is not None:
        return reservation(plan_worst_case(recorded.call, plan, price_of_target, rules), rules)
    first = plan.targets[0]
    if cost is None and price_of_target(first, first.model or recorded.model or "") is None:
        return reservation(WorstCase(None, 0, f"{first.name} has no known price"), rules)
    return cost or 0


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * DAY_S, UTC).date()
