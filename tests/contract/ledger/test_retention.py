"""Old rows and hours go, the days and every budget stay as they are."""

import asyncio

from gateway.access.accounts import Window
from gateway.core.limits import Budget
from gateway.ledger.report import ask, question
from gateway.ledger.retention import Keep, Swept, sweep
from gateway.ledger.rows import closed
from gateway.ledger.verify import as_text, verify
from tests.support.ledger import ended
from tests.support.ledger_sums import rolled_up, spend
from tests.support.records import attempt

DAY_S = 86400
NOW_S = 20_000 * DAY_S
KEEP = Keep(rows_days=30, hours_days=90)
TOTAL = Window("all/total@0", Budget("all/total", "all", "total", 10**9), 0, None)


def fill(store, days: int, per_day: int = 10) -> None:
    for day in range(days):
        started_s = NOW_S - day * DAY_S - 1.0
        window = f"all/day@{NOW_S - (day + 1) * DAY_S}"
        store.insert(
            closed(
                ended(
                    day * per_day + n,
                    started_s=started_s,
                    cost_micro_usd=3,
                    attempts=(attempt(cost_micro_usd=3),),
                    savings=None,
                    windows=(window, TOTAL.id),
                )
            )
            for n in range(per_day)
        )


def test_each_table_keeps_its_days(database, store):
    fill(store, 120)
    days = rolled_up(database, "rollup_day", "day")
    total = spend(database)[TOTAL.id]
    assert sweep(database, NOW_S, KEEP) == Swept(rows=900, hours=30, windows=30)
    assert database.query("SELECT COUNT(*), MIN(started_s) FROM requests") == [(300, NOW_S - 29 * DAY_S - 1.0)]
    assert len(rolled_up(database, "rollup_hour", "hour")) == 90
    assert rolled_up(database, "rollup_day", "day") == days
    assert spend(database)[TOTAL.id] == total == 120 * 10 * 3
    assert len(spend(database)) == 91


def test_reports_say_the_same_and_the_ledger_still_adds_up(database, store, tmp_path):
    fill(store, 120)
    asked = question("day,tenant,route,model", "", None, None)
    before = ask(database, asked)
    sweep(database, NOW_S, KEEP)
    after = ask(database, asked)
    assert after.lines == before.lines
    assert after.total.requests == 1200
    found = verify(database, tmp_path / "journal")
    assert found.sound, as_text(found)
    assert found.rows == 300


def test_rows_may_be_kept_longer_than_hours(database, store, tmp_path):
    fill(store, 120)
    assert sweep(database, NOW_S, Keep(rows_days=365, hours_days=90)) == Swept(rows=0, hours=30, windows=0)
    found = verify(database, tmp_path / "journal")
    assert found.sound, as_text(found)


def test_a_second_sweep_finds_nothing(database, store):
    fill(store, 100)
    sweep(database, NOW_S, KEEP)
    assert sweep(database, NOW_S, KEEP) == Swept(0, 0, 0)


def test_more_than_one_batch_goes_in_one_sweep(database, store):
    fill(store, 31, per_day=1100)
    assert sweep(database, NOW_S + DAY_S, KEEP).rows == 2 * 1100
    assert store.counts()["requests"] == 29 * 1100


def test_a_new_budget_still_finds_what_was_spent_in_all_time(database, store):
    fill(store, 120)
    sweep(database, NOW_S, KEEP)
    window = Window("late/total@0", Budget("late/total", "all", "total", 10**9), 0, None)
    assert asyncio.run(store.committed([window])) == [120 * 10 * 3]
