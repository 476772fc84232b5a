"""Which policy serves a gateway: over real files and a real database, as operators, files and outages change it."""

import gc
import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from gateway.access.keys_database import KeyStore
from gateway.core.exchange import Exchange, Identity
from gateway.database import DatabaseError, open_database
from gateway.policy.compile import compile_policy
from gateway.policy.load import document_from_stored, load_policy, read_document
from gateway.policy.watch import PolicyHolder
from gateway.rollout.asked import Asking
from gateway.rollout.operate import Operations
from gateway.rollout.serving import COUNTS_S, MAX_STALE_S, REMIND_S, Serving
from gateway.rollout.state import Conflict
from gateway.rollout.store import RolloutStore
from gateway.rollout.tally import Counts, Side
from tests.support.calls import chat
from tests.support.keys import NOW, ROOT, HandClock
from tests.support.policies import secret
from tests.support.records import record

OLD = {"version": 1, "targets": {"old": {"provider": "sandbox"}}}
NEW = {"version": 1, "targets": {"new": {"provider": "sandbox"}}}


class World(SimpleNamespace):
    """One gateway's serving, with its files, its database and its clock."""

    def write(self, document, name="p.yaml"):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))

    def candidate(self, document):
        return compile_policy(document_from_stored(json.dumps({"p.yaml": document}).encode()), secret)

    def start(self, document=NEW, mode="canary", share=1.0, **more):
        policy = self.candidate(document)
        self.operations.start(policy.hash, policy.text, mode, share, ROOT, NOW, **more)
        return policy

    def guarded(self):
        """What app and rolling give it."""
        self.alerts = []
        self.serving.abort = lambda id_, why: bool(self.operations.abort(id_, why, ROOT, NOW))
        self.serving.alert = lambda *said: self.alerts.append(said)

    async def count(self, candidate, ok=0, failed=0):
        for outcome, n in (("ok", ok), ("upstream_error", failed)):
            for _ in range(n):
                self.serving.tally.add(record(outcome=outcome), candidate=candidate)
        self.clock.advance(COUNTS_S)
        await self.serving.refresh()

    def serving_again(self):
        holder = PolicyHolder(
            self.folder, lambda: load_policy(self.folder, secret), wall=self.clock.wall, on_change=self.files_changed
        )
        self.holder = holder
        self.serving = Serving(
            holder,
            Asking(self.folder, self.store, lambda path: read_document(path).text),
            self.store,
            lambda text, beside: compile_policy(document_from_stored(text), self.resolve, beside=beside),
            clock=self.clock,
            changed=self.changes.append,
            gateway="g",
        )
        return self.serving

    def files_changed(self, policy):
        self.serving.files_changed(policy)

    def pick(self, request=None):
        exchange = Exchange("0" * 32, request or chat("hi"), self.clock.monotonic(), NOW)
        exchange.identity = Identity("shop", "ci")
        return list(self.serving.pick(exchange).targets)


@pytest.fixture
def world(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/r.db")
    store, keys, folder = RolloutStore(database), KeyStore(database), tmp_path / "policies"
    folder.mkdir()
    made = World(
        folder=folder, store=store, keys=keys, clock=HandClock(), changes=[], resolve=secret, database=database,
        operations=Operations(store, keys.policy_change),
    )  # fmt: skip
    made.write(OLD)
    made.serving_again()
    yield made
    database.close()


async def test_a_candidate_serves_its_share_and_requests_without_a_model_never(world):
    world.start(share=1.0)
    await world.serving.refresh()
    assert world.pick() == ["new"]
    assert world.pick(_files()) == ["old"]
    world.operations.roll_back(None, ROOT, NOW)
    await world.serving.refresh()
    assert world.pick() == ["old"]


def _files():
    from gateway.protocol.openai import parse_other

    return parse_other("GET", "/v1/files", b"", [], {}, b"")


async def test_a_shadow_serves_nobody(world):
    world.start(mode="shadow")
    await world.serving.refresh()
    assert world.serving.trial.policy.hash == world.candidate(NEW).hash
    assert world.pick() == ["old"]


async def test_while_a_rollback_could_not_be_seen_nothing_is_on_trial(world):
    world.start()
    await world.serving.refresh()
    world.clock.advance(MAX_STALE_S - 0.1)
    assert (world.pick(), world.serving.stale) == (["new"], False)
    world.database.close()
    with pytest.raises(DatabaseError):
        await world.serving.refresh()
    world.clock.advance(0.2)
    assert (world.pick(), world.serving.stale) == (["old"], True)


async def test_a_pinned_policy_outlives_a_restart_and_the_files_it_replaces(world):
    before = world.serving.current
    await world.serving.refresh()
    world.write(NEW)
    assert await world.holder.poll() is True
    assert world.pick() == ["new"], "files are in force at once"
    await world.serving.refresh()
    world.operations.roll_back(None, ROOT, NOW)
    await world.serving.refresh()
    assert (world.pick(), world.serving.pinned) == (["old"], before.hash)

    assert (world.serving_again().pinned, world.pick()) == (before.hash, ["old"])

    world.write({**NEW, "money": {"timezone": "Europe/Berlin"}})
    assert await world.holder.poll() is True
    assert world.pick() == ["new"], "the files hold something else than what was rolled back"
    await world.serving.refresh()
    assert world.serving.pinned is None
    world.write(NEW)
    assert await world.holder.poll() is True
    assert world.serving.current.hash != world.holder.current.hash, "what was rolled back serves not even for a moment"
    await world.serving.refresh()
    assert world.pick() == ["old"]


async def test_a_pinned_policy_is_not_forgotten(world, caplog):
    await world.serving.refresh()
    world.start()
    world.operations.promote(ROOT, NOW)
    await world.serving.refresh()
    caplog.clear()
    world.serving._remind()
    assert not caplog.records
    world.clock.advance(REMIND_S)
    world.serving._remind()
    assert "is pinned over" in caplog.text
    assert "farthing policy resume" in caplog.text


async def test_a_candidate_that_does_not_compile_here_is_not_on_trial_here(world):
    def none(reference):
        from gateway.core.errors import PolicyError

        raise PolicyError(f"{reference} is not set")

    world.resolve = none
    world.start({**NEW, "keys": {"k": {"tenant": "t", "secret": "env:MISSING"}}})
    await world.serving.refresh()
    assert world.pick() == ["old"]
    assert "env:MISSING is not set" in world.serving.errors[0]
    assert world.store.reports()[0].errors == world.serving.errors
    world.operations.roll_back(None, ROOT, NOW)
    await world.serving.refresh()
    assert world.serving.errors == ()


async def test_the_candidate_follows_the_policy_in_force_that_it_serves_beside(world):
    world.start({**NEW, "keys": {"k": {"tenant": "t", "secret": "env:K"}}})
    await world.serving.refresh()
    assert world.serving.trial.policy.keys == {}
    world.write({**OLD, "keys": {"a": {"tenant": "a", "secret": "env:A"}}})
    await world.holder.poll()
    await world.serving.refresh()
    assert [each.key for each in world.serving.trial.policy.keys.values()] == ["a"]


async def test_a_candidate_that_the_files_have_taken_on_is_no_longer_on_trial(world):
    world.start()
    await world.serving.refresh()
    world.write(NEW)
    await world.holder.poll()
    await world.serving.refresh()
    assert (world.serving.trial, world.pick()) == (None, ["new"])


async def test_policies_are_in_service_as_long_as_a_request_has_one(world):
    await world.serving.refresh()
    under_way = world.serving.current
    world.write(NEW)
    await world.holder.poll()
    await world.serving.refresh()
    assert [list(policy.targets) for policy in world.changes[-1]] == [["old"], ["new"]], "the one in force is the last"
    del under_way
    world.changes.clear()
    gc.collect()
    await world.serving.refresh()
    assert [list(policy.targets) for policy in world.changes[-1]] == [["new"]]


async def test_the_file_names_a_candidate_and_its_last_good_one_stays(world):
    world.write(NEW, "candidate/p.yaml")
    world.write("version: 1\ncandidate: candidate\nmode: canary\nshare: 100%\n", "rollout.yaml")
    await world.serving.refresh()
    await world.serving.refresh()
    assert world.pick() == ["new"]
    world.write("version: 1\ntargets: {new: {provider: sandbx}}\n", "candidate/p.yaml")
    await world.serving.refresh()
    assert world.pick() == ["new"]
    assert "did you mean 'sandbox'?" in world.serving.errors[0]
    world.write({**NEW, "targets": {"newer": {"provider": "sandbox"}}}, "candidate/p.yaml")
    await world.serving.refresh()
    assert (world.pick(), world.serving.errors) == (["newer"], ())
    world.write("version: 1\ncandidate: candidate\nmode: of\n", "rollout.yaml")
    await world.serving.refresh()
    assert (world.pick(), len(world.serving.errors)) == (["newer"], 1)
    (world.folder / "rollout.yaml").unlink()
    await world.serving.refresh()
    assert (world.pick(), world.serving.errors) == (["old"], ())


async def test_a_file_that_is_no_policy_is_no_reload(world):
    world.write("version: 1\ncandidate: x\nmode: off\n", "rollout.yaml")
    assert await world.holder.poll() is None
    assert list(load_policy(world.folder, secret).targets) == ["old"]


async def test_what_was_in_force_is_kept_without_secrets(world):
    await world.serving.refresh()
    document = {**OLD, "targets": {"up": {"provider": "openai", "api_key": "env:UP"}}}
    world.write("# hunter2\n" + json.dumps(document))
    await world.holder.poll()
    await world.serving.refresh()
    assert [kept.hash for kept in world.store.history()] == [world.serving.current.hash, world.candidate(OLD).hash]
    world.database.close()
    raw = b"".join(path.read_bytes() for path in Path(world.folder).parent.glob("r.db*"))
    assert b"env:UP" in raw
    assert b"hunter2" not in raw
    assert secret("env:UP").encode() not in raw


async def test_the_end_of_a_gateway_is_reported(world):
    await world.serving.refresh()
    assert len(world.operations.status(NOW).gateways) == 1
    await world.serving.aclose()
    assert world.operations.status(NOW).gateways == ()


async def test_a_canary_that_breaks_its_condition_is_held_at_none_and_goes_on_when_told_to(world, caplog):
    policy = world.start(abort_on="errors>+2%, cost>+10%")
    world.guarded()
    await world.serving.refresh()
    await world.count(False, ok=500)
    await world.count(True, ok=49, failed=1)
    assert (world.pick(), world.serving.trial.aborted) == (["new"], None)
    await world.count(True, failed=40)
    await world.serving.refresh()
    why = "errors>+2%: 45.56% of 90 requests on trial failed, 0.00% of 500 in force"
    assert (world.pick(), world.serving.trial.aborted, world.serving.trial.share) == (["old"], why, 0.0)
    assert [(kind, members["policy"], members["why"]) for kind, members in world.alerts] == [
        ("rollout.aborted", policy.hash, why)
    ]
    assert f"the canary {policy.hash} is aborted, it serves no request: {why}" in caplog.text
    with pytest.raises(Conflict, match="was aborted"):
        world.operations.promote(ROOT, NOW)
    assert world.serving_again().trial.share == 0.0, "a restart does not let it go on"

    world.operations.move(None, 1.0, ROOT, NOW)
    world.guarded()
    await world.serving.refresh()
    assert (world.pick(), world.serving.tally.counts.candidate.requests) == (["new"], 0)
    await world.count(True, ok=10)
    assert world.pick() == ["new"], "what was counted before counts no more"


async def test_what_all_gateways_have_counted_is_judged_together(world):
    world.start(abort_on="errors>+2%")
    world.guarded()
    await world.serving.refresh()
    await world.count(False, ok=500)
    trial = world.serving.trial
    for name in ("g2", "g3", "g4"):
        counts = Counts(Side(100), Side(requests=4, errors=4))
        there = msgspec.structs.replace(world.store.reports()[0], gateway=name, trial=trial.id, counts=counts)
        world.store.report(name, there)
    await world.count(True, ok=1)
    await world.serving.refresh()
    assert world.serving.trial.aborted.startswith("errors>+2%: 92.31% of 13 requests")


async def test_without_conditions_nothing_is_aborted(world):
    world.start()
    world.guarded()
    await world.serving.refresh()
    await world.count(False, ok=500)
    await world.count(True, failed=200)
    assert (world.pick(), world.alerts) == (["new"], [])


async def test_a_guard_that_cannot_act_lets_the_canary_go_on(world, caplog):
    world.start(abort_on="errors>+2%")

    def broken(id_, why):
        raise DatabaseError("away")

    world.serving.abort = broken
    await world.serving.refresh()
    await world.count(False, ok=500)
    await world.count(True, failed=200)
    assert world.pick() == ["new"]
    assert "goes on without a look at its conditions" in caplog.text
