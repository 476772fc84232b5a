"""What operators do, on real databases: each change durable, audited, seen by other replicas, and undone by the next."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.access.authority import Actor
from gateway.core.errors import BadRequest, Forbidden
from gateway.rollout.operate import ALIVE_S, Operations
from gateway.rollout.state import Conflict, State, wanted
from gateway.rollout.store import MOST_POLICIES, Report
from gateway.rollout.tally import Counts, Side
from tests.support.keys import NOW, ROOT, new_admin

A, B, C, D = ("a" * 12, "b" * 12, "c" * 12, "d" * 12)
TEXT = b'{"p.yaml": {"version": 1}}'


def report(store, gateway="g1", in_force=A, *, at=NOW, **more):
    fields = {"version": 0, "since_s": at, "files": in_force, **more}
    store.report(gateway, Report(gateway=gateway, seen_s=at, in_force=in_force, **fields))


def start(operations, candidate=C, mode="canary", share=0.05, at=NOW):
    return operations.start(candidate, TEXT, mode, share, ROOT, at)


def test_a_new_database_asks_for_nothing_and_opening_it_again_changes_nothing(store, open_both):
    assert (store.state(), store.version(), store.history(), store.reports()) == (State(), 0, [], [])
    store.came_into_force(A, TEXT, NOW)
    assert open_both()[0].history() == store.history()


def test_a_change_is_seen_by_another_replica_with_its_candidate(store, operations, open_both):
    report(store)
    done = start(operations)
    other = open_both()[0]
    assert (other.version(), other.state().version) == (done.version, done.version)
    assert (other.state().trial.candidate, other.state().trial.share) == (C, 0.05)
    assert other.policy(C) == TEXT
    assert other.policy(D) is None


def test_every_change_has_its_audit_row_and_a_refused_one_none(store, keys, operations):
    report(store)
    start(operations)
    operations.move(None, 0.5, ROOT, NOW)
    with pytest.raises(Conflict):
        start(operations)
    operations.roll_back(None, ROOT, NOW)
    rows = [row for row in keys.audit() if row.action.startswith(("rollout", "policy"))]
    assert [(row.action, row.subject, row.actor) for row in rows] == [
        ("rollout.stop", C, ROOT.id), ("rollout.set", C, ROOT.id), ("rollout.start", C, ROOT.id),
    ]  # fmt: skip
    assert (rows[1].before["trial"]["share"], rows[1].after["trial"]["share"]) == (0.05, 0.5)


def test_of_many_gateways_one_aborts_a_canary_and_it_is_on_the_audit(store, keys, operations, open_both):
    report(store)
    operations.start(C, TEXT, "canary", 0.05, ROOT, NOW, abort_on="errors>+2%, cost>10%")
    trial = store.state().trial
    assert trial.abort_on == "errors>+2%,cost>10%"
    others = [Operations(store, keys.policy_change) for store, keys in (open_both() for _ in range(4))]

    def abort(pair):
        try:
            return pair[1].abort(trial.id, "errors>+2%: x", Actor(f"gateway:g{pair[0]}"), NOW).told
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as pool:
        told = [each for each in pool.map(abort, enumerate(others)) if each is not None]
    assert told == [f"{C} is aborted: errors>+2%: x"]
    (row,) = [row for row in keys.audit() if row.action == "rollout.abort"]
    assert (row.subject, row.actor[:9], row.after["trial"]["aborted"]) == (C, "gateway:g", "errors>+2%: x")
    report(store, candidate=C, mode="canary", share=0.0)
    with pytest.raises(Conflict, match="was aborted"):
        operations.promote(ROOT, NOW)
    with pytest.raises(BadRequest, match="is no condition"):
        operations.move(None, 0.1, ROOT, NOW, abort_on="errors")
    operations.move(None, 0.1, ROOT, NOW, abort_on="none")
    assert (store.state().trial.aborted, store.state().trial.abort_on) == (None, "")


@pytest.mark.parametrize("role", ["auditor", "tenant_admin"])
def test_who_may_not_change_policies_changes_nothing(store, keys, operations, role):
    actor, _ = new_admin(keys, role, "shop" if role == "tenant_admin" else None)
    report(store, in_force=B)
    for change in (
        lambda: operations.start(C, TEXT, "canary", 0.1, actor, NOW),
        lambda: operations.roll_back(A, actor, NOW),
        lambda: operations.resume(actor, NOW),
    ):
        store.came_into_force(A, TEXT, NOW)
        with pytest.raises(Forbidden):
            change()
    assert (store.version(), store.policy(C)) == (0, None)


def test_changes_of_many_at_once_take_turns(store, operations, open_both):
    report(store)
    start(operations)
    others = [Operations(store, keys.policy_change) for store, keys in (open_both() for _ in range(4))]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda pair: pair[1].move(None, pair[0] / 100, ROOT, NOW), enumerate(others * 5, 1)))
    assert sorted(each.version for each in done) == list(range(2, 22)), "each has a version of its own"
    assert store.version() == 21


def test_a_rollback_without_a_trial_goes_to_the_policy_before(store, operations):
    for at, hash_ in enumerate((A, B), 1):
        store.came_into_force(hash_, TEXT, NOW + at)
    report(store, in_force=B)
    assert operations.roll_back(None, ROOT, NOW + 3).told == f"{A} is in force in place of {B}"
    assert wanted(store.state(), B, None).pinned == A
    store.came_into_force(A, TEXT, NOW + 4)
    report(store, in_force=A, at=NOW + 4)
    with pytest.raises(Conflict, match="no earlier policy is kept"):
        operations.roll_back(None, ROOT, NOW + 5)


def test_a_rollback_again_goes_back_one_more(store, operations):
    for at, hash_ in enumerate((A, B, C), 1):
        store.came_into_force(hash_, TEXT, NOW + at)
    report(store, in_force=C)
    operations.roll_back(None, ROOT, NOW + 3)
    store.came_into_force(B, TEXT, NOW + 4)
    report(store, in_force=B, at=NOW + 4)
    operations.roll_back(None, ROOT, NOW + 5)
    assert [wanted(store.state(), files, None).pinned for files in (A, B, C)] == [None, A, A]


def test_a_rollback_goes_where_it_is_told_by_the_beginning_of_a_hash(store, operations):
    for at, hash_ in enumerate((A, B, C), 1):
        store.came_into_force(hash_, TEXT, NOW + at)
    report(store, in_force=C)
    operations.roll_back("aaa", ROOT, NOW)
    assert wanted(store.state(), C, None).pinned == A
    for wrong in ("eee", ""):
        with pytest.raises(BadRequest, match="farthing policy history"):
            operations.roll_back(wrong, ROOT, NOW)


def test_gateways_that_serve_different_policies_want_to_be_told_which(store, operations):
    for at, hash_ in enumerate((A, B), 1):
        store.came_into_force(hash_, TEXT, NOW + at)
    report(store, "g1", A)
    report(store, "g2", B)
    with pytest.raises(Conflict, match="farthing policy rollback HASH"):
        operations.roll_back(None, ROOT, NOW)
    operations.roll_back(A, ROOT, NOW)
    assert wanted(store.state(), B, None).pinned == A


def test_gateways_that_are_gone_say_nothing(store, operations):
    for at, hash_ in enumerate((A, B), 1):
        store.came_into_force(hash_, TEXT, NOW + at)
    report(store, "dead", A, at=NOW - ALIVE_S)
    report(store, "ended", A)
    store.report("ended", Report(gateway="ended", seen_s=0.0, version=0, in_force=A, since_s=NOW, files=A))
    report(store, "g", B)
    assert operations.status(NOW).in_force == {B: 1}
    operations.roll_back(None, ROOT, NOW)
    assert wanted(store.state(), B, None).pinned == A


def test_without_a_gateway_the_last_policy_in_force_is_the_one_to_leave(store, operations):
    for at, hash_ in enumerate((A, B), 1):
        store.came_into_force(hash_, TEXT, NOW + at)
    operations.roll_back(None, ROOT, NOW)
    assert wanted(store.state(), B, None).pinned == A


def test_a_promotion_pins_the_candidate_and_a_rollback_takes_it_back(store, operations):
    store.came_into_force(A, TEXT, NOW)
    report(store)
    start(operations)
    operations.promote(ROOT, NOW + 1)
    assert (wanted(store.state(), A, None).pinned, store.state().trial) == (C, None)
    store.came_into_force(C, TEXT, NOW + 2)
    report(store, in_force=C, files=A, at=NOW + 2)
    operations.roll_back(None, ROOT, NOW + 3)
    assert [wanted(store.state(), files, None).pinned for files in (A, C)] == [None, A]


def test_a_candidate_that_has_come_into_force_by_the_files_is_rolled_back_as_such(store, operations):
    store.came_into_force(A, TEXT, NOW)
    report(store)
    start(operations)
    store.came_into_force(C, TEXT, NOW + 1)
    report(store, in_force=C, at=NOW + 1)
    assert "is in force in place of" in operations.roll_back(None, ROOT, NOW + 2).told


def test_a_rollout_of_the_file_is_stopped_and_promoted_too(store, operations):
    store.came_into_force(A, TEXT, NOW)
    report(store, declared="file1", candidate=C)
    with pytest.raises(Conflict, match="no gateway has the policy"):
        operations.promote(ROOT, NOW)
    store.keep(C, TEXT, NOW)
    assert operations.roll_back(None, ROOT, NOW).told == f"{C} is no longer on trial"
    assert store.state().stopped == ("file1",)
    operations.resume(ROOT, NOW)
    operations.promote(ROOT, NOW)
    assert (wanted(store.state(), A, None).pinned, store.state().stopped) == (C, ("file1",))


def test_counts_of_the_trial_add_up_over_gateways_the_ended_ones_too(store, operations):
    report(store)
    start(operations)
    trial = store.state().trial.id
    for gateway, seen, at in (("g1", trial, NOW), ("g2", trial, 0.0), ("g3", "another/1", NOW)):
        counts = Counts(candidate=Side(requests=5, micro_usd=7))
        candidate = C if seen == trial else None
        made = Report(
            gateway=gateway, seen_s=at, version=1, in_force=A, since_s=NOW, files=A, candidate=candidate, trial=seen,
            counts=counts,
        )  # fmt: skip
        store.report(gateway, made)
    counts = operations.status(NOW).counts
    assert (counts.candidate.requests, counts.candidate.micro_usd) == (10, 14)


def test_who_has_not_followed_is_told(store, operations):
    report(store, "g1")
    report(store, "g2")
    done = start(operations)
    report(store, "g1", version=done.version)
    assert operations.behind(done.version, ("g1", "g2", "unknown")) == ["g2"]


def test_the_history_is_bounded_and_never_loses_what_is_asked_for(store, operations):
    report(store)
    start(operations)
    for n in range(MOST_POLICIES + 5):
        store.came_into_force(f"{n:012d}", TEXT, NOW + 1 + n)
    assert len(store.history()) == MOST_POLICIES
    assert store.history()[0].hash == f"{MOST_POLICIES + 4:012d}"
    assert store.policy(C) == TEXT


def test_coming_into_force_again_keeps_when_it_first_was(store):
    for at, hash_ in enumerate((A, B, A)):
        store.came_into_force(hash_, TEXT, NOW + at)
    first = store.history()[0]
    assert (first.hash, first.first_s, first.last_s) == (A, NOW, NOW + 2)
