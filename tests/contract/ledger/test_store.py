"""The store on SQLite and PostgreSQL: a row counts once, and every sum is the sum of the rows."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.accounts import Window
from gateway.core.exchange import Choice, Savings, Usage
from gateway.core.limits import Budget
from gateway.database import DatabaseError, open_database
from gateway.ledger import schema
from gateway.ledger.rows import MOST, Row, closed, crashed
from gateway.ledger.store import LedgerStore
from tests.support.ledger import STARTED_S, admission, ended, request_id, traffic
from tests.support.ledger_sums import check, spend

DAY = 1_700_006_400
"""A midnight in UTC."""

counts = st.integers(0, 10**6)
amounts = st.none() | st.integers(0, 10**9)
signed = st.integers(-(10**6), 10**6)
names = st.sampled_from(("a", "b", ""))
savings = st.none() | st.builds(Savings, signed, signed, signed, signed, counts, counts, counts)
usages = st.none() | st.builds(
    Usage, counts, counts, counts, counts, counts, counts, st.sampled_from(("reported", "estimated"))
)
eighths = st.integers(0, 40_000).map(lambda ticks: ticks / 8)
ends = st.builds(
    ended,
    st.integers(0, 40),
    started_s=st.integers(0, 8 * 86400).map(lambda tick: DAY + tick / 2),
    tenant=names,
    key=names,
    route=names,
    model=names,
    outcome=st.sampled_from(("ok", "truncated")),
    cache=st.sampled_from(("off", "hit")),
    usage=usages,
    cost_micro_usd=amounts,
    reserved_micro_usd=amounts,
    savings=savings,
    duration_s=eighths,
    ttft_s=st.none() | eighths,
    windows=st.lists(st.sampled_from(("w1@0", "w2@0", "w3@0")), unique=True).map(tuple),
)


def budget(scope: str, starts_s: int = DAY) -> Window:
    return Window(f"{scope}/test@{starts_s}", Budget(f"{scope}/test", scope, "day", 10**9), starts_s, None)


def committed(store: LedgerStore, window: Window) -> int:
    return asyncio.run(store.committed([window]))[0]


def rows(database) -> list[Row]:
    return [Row(*row) for row in database.query(f"SELECT {', '.join(Row._fields)} FROM requests ORDER BY request_id")]


def test_rows_are_read_as_they_were_written(database, store):
    charges = [closed(ended(1)), crashed(admission(2)), closed(ended(3, usage=None, cost_micro_usd=None, savings=None))]
    assert store.insert(charges) == 3
    assert rows(database) == [charge.row for charge in charges]


def test_the_same_again_changes_nothing(database, store):
    charges = [closed(record) for record in traffic(120)]
    assert store.insert(charges) == 120
    before = rows(database), spend(database)
    assert store.insert(charges) == 0
    assert store.insert([closed(ended(number, cost_micro_usd=7)) for number in range(120)]) == 0
    assert (rows(database), spend(database)) == before
    check(database)


def test_of_a_batch_only_the_new_rows_count(database, store):
    charges = [closed(record) for record in traffic(300)]
    assert store.insert(charges[:170]) == 170
    assert store.insert(charges[100:]) == 130
    assert store.insert([*charges[:1], *charges[:1]]) == 0
    check(database)
    assert store.counts() == {"requests": 300, "rolled_up": 300, "windows": len(spend(database))}


def test_rows_that_are_alike_and_rows_that_differ_are_read_as_they_were_written(database, store):
    """What rows have in common may change with each batch, and so may their number."""
    alike = [closed(ended(n, session=None)) for n in range(70)]
    differ = [
        closed(ended(100 + n, session=f"s{n}", ttft_s=None if n % 3 else 0.5, model=f"m{n % 2}", usage=None))
        for n in range(131)
    ]
    few = [closed(ended(300 + n, error=f"e{n}", cost_micro_usd=None if n % 2 else n)) for n in range(110)]
    batches = [alike[:1], alike[1:], differ[:130], alike, differ[130:], *([charge] for charge in few)]
    assert [store.insert(batch) for batch in batches] == [1, 69, 130, 0, 1, *[1] * 110]
    assert rows(database) == [charge.row for charge in (*alike, *differ, *few)]
    check(database)


def test_nothing_is_stored_of_nothing(store):
    assert store.insert([]) == 0


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(batches=st.lists(st.lists(ends, max_size=12), max_size=4))
def test_sums_are_the_sums_of_the_rows(database, store, batches):
    with database.transaction() as cursor:
        for table in ("requests", "rollup_hour", "rollup_day", "spend"):
            cursor.execute(f"DELETE FROM {table}")
    for batch in batches:
        store.insert([closed(record) for record in batch])
    check(database)


def test_what_callers_and_upstreams_send_can_always_be_stored(database, store):
    odd = ended(
        1,
        requested_model="nul\0 and more" + "m" * 5000,
        model="é😀",
        error="\ud800",
        tags=("\0", "\udfff"),
        response_id="",
        usage=Usage(output=2**80, cache_read=-5),
        cost_micro_usd=2**80,
    )
    store.insert([closed(odd)])
    (row,) = rows(database)
    assert row.requested_model.startswith("nul\ufffd and more")
    assert (row.model, row.error) == ("é😀", "?")
    assert row.output == row.charged_micro == MOST
    assert row.cache_read == 0
    check(database)


def test_two_writers_at_once_store_everything_once(url, database, open_ledger):
    records = traffic(1000)
    halves = (records[:600], records[400:])
    begin = threading.Barrier(2)

    def write(half):
        store = LedgerStore(open_ledger(url))
        begin.wait(10)
        stored = 0
        for start in range(0, len(half), 40):
            batch = [closed(record) for record in half[start : start + 40]]
            while True:
                try:
                    stored += store.insert(batch)
                    break
                except DatabaseError as exc:
                    assert "same requests" in exc.message
        return stored

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(write, halves)) == 1000
    assert len(rows(database)) == 1000
    check(database)


def test_replicas_that_start_together_make_the_tables_once(url, open_ledger):
    begin = threading.Barrier(4)

    def start(_):
        begin.wait(10)
        return open_ledger(url).query("SELECT value FROM meta WHERE name = ?", ("ledger.schema_version",))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(start, range(4))) == [[(str(schema.VERSION),)]] * 4


def test_tables_of_a_newer_gateway_are_refused(database, store):
    with database.transaction() as cursor:
        cursor.execute("UPDATE meta SET value = ? WHERE name = ?", ("99", "ledger.schema_version"))
    with pytest.raises(DatabaseError, match=f"version 99, this gateway knows {schema.VERSION}; fix: upgrade it"):
        store.migrate()


SECOND = ("session", "route_tier", "route_score", "route_threshold", "route_strong")
THIRD = ("route_certificate", "route_scorer")


@pytest.mark.parametrize(("version", "added"), [(1, SECOND + THIRD), (2, THIRD)])
def test_tables_of_a_version_before_keep_their_rows_and_get_the_new_columns(database, store, version, added):
    choice = Choice("weak", "score", "light", 0.0123, 0.05, "1a2b3c4d", "light-0a1b2c3d4e5f")
    before, after = (closed(ended(number, session="chat-7", choice=choice)) for number in (1, 2))
    store.insert([before])
    with database.transaction() as cursor:
        for column in added:
            cursor.execute(f"ALTER TABLE requests DROP COLUMN {column}")
        cursor.execute("UPDATE meta SET value = ? WHERE name = ?", (str(version), "ledger.schema_version"))
    store.migrate()
    store.insert([after])
    assert rows(database) == [before.row._replace(**dict.fromkeys(added)), after.row]
    assert (after.row.route_certificate, after.row.route_scorer) == ("1a2b3c4d", "light-0a1b2c3d4e5f")
    assert database.query("SELECT value FROM meta WHERE name = ?", ("ledger.schema_version",)) == [("3",)]
    check(database)


def test_a_new_window_has_committed_nothing(store):
    assert committed(store, budget("tenant:acme")) == 0


def test_a_known_window_has_what_its_rows_have(store):
    window = budget("tenant:acme")
    assert committed(store, window) == 0
    for number in range(3):
        record = ended(number, tenant="acme", started_s=DAY + 5.0, cost_micro_usd=100, windows=(window.id,))
        store.insert([closed(record)])
    assert committed(store, window) == 300


@pytest.mark.parametrize(
    ("scope", "spent"),
    [("tenant:acme", 11), ("tenant:other", 100), ("key:k2", 10), ("route:cheap", 101), ("all", 111), ("tag:batch", 0)],
)
def test_the_window_of_a_new_budget_begins_with_what_its_scope_has_spent(store, scope, spent):
    day = {"started_s": DAY + 3600.0, "windows": ()}
    store.insert(
        [
            closed(ended(1, tenant="acme", key="k1", route="cheap", cost_micro_usd=1, **day)),
            closed(ended(2, tenant="acme", key="k2", route="dear", cost_micro_usd=10, **day)),
            closed(ended(3, tenant="other", key="k3", route="cheap", cost_micro_usd=100, **day)),
            closed(
                ended(4, tenant="acme", key="k2", route="cheap", cost_micro_usd=9999, started_s=DAY - 1.0, windows=())
            ),
        ]
    )
    window = budget(scope)
    assert committed(store, window) == spent
    store.insert([closed(ended(5, started_s=DAY + 7200.0, cost_micro_usd=1000, windows=(window.id,)))])
    assert committed(store, window) == spent + 1000


def test_many_windows_are_told_at_once_as_each_alone(store):
    """Known and new ones, of every kind of scope and several beginnings, more than one statement takes."""
    day = {"started_s": DAY + 3600.0, "cost_micro_usd": 1}
    known = budget("tenant:acme")
    rows = [ended(n, tenant=f"t{n % 70}", key=f"k{n}", windows=(known.id,) if n % 2 else (), **day) for n in range(140)]
    store.insert([closed(row) for row in rows])
    scopes = ["all", "tag:x", "route:unknown", "tenant:acme", *(f"tenant:t{n}" for n in range(71))]
    scopes += [f"key:k{n}" for n in range(141)]
    windows = [budget(scope, start) for start in (0, DAY, DAY + 5000) for scope in scopes]
    told = asyncio.run(store.committed(windows))
    assert told[: len(scopes)] == [140, 0, 0, 0, *[2] * 70, 0, *[1] * 140, 0]
    assert told[len(scopes) : 2 * len(scopes)] == [140, 0, 0, 70, *[2] * 70, 0, *[1] * 140, 0]
    assert not any(told[2 * len(scopes) :])
    assert [store._committed([window])[0] for window in windows] == told
    assert asyncio.run(store.committed([])) == []


@pytest.mark.parametrize("starts_s", [0, DAY - 86400, DAY - 5 * 3600, DAY - 19_800, DAY + 60])
def test_a_window_begins_to_the_second_in_any_time_zone(store, starts_s):
    at = [DAY - 86400 * 3 + step * 1800 + 7.5 for step in range(48 * 4)]
    store.insert([closed(ended(number, started_s=s, cost_micro_usd=1, windows=())) for number, s in enumerate(at)])
    assert committed(store, budget("all", starts_s)) == sum(s >= starts_s for s in at)


def test_rows_that_came_before_the_first_question_are_not_counted_twice(store):
    window = budget("tenant:acme")
    old = ended(1, tenant="acme", started_s=DAY + 1.0, cost_micro_usd=5, windows=())
    new = ended(2, tenant="acme", started_s=DAY + 2.0, cost_micro_usd=7, windows=(window.id,))
    store.insert([closed(old)])
    store.insert([closed(new)])
    assert committed(store, window) == 12
    assert committed(store, window) == 12


def test_the_first_question_and_a_writer_at_once_lose_nothing(url, open_ledger):
    """Whichever comes first, each row is either in what the window begins with or added to it."""
    window = budget("all")
    stores = [LedgerStore(open_ledger(url)) for _ in range(2)]
    for round_ in range(20):
        window = Window(f"all/{round_}@{DAY}", window.budget, DAY, None)
        batch = [
            closed(ended(round_ * 100 + n, started_s=DAY + 1.0, cost_micro_usd=1, windows=(window.id,)))
            for n in range(20)
        ]
        begin = threading.Barrier(2)

        def ask(window=window, begin=begin):
            begin.wait(10)
            return stores[0]._committed([window])[0]

        def write(batch=batch, begin=begin):
            begin.wait(10)
            return stores[1].insert(batch)

        with ThreadPoolExecutor(2) as threads:
            asked, wrote = threads.submit(ask), threads.submit(write)
            assert wrote.result() == 20
            assert asked.result() in (round_ * 20, round_ * 20 + 20)
        assert stores[0]._committed([window])[0] == (round_ + 1) * 20


def test_an_id_is_what_makes_a_request(database, store):
    store.insert([closed(ended(1, response_id="same")), closed(ended(2, response_id="same"))])
    assert [row.request_id for row in rows(database)] == [request_id(1), request_id(2)]
    assert rows(database)[0].started_s == STARTED_S


def test_a_database_that_cannot_be_opened_says_so(tmp_path):
    with pytest.raises(DatabaseError, match="unable to open"):
        open_database(f"sqlite:///{tmp_path}/none/ledger.db")
    with pytest.raises(DatabaseError, match=r"PostgreSQL at 127\.0\.0\.1"):
        open_database("postgresql://nobody@127.0.0.1:1/none", timeout_s=2)
