"""A sound ledger passes; whatever is changed behind its back is found and named. On each database."""

import pytest

from gateway.core.exchange import Admission
from gateway.ledger.journal import Journal
from gateway.ledger.rows import closed, crashed
from gateway.ledger.verify import as_json, as_text, verify
from tests.support.ledger_rows import at, ended, saved, traffic


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def records(store):
    made = traffic(300, seed=3, since="2026-11-01T20:00", hours=40)
    store.insert([closed(record) for record in made])
    return made


def change(database, sql, *params):
    with database.transaction() as cursor:
        cursor.execute(sql, params)


def wrong(found):
    """What each failing check says, and its examples."""
    return {check.says: check.examples for check in found.checks if check.wrong}


IDENTITY = "baseline - charged is the sum of savings less waste and own cost"
COSTS = "the attempts are what was charged"
HOURS = "hourly roll-ups are the sums of their rows"
DAYS = "daily roll-ups are the sums of their hours"
BUDGETS = "budgets have committed what their rows are charged"
ACCEPTED = "every accepted request has its row, charged as it ended"


def test_a_sound_ledger_adds_up(database, folder, records):
    found = verify(database, folder)
    assert wrong(found) == {}
    assert (found.sound, found.rows) == (True, 300)
    assert {check.says: check.checked for check in found.checks}[COSTS] == 300
    assert {check.says: check.checked for check in found.checks}[BUDGETS] == 4
    assert "the ledger adds up" in as_text(found)


def test_an_empty_ledger_adds_up(store, database, folder):
    found = verify(database, folder)
    assert (found.sound, found.rows, found.since) == (True, 0, None)
    assert "an empty ledger" in as_text(found)


def test_pages_lose_no_row(database, folder, records, monkeypatch):
    monkeypatch.setattr("gateway.ledger.verify.PAGE", 3)
    found = verify(database, folder)
    assert (wrong(found), found.rows) == ({}, 300)


def test_rows_of_one_instant_are_all_read(store, database, folder, monkeypatch):
    store.insert([closed(ended("2026-11-01", 1)) for _ in range(10)])
    monkeypatch.setattr("gateway.ledger.verify.PAGE", 3)
    assert wrong(verify(database, folder)) == {}


def test_a_term_of_the_identity_that_is_off_names_its_request(store, database, folder):
    record = ended("2026-11-01", 700, savings=saved(700, routing=300))
    store.insert([closed(record)])
    change(database, "UPDATE requests SET saved_routing = saved_routing + 5")
    found = wrong(verify(database, folder))
    assert found[IDENTITY] == [f"{record.request_id}: off by -0.000005 USD"]
    assert "saved_routing 305 in the rows, 300 in the roll-up" in found[HOURS][0]


def test_a_charge_that_is_not_its_attempts_names_its_request(store, database, folder):
    record = ended("2026-11-01", 700)
    store.insert([closed(record)])
    change(database, "UPDATE requests SET charged_micro = 701")
    assert wrong(verify(database, folder))[COSTS] == [f"{record.request_id}: off by 0.000001 USD"]


def test_a_missing_row_is_found_in_every_sum(store, database, folder):
    kept, lost = ended("2026-11-01", 700, windows=("all/total@0",)), ended("2026-11-01", 30, windows=("all/total@0",))
    store.insert([closed(kept), closed(lost)])
    change(database, "DELETE FROM requests WHERE request_id = ?", lost.request_id)
    change(database, "UPDATE spend SET committed_micro = 5000")
    found = wrong(verify(database, folder))
    assert "requests 1 in the rows, 2 in the roll-up" in found[HOURS][0]
    assert found[BUDGETS] == ["all/total@0: 0.005000 USD committed, 0.000700 USD in its rows"]


def test_an_hour_that_lost_all_its_rows_is_found(store, database, folder):
    store.insert([closed(ended(f"2026-11-01T0{hour}:00", 1)) for hour in range(3)])
    change(
        database,
        "DELETE FROM requests WHERE started_s >= ? AND started_s < ?",
        at("2026-11-01T01"),
        at("2026-11-01T02"),
    )
    assert "2026-11-01T01:00Z" in wrong(verify(database, folder))[HOURS][0]


def test_a_daily_sum_that_is_off_is_found(store, database, folder):
    store.insert([closed(ended("2026-11-01T05:00", 1, tenant="shop"))])
    change(database, "UPDATE rollup_day SET charged_micro = 3")
    (example,) = wrong(verify(database, folder))[DAYS]
    assert example.startswith("2026-11-01 tenant=shop ")
    assert example.endswith("charged_micro -2 in the hours against the day")


def test_a_budget_that_committed_too_little_is_found(store, database, folder):
    store.insert([closed(ended("2026-11-01", 700, windows=("tenant:acme/day@1793491200",)))])
    change(database, "UPDATE spend SET committed_micro = 699")
    assert list(wrong(verify(database, folder))) == [BUDGETS]


def test_a_budget_made_later_begins_with_what_its_scope_had_spent(store, database, folder):
    store.insert([closed(ended("2026-11-01T05:00", 700)), closed(ended("2026-11-01T06:00", 40, tenant="other"))])
    window = "tenant:acme/month@1793491200"
    store.insert([closed(ended("2026-11-01T07:00", 11, windows=(window,)))])
    change(database, "UPDATE spend SET committed_micro = 711")
    found = verify(database, folder)
    assert wrong(found) == {}
    assert "before the budget was made" in as_text(found)
    change(database, "UPDATE spend SET committed_micro = 712")
    assert list(wrong(verify(database, folder))) == [BUDGETS]


def test_unknown_prices_commit_their_reservation(store, database, folder):
    store.insert([closed(ended("2026-11-01", None, windows=("all/total@0",)))])
    found = verify(database, folder)
    assert wrong(found) == {}
    assert "no known price" in as_text(found)


def test_rows_past_their_retention_are_not_missed(store, database, folder):
    store.insert([closed(ended(f"2026-11-0{day}", 7, windows=("all/total@0",))) for day in (1, 2, 3)])
    change(database, "DELETE FROM requests WHERE started_s < ?", at("2026-11-02"))
    found = verify(database, folder)
    assert wrong(found) == {}
    assert "past the retention of rows" in as_text(found)


def test_hours_past_their_retention_are_not_missed(store, database, folder):
    store.insert([closed(ended(f"2026-11-0{day}T05:00", 7)) for day in (1, 2, 3)])
    change(database, "DELETE FROM requests WHERE started_s < ?", at("2026-11-03"))
    change(database, "DELETE FROM rollup_hour WHERE hour < ?", at("2026-11-02"))
    assert wrong(verify(database, folder)) == {}


def test_only_ten_differences_are_named(store, database, folder):
    store.insert([closed(ended("2026-11-01", 7)) for _ in range(25)])
    change(database, "UPDATE requests SET attempts = '[]'")
    found = verify(database, folder)
    (check,) = [check for check in found.checks if check.wrong]
    assert (check.wrong, len(check.examples)) == (25, 10)
    assert "... and 15 more" in as_text(found)
    assert '"sound": false' in as_json(found)


def admission(record):
    return Admission(
        record.request_id, record.started_s, record.tenant, record.key, (), "openai", "chat", "p", "default", "m", "t",
        "openai_compatible", "m", False, 5000,
    )  # fmt: skip


@pytest.fixture
def journal(folder):
    opened = Journal(folder)
    opened.recover()
    yield opened
    opened.shut()


def test_accepted_requests_have_their_rows_those_under_way_are_apart(store, database, folder, journal):
    done, open_, waiting = (ended("2026-11-01", 7) for _ in range(3))
    for record in (done, open_, waiting):
        journal.admit(admission(record))
    for record in (done, waiting):
        journal.close(record)
    store.insert([closed(done)])
    found = verify(database, folder)
    accepted = found.checks[0]
    assert (wrong(found), accepted.checked) == ({}, 1)
    assert accepted.notes == [
        "1 requests are under way or were cut off by a crash",
        "1 ended requests wait to be written; a gateway writes them when it starts",
    ]


def test_a_row_that_is_gone_behind_the_checkpoint_is_found(store, database, folder, journal):
    kept, lost, open_ = (ended("2026-11-01", 7) for _ in range(3))
    for record in (kept, lost):
        journal.admit(admission(record))
        journal.close(record)
    journal.settle(journal.position)
    journal.admit(admission(open_))
    store.insert([closed(kept)])
    assert wrong(verify(database, folder)) == {ACCEPTED: [f"{lost.request_id}: accepted, ended, and without a row"]}


def test_a_row_that_is_not_what_was_journaled_is_found(store, database, folder, journal):
    record = ended("2026-11-01", 7)
    journal.admit(admission(record))
    journal.close(record)
    store.insert([closed(ended("2026-11-01", 9, request_id=record.request_id))])
    (example,) = wrong(verify(database, folder))[ACCEPTED]
    assert example == f"{record.request_id}: ended as 0.000007 USD, ok; its row says 0.000009 USD, ok"


def test_a_crashed_request_is_charged_what_was_reserved(store, database, folder):
    store.insert([crashed(admission(ended("2026-11-01", 7)))])
    assert wrong(verify(database, folder)) == {}
    change(database, "UPDATE requests SET reserved_micro = 1")
    assert list(wrong(verify(database, folder))) == [COSTS]


def test_journals_of_several_processes_are_all_read(store, database, folder):
    folder.mkdir()
    for name in ("a", "b"):
        one = Journal(folder / name)
        one.admit(admission(ended("2026-11-01", 7)))
        one.shut()
    assert verify(database, folder).checks[0].notes == ["2 requests are under way or were cut off by a crash"]


def test_damage_is_found(store, database, folder):
    journal = Journal(folder)
    for record in [ended("2026-11-01", 7) for _ in range(3)]:
        journal.admit(admission(record))
    journal.shut()
    (segment,) = folder.glob("*.journal")
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    (example,) = wrong(verify(database, folder))[ACCEPTED]
    assert "damaged bytes" in example
