"""What operators do with rollouts, for the command line and the admin API alike, each with its audit row.

A change is one transaction: who asks is checked, the state is changed, the audit is written. What is in force is what
the gateways that are alive report; where they differ, a rollback wants to be told to which policy. Blocks; raises
`Conflict`, `BadRequest`, `Forbidden`, `DatabaseError`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from gateway.access.authority import Actor
from gateway.core.errors import BadRequest
from gateway.database import Cursor
from gateway.policy.rollout_file import Mode
from gateway.rollout import state as states
from gateway.rollout.guard import parse_guard
from gateway.rollout.state import Conflict, State, Trial
from gateway.rollout.store import Kept, Report, RolloutStore, change, keep_candidate
from gateway.rollout.tally import Counts, total

ALIVE_S = 45.0
"""A gateway that has not reported for longer is taken for gone: three times what lies between two reports."""


class Changing(Protocol):
    """A transaction under way."""

    cursor: Cursor

    def note(
        self, action: str, subject: str, tenant: str | None, before: dict[str, Any] | None, after: dict[str, Any]
    ) -> int:
        """Writes the audit row."""
        ...


Transaction = Callable[[Actor, float], AbstractContextManager[Changing]]
"""For a change by an actor, which may do that, at a time."""


class Done(msgspec.Struct, frozen=True):
    """A change that is durable: the version that gateways follow to, and what it was in words."""

    version: int
    told: str


class Status(msgspec.Struct, frozen=True):
    """How it stands. `gateways` are alive; `counts` are of the trial, over all that have served it."""

    state: State
    gateways: tuple[Report, ...]
    counts: Counts

    @property
    def in_force(self) -> dict[str, int]:
        """How many gateways serve each policy."""
        found: dict[str, int] = {}
        for report in self.gateways:
            found[report.in_force] = found.get(report.in_force, 0) + 1
        return found


class Operations:
    """See the module."""

    def __init__(self, store: RolloutStore, transaction: Transaction) -> None:
        self._store = store
        self._transaction = transaction

    def status(self, now: float) -> Status:
        """As of now."""
        reports, state = self._store.reports(), self._store.state()
        alive = tuple(report for report in reports if _alive(report, now))
        trials = {report.trial for report in alive if report.candidate is not None}
        if not alive and state.trial is not None:
            trials = {state.trial.id}
        return Status(state, alive, total([each.counts for each in reports if each.trial in trials and each.trial]))

    def history(self) -> list[Kept]:
        """The policies that were in force, the last one first."""
        return self._store.history()

    def text(self, hash_: str) -> bytes:
        """What a kept policy is made of: JSON of data by file name; `hash_` may be the beginning of one."""
        found = self._store.policy(self._named(hash_))
        assert found is not None, "it is in the history"
        return found

    def start(
        self, candidate: str, text: bytes, mode: Mode, share: float, actor: Actor, now: float, *, abort_on: str = ""
    ) -> Done:
        """Puts a policy on trial; `abort_on` as `gateway.rollout.guard` reads it."""
        seen = self._seen(now)
        trial = Trial(candidate, mode, share, now, actor.id, _guard(abort_on) or "")

        def how(state: State) -> State:
            return states.started(state, trial, seen.in_force, seen.declared)

        with self._transaction(actor, now) as changing:
            keep_candidate(changing.cursor, candidate, text, now)
            return self._changed(changing, "rollout.start", candidate, how, now, f"{candidate}: {_words(mode, share)}")

    def move(
        self, mode: Mode | None, share: float | None, actor: Actor, now: float, *, abort_on: str | None = None
    ) -> Done:
        """Changes the mode, the share or the conditions (`none` for no more) of what is on trial."""
        guard = _guard(abort_on)
        with self._transaction(actor, now) as changing:
            before, after = change(changing.cursor, lambda state: states.moved(state, mode, share, guard), now)
            trial = after.trial
            assert trial is not None, "`moved` raises without one"
            told = f"{trial.candidate}: {_words(trial.mode, trial.share)}"
            return self._noted(changing, "rollout.set", trial.candidate, before, after, told)

    def abort(self, id_: str, why: str, actor: Actor, now: float) -> Done:
        """Holds the canary `id_` up: it has no requests any more. Raises `Conflict` where it no longer runs."""
        with self._transaction(actor, now) as changing:
            before, after = change(changing.cursor, lambda state: states.aborted(state, id_, why), now)
            assert after.trial is not None, "`aborted` raises without one"
            candidate = after.trial.candidate
            return self._noted(changing, "rollout.abort", candidate, before, after, f"{candidate} is aborted: {why}")

    def promote(self, actor: Actor, now: float) -> Done:
        """Puts the candidate in force, pinned until the files hold it or something else."""
        seen = self._seen(now)
        trial = self._store.state().trial
        if trial is not None and trial.aborted is not None and not seen.declared:
            raise Conflict(f"the canary was aborted ({trial.aborted}); fix: farthing policy rollout set --share 5%")
        candidates = {trial.candidate} if trial is not None and not seen.declared else set(seen.candidates)
        if len(candidates) != 1:
            raise Conflict("no candidate is on trial; fix: farthing policy rollout start")
        candidate = candidates.pop()
        if self._store.policy(candidate) is None:
            raise Conflict(f"no gateway has the policy {candidate} on trial yet; fix: wait for it")

        def how(state: State) -> State:
            return states.promoted(state, candidate, seen.in_force, seen.declared, now, actor.id)

        with self._transaction(actor, now) as changing:
            told = f"{candidate} is in force in place of {', '.join(sorted(seen.in_force)) or 'what was before'}"
            return self._changed(changing, "rollout.promote", candidate, how, now, told)

    def roll_back(self, to: str | None, actor: Actor, now: float) -> Done:
        """Stops what is on trial; without a trial, or with `to`, puts an earlier policy in force, pinned."""
        seen = self._seen(now)
        state = self._store.state()
        trial = state.trial
        running = set(seen.declared) - set(state.stopped)
        if to is None and (running or (trial is not None and trial.candidate not in seen.in_force)):
            names = sorted(seen.candidates) if running else [trial.candidate if trial is not None else ""]
            told = f"{', '.join(names)} is no longer on trial"
            with self._transaction(actor, now) as changing:
                subject = ",".join(names) or "rollout.yaml"
                return self._changed(
                    changing, "rollout.stop", subject, lambda state: states.stopped(state, seen.declared), now, told
                )
        target = self._named(to) if to is not None else self._before(seen, state)
        if seen.in_force == {target}:
            raise Conflict(f"the policy {target} is in force already")

        def how(state: State) -> State:
            return states.rolled_back(state, target, seen.in_force, seen.declared, now, actor.id)

        with self._transaction(actor, now) as changing:
            told = f"{target} is in force in place of {', '.join(sorted(seen.in_force - {target}))}"
            return self._changed(changing, "policy.rollback", target, how, now, told)

    def resume(self, actor: Actor, now: float) -> Done:
        """Puts the files in charge again."""
        with self._transaction(actor, now) as changing:
            return self._changed(changing, "policy.resume", "files", states.resumed, now, "the files are in force")

    def behind(self, version: int, names: tuple[str, ...]) -> list[str]:
        """Which of these gateways have not followed to `version` yet; one that has ended follows no more."""
        reports = {report.gateway: report for report in self._store.reports()}
        found = [reports[name] for name in names if name in reports]
        return [report.gateway for report in found if report.seen_s and report.version < version]

    def _seen(self, now: float) -> "_Seen":
        alive = [report for report in self._store.reports() if _alive(report, now)]
        in_force = {report.in_force for report in alive}
        if not alive:
            in_force = {kept.hash for kept in self._store.history()[:1]}
        return _Seen(
            frozenset(in_force),
            frozenset(report.declared for report in alive if report.declared is not None),
            frozenset(report.candidate for report in alive if report.candidate is not None),
        )

    def _before(self, seen: "_Seen", state: State) -> str:
        if len(seen.in_force) > 1:
            raise Conflict(
                f"gateways serve different policies ({', '.join(sorted(seen.in_force))}); "
                "fix: say which: farthing policy rollback HASH (farthing policy history lists them)"
            )
        left = {*seen.in_force, *(state.pin.left if state.pin is not None else ())}
        for kept in self._store.history():
            if kept.hash not in left:
                return kept.hash
        raise Conflict("no earlier policy is kept; fix: change the files")

    def _named(self, text: str) -> str:
        found = [kept.hash for kept in self._store.history() if kept.hash.startswith(text)]
        if len(found) != 1 or not text:
            what = "several policies that begin so" if len(found) > 1 else "no such policy that was in force"
            raise BadRequest(f"{text!r}: {what}; fix: one of farthing policy history", param="to")
        return found[0]

    def _changed(
        self, changing: Changing, action: str, subject: str, how: Callable[[State], State], now: float, told: str
    ) -> Done:
        before, after = change(changing.cursor, how, now)
        return self._noted(changing, action, subject, before, after, told)

    def _noted(self, changing: Changing, action: str, subject: str, before: State, after: State, told: str) -> Done:
        changing.note(action, subject, None, _shown(before), _shown(after))
        return Done(after.version, told)


class _Seen(msgspec.Struct, frozen=True):
    """What gateways that are alive report; without any, the last policy that was in force."""

    in_force: frozenset[str]
    declared: frozenset[str]
    candidates: frozenset[str]


def _alive(report: Report, now: float) -> bool:
    return report.seen_s > 0 and now - report.seen_s < ALIVE_S


def _guard(abort_on: str | None) -> str | None:
    """What is kept of an argument: `None` for no change, "" for no conditions. Raises `BadRequest`."""
    if abort_on is None:
        return None
    if abort_on in ("", "none"):
        return ""
    return ",".join(condition.text for condition in parse_guard(abort_on))


def _words(mode: Mode, share: float) -> str:
    what = {"shadow": "in shadow beside", "canary": "decides"}[mode]
    return f"{what} {100 * share:.4g} % of requests"


def _shown(state: State) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(state)
    return found
