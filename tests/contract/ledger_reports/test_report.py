"""What a report says is what its rows say, on each database."""

import random
from collections import defaultdict

import pytest

from gateway.core.errors import BadRequest
from gateway.ledger.report import COLUMNS, DIMENSIONS, Measures, ask, question
from gateway.ledger.rows import closed, measures
from tests.support.ledger_rows import at, ended, saved, traffic

HOUR_S, DAY_S = 3600, 86400


def settle(store, records):
    store.insert([closed(record) for record in records])


def told(report):
    return {line.group: line.sums for line in report.lines}


def expected(records, by):
    """The sums of `records`, made from the rows one by one."""
    sums = defaultdict(Measures)
    for record in records:
        row = closed(record).row
        group = tuple(
            int(row.started_s // length) * length
            if (length := {"day": DAY_S, "hour": HOUR_S}.get(name))
            else getattr(row, COLUMNS[name])
            for name in by
        )
        added = (
            have + more
            for have, more in zip(
                (getattr(sums[group], name) for name in Measures.__struct_fields__), measures([row]), strict=True
            )
        )
        sums[group] = Measures(*added)
    return dict(sums)


@pytest.fixture
def records(store):
    made = traffic(400, seed=7, since="2026-11-01T20:00", hours=60)
    settle(store, made)
    return made


@pytest.mark.parametrize("by", [*DIMENSIONS, "tenant,route,model", "day,tenant", "hour,outcome,cache"])
def test_groups_are_the_sums_of_their_rows(database, records, by):
    names = tuple(by.split(","))
    assert told(ask(database, question(by, "", None, None))) == expected(records, names)


@pytest.mark.parametrize("seed", range(8))
def test_a_period_has_the_rows_of_its_hours(database, records, seed):
    dice = random.Random(seed)
    since, until = sorted(int(at("2026-11-01")) + HOUR_S * dice.randrange(24 * 4) for _ in range(2))
    until += HOUR_S
    inside = [record for record in records if since <= record.started_s < until]
    assert told(ask(database, question("tenant,day", "", since, until))) == expected(inside, ("tenant", "day"))


def test_conditions_are_alternatives_within_a_dimension_and_all_hold_across(database, records):
    wanted = [r for r in records if r.tenant in ("shop", "lab") and r.route == "chat"]
    report = ask(database, question("tenant", "tenant=shop, tenant=lab, route=chat", None, None))
    assert told(report) == expected(wanted, ("tenant",))


def test_the_total_is_the_sum_of_the_lines(database, records):
    report = ask(database, question("tenant,route,model", "", None, None))
    assert report.total == next(iter(expected(records, ()).values()))


def test_most_expensive_first_within_each_day(store, database):
    settle(store, [ended("2026-11-02", 5, tenant="a"), ended("2026-11-01", 1, tenant="a")])
    settle(store, [ended("2026-11-01", 2, tenant="b"), ended("2026-11-01", 2, tenant="c")])
    lines = ask(database, question("tenant,day", "", None, None)).lines
    assert [line.group[0] for line in lines] == ["b", "c", "a", "a"]


def test_the_identity_holds_for_what_has_a_baseline_and_the_rest_is_apart(store, database):
    with_baseline = [
        ended("2026-11-01", 700, savings=saved(700, routing=900, waste_retries=100)),
        ended("2026-11-01", 50, savings=saved(50, own=80)),
    ]
    settle(store, [*with_baseline, ended("2026-11-01", 1000), ended("2026-11-01", None)])
    total = ask(database, question("tenant", "", None, None)).total
    assert (total.charged_compared, total.charged_apart) == (750, 1000)
    assert (total.net_saved, total.waste, total.unknown_cost) == (900 - 100 - 80, 100, 1)
    assert total.baseline_micro - total.charged_compared == total.net_saved


def test_savings_can_be_negative(store, database):
    settle(store, [ended("2026-11-01", 700, savings=saved(700, routing=-300, waste_escalation=200))])
    assert ask(database, question("tenant", "", None, None)).total.net_saved == -500


def test_what_has_no_known_price_costs_an_unknown_amount(store, database):
    settle(store, [ended("2026-11-01", None, tenant="a"), ended("2026-11-01", None, tenant="b")])
    settle(store, [ended("2026-11-01", 3, tenant="b")])
    charged = {line.group[0]: line.sums.charged for line in ask(database, question("tenant", "", None, None)).lines}
    assert charged == {"a": None, "b": 3}


def test_an_empty_ledger_has_no_lines(store, database):
    report = ask(database, question("tenant", "", None, None))
    assert (report.lines, report.total, report.empty) == ((), Measures(), True)


def test_an_edge_whose_hours_are_gone_counts_its_whole_day(store, database):
    settle(store, [ended("2026-10-01T01:00", 1), ended("2026-10-01T20:00", 2), ended("2026-11-01", 4)])
    with database.transaction() as cursor:
        cursor.execute("DELETE FROM rollup_hour WHERE hour < ?", (int(at("2026-11-01")),))
    report = ask(database, question("tenant", "", int(at("2026-10-01T12:00")), None))
    assert report.total.charged_micro == 7
    assert [part.table for part in report.read] == ["rollup_day"]


def test_raw_rows_are_never_read(store, database, records):
    with database.transaction() as cursor:
        cursor.execute("DROP TABLE requests")
    assert ask(database, question("tenant", "", int(at("2026-11-02T03:00")), None)).total.requests > 0


@pytest.mark.parametrize(
    ("by", "where", "since", "until", "says"),
    [
        ("tenant,colour", "", None, None, "'colour' is no dimension .* tenant, key, route, model"),
        ("", "", None, None, "nothing to group by"),
        ("tenant,tenant", "", None, None, "names a dimension twice"),
        ("tenant", "colour=red", None, None, "'colour=red' is no condition; fix: NAME=VALUE"),
        ("tenant", "shop", None, None, "'shop' is no condition"),
        ("tenant", "day=2026-11-01", None, None, "is no condition"),
        ("tenant", "", 7200, 7200, "the period is empty"),
    ],
)
def test_what_cannot_be_asked_is_refused_naming_the_choices(by, where, since, until, says):
    with pytest.raises(BadRequest, match=says):
        question(by, where, since, until)
