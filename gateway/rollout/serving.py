"""Which policy serves: that of the files or one pinned over it, and beside it the candidate on trial for some requests.

Polls what operators ask, on every replica, so that a rollback is in force everywhere after the interval and
a compilation. A request keeps the policy that decided it. Fails to what served before: a candidate that cannot be
compiled here is not on trial here, a pinned policy that cannot be compiled leaves the one in force; both are told.
While the database has not answered for `MAX_STALE_S` a rollback could not be seen: then nothing is on trial.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from weakref import WeakSet, ref

import msgspec

from gateway.core.clock import Clock
from gateway.core.conditions import Condition
from gateway.core.errors import PolicyError
from gateway.core.exchange import Exchange
from gateway.database import DatabaseError
from gateway.policy.rollout_file import Mode
from gateway.policy.table import Policy
from gateway.policy.watch import PolicyHolder
from gateway.rollout.asked import Asked, Asking
from gateway.rollout.bucket import anchor, bucket
from gateway.rollout.guard import broken, parse_guard
from gateway.rollout.state import Serve, wanted
from gateway.rollout.store import Report, RolloutStore
from gateway.rollout.tally import Tally, total

POLL_S = 0.3
MAX_STALE_S = 10.0
REPORT_S = 15.0
"""How often a gateway says that it is there; while something is on trial, every `COUNTS_S`."""
COUNTS_S = 2.0
REMIND_S = 3600.0

log = logging.getLogger("farthing.rollout")

Compile = Callable[[bytes, Policy | None], Policy]
"""A policy of its text, to serve beside another one (`None`: alone). Raises `PolicyError`."""


class OnTrial(msgspec.Struct, frozen=True):
    """A candidate at work. `declared` is the id of the file's rollout, `None` for one that was started.

    `share` is 0 once the canary was `aborted`, which says why; `abort_on` is what may.
    """

    policy: Policy
    mode: Mode
    share: float
    id: str
    declared: str | None = None
    abort_on: tuple[Condition, ...] = ()
    aborted: str | None = None


class Abort(Protocol):
    """Holds a canary up, everywhere."""

    def __call__(self, id_: str, why: str) -> bool:
        """Whether it was this call that did: another gateway may have been first. Blocks; raises `DatabaseError`."""
        ...


class _Ready(msgspec.Struct, frozen=True):
    """What was made of a reading while `files` was the policy on disk."""

    asked: Asked
    files: Policy
    current: Policy
    trial: OnTrial | None
    pinned: str | None
    errors: tuple[str, ...]


class Serving:
    """See the module. `changed` is told all policies that serve some request, whenever they change.

    `gateway` names this process in reports; `store` is `None` where no books are kept: then rollout.yaml is all.
    """

    def __init__(
        self,
        holder: PolicyHolder,
        asking: Asking,
        store: RolloutStore | None,
        compile_: Compile,
        *,
        clock: Clock,
        changed: Callable[[list[Policy]], None],
        gateway: str,
    ) -> None:
        self._holder = holder
        self._asking = asking
        self._store = store
        self._compile = compile_
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._changed = changed
        self.gateway = gateway
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._alive: WeakSet[Policy] = WeakSet()
        self._told: list[ref[Policy]] = []
        self._reported: tuple[float, Report] | None = None
        self._kept = self._kept_candidate = ""
        self._reminded_s = clock.monotonic()
        self._good_until = float("inf")
        self.tally = Tally()
        self._guarded_s = float("-inf")
        self.abort: Abort | None = None
        self.alert: Callable[[str, Mapping[str, Any]], None] = lambda _type, _members: None
        self.fits: Callable[[Policy], Iterable[object]] = lambda _: ()
        """By which certificates the routes of a policy decide, each as text; see `gateway.certificates.Fit`."""
        self.current = holder.current
        self.since_s = clock.wall()
        self.trial: OnTrial | None = None
        self.pinned: str | None = None
        self.errors: tuple[str, ...] = ()
        self._ready: _Ready | None = None
        self._adopt(self._make(self._read()))

    # What requests ask.

    def pick(self, exchange: Exchange) -> Policy:
        """The policy that decides a request whose caller is known.

        Requests without a model (files, batches) keep state at their provider: they are never on trial.
        """
        trial = self.trial
        if trial is None or trial.mode != "canary" or exchange.call.endpoint == "other":
            return self.current
        if exchange.started > self._good_until:
            return self.current
        identity = exchange.identity
        assert identity is not None, "authenticate comes before resolve"
        place = bucket(trial.policy.hash, anchor(exchange.call, identity, exchange.id))
        return trial.policy if place < trial.share else self.current

    @property
    def stale(self) -> bool:
        """Whether a rollback could not be seen, so that nothing is on trial."""
        return self._monotonic() > self._good_until

    def in_service(self) -> list[Policy]:
        """Every policy that still decides or serves a request; the one in force is the last."""
        first = [self.trial.policy] if self.trial is not None else []
        beside = [policy for policy in self._alive if policy is not self.current and policy not in first]
        return [*beside, *first, self.current]

    # What changes it.

    def files_changed(self, policy: Policy) -> None:
        """The files hold another policy: it is in force at once, unless one is pinned over it."""
        asked = self._ready.asked if self._ready is not None else Asked()
        if wanted(asked.state, policy.hash, asked.declared).pinned is None:
            self._put_in_force(policy)
        self.tell()
        self._wake.set()

    async def refresh(self) -> None:
        """Does what is asked now. Raises `DatabaseError`; what the file asks is done before."""
        async with self._turn:
            try:
                asked = await asyncio.to_thread(self._read)
                await self._follow(asked)
            finally:
                self.tell()
            await asyncio.to_thread(self._report)
            await self._guard()

    async def _guard(self) -> None:
        """Aborts a canary that breaks a condition, by what all gateways have reported of it."""
        trial, now = self.trial, self._monotonic()
        if trial is None or trial.mode != "canary" or not trial.abort_on or trial.aborted or self.abort is None:
            return
        if now - self._guarded_s < COUNTS_S:
            return
        self._guarded_s = now
        try:
            why = await asyncio.to_thread(self._abort, trial)
        except Exception:  # a guard that cannot judge leaves the canary to whoever started it
            log.exception("the canary %s goes on without a look at its conditions", trial.policy.hash)
            return
        if why is not None:
            self.alert("rollout.aborted", {"policy": trial.policy.hash, "why": why, "at_s": self._wall()})
            self._wake.set()

    def _abort(self, trial: OnTrial) -> str | None:
        """Why it was aborted just now by this process. Blocks; raises `DatabaseError`."""
        assert self._store is not None, "what aborts has one"
        assert self.abort is not None, "asked by the caller"
        counts = total([report.counts for report in self._store.reports() if report.trial == trial.id])
        why = broken(trial.abort_on, counts)
        return why if why is not None and self.abort(trial.id, why) else None

    async def _follow(self, asked: Asked) -> None:
        while self._ready is None or self._ready.asked is not asked or self._ready.files is not self._holder.current:
            ready = await asyncio.to_thread(self._make, asked)
            if ready.files is self._holder.current:
                self._adopt(ready)

    async def run(self, interval_s: float = POLL_S) -> None:
        """Refreshes until cancelled. An outage is logged once when it begins and once when it ends."""
        away = False
        while True:
            try:
                await self.refresh()
                if away:
                    log.warning("the store of rollouts answers again")
                away = False
            except DatabaseError as exc:
                if not away:
                    log.error("rollouts cannot be read, in %g s nothing is on trial: %s", MAX_STALE_S, exc.message)  # noqa: TRY400 - the message says it all
                away = True
            except Exception:
                log.exception("rollouts are not followed")
            self._remind()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._wake.wait()
            self._wake.clear()

    async def aclose(self) -> None:
        """Says that this gateway has ended."""
        store = self._store
        if store is not None:
            report = msgspec.structs.replace(self._now(), seen_s=0.0)
            with contextlib.suppress(DatabaseError):
                await asyncio.to_thread(store.report, self.gateway, report)

    def _read(self) -> Asked:
        asked_at = self._monotonic()
        asked = self._asking.now()
        if self._store is not None:
            self._good_until = asked_at + MAX_STALE_S
        return asked

    def _make(self, asked: Asked) -> _Ready:
        """Compiles what is asked and not there yet. Blocks; raises `DatabaseError`."""
        files = self._holder.current
        serve = wanted(asked.state, files.hash, asked.declared)
        errors = [f"rollout.yaml: {asked.error}"] if asked.error is not None else []
        current, pinned = files, serve.pinned
        if pinned is not None:
            try:
                current = self._pinned(pinned, files)
            except PolicyError as exc:
                errors.append(f"the policy {pinned} cannot be pinned here: {exc.message}")
                current, pinned = self.current, self.pinned
        try:
            trial = self._trial(serve, asked, current)
        except PolicyError as exc:
            errors.append(f"the candidate is not on trial as asked: {exc.message}")
            trial = self._last_good(serve, current)
        return _Ready(asked, files, current, trial, pinned, tuple(errors))

    def _pinned(self, hash_: str, files: Policy) -> Policy:
        ready = self._ready
        if ready is not None and ready.pinned == hash_ and ready.files is files:
            return ready.current
        return self._compile(self._text(hash_), None)

    def _trial(self, serve: Serve, asked: Asked, current: Policy) -> OnTrial | None:
        declared, trial = serve.declared, serve.trial
        if declared is not None and declared.mode is not None:
            policy = self._compile(asked.text, current)
            made = OnTrial(policy, declared.mode, declared.share, f"{policy.hash}/file", declared.id)
        elif trial is not None:
            if trial.candidate == current.hash:
                return None
            policy = self._compile(self._text(trial.candidate), current)
            share = trial.share if trial.aborted is None else 0.0
            guard = parse_guard(trial.abort_on) if trial.abort_on else ()
            made = OnTrial(policy, trial.mode, share, trial.id, None, guard, trial.aborted)
        else:
            return None
        return made if made.policy.hash != current.hash else None

    def _last_good(self, serve: Serve, current: Policy) -> OnTrial | None:
        """The candidate of before, if it is the same rollout: compiled beside the policy in force, or not at all."""
        before = self.trial
        if before is None or current is not self.current:
            return None
        if serve.trial is not None:
            return before if before.id == serve.trial.id else None
        return before if before.declared is not None and serve.declared is not None else None

    def _text(self, hash_: str) -> bytes:
        assert self._store is not None, "what is asked by name is in the store"
        text = self._store.policy(hash_)
        if text is None:
            raise PolicyError(f"the policy {hash_} is not kept any more; fix: put it into the files, or name another")
        return text

    def _adopt(self, ready: _Ready) -> None:
        """From now on; on the event loop."""
        before, self._ready = self.trial, ready
        self.pinned, self.trial = ready.pinned, ready.trial
        self._put_in_force(ready.current)
        if ready.errors != self.errors:
            for error in ready.errors:
                log.error("%s", error)
        self.errors = ready.errors
        self.tally.begin(ready.trial.id if ready.trial is not None else None)
        _log_trial(before, ready.trial)

    def _put_in_force(self, policy: Policy) -> None:
        if policy.hash != self.current.hash:
            self.since_s = self._wall()
        if policy is not self.current:
            if policy.hash == self.pinned:
                log.warning(
                    "policy %s is in force, pinned over %s of the files", policy.hash, self._holder.current.hash
                )
            else:
                log.info("policy %s is in force", policy.hash)
        self.current = policy
        self._alive.add(policy)
        if self.trial is not None:
            self._alive.add(self.trial.policy)

    def tell(self) -> None:
        """Says which policies are in service, if that has changed."""
        now = self.in_service()
        told = [each() for each in self._told]
        if len(now) != len(told) or any(one is not other for one, other in zip(now, told, strict=True)):
            self._told = [ref(policy) for policy in now]  # weak: remembering one does not keep it in service
            self._changed(now)

    def _remind(self) -> None:
        now = self._monotonic()
        if self.pinned is not None and now - self._reminded_s >= REMIND_S:
            self._reminded_s = now
            log.warning(
                "policy %s is pinned over %s of the files; fix: change the files, or farthing policy resume",
                self.pinned,
                self._holder.current.hash,
            )

    # What it says of itself.

    def _now(self) -> Report:
        trial, state = self.trial, self._ready.asked.state if self._ready is not None else None
        return Report(
            gateway=self.gateway,
            seen_s=self._wall(),
            version=state.version if state is not None else 0,
            in_force=self.current.hash,
            since_s=self.since_s,
            files=self._holder.current.hash,
            candidate=trial.policy.hash if trial is not None else None,
            mode=trial.mode if trial is not None else None,
            share=trial.share if trial is not None else None,
            declared=trial.declared if trial is not None else None,
            errors=self.errors,
            fits=tuple(map(str, self.fits(self.current))) if trial is not None else (),
            candidate_fits=tuple(map(str, self.fits(trial.policy))) if trial is not None else (),
            trial=self.tally.trial,
            counts=self.tally.counts,
        )

    def _report(self) -> None:
        """Keeps the policy in force, and reports, where there is something to say. Blocks; raises `DatabaseError`."""
        store, current = self._store, self.current
        if store is None:
            return
        if self._kept != current.hash:
            store.came_into_force(current.hash, current.text, self._wall())
            self._kept = current.hash
        trial = self.trial
        if trial is not None and trial.declared is not None and self._kept_candidate != trial.policy.hash:
            store.keep(trial.policy.hash, trial.policy.text, self._wall())
            self._kept_candidate = trial.policy.hash
        report, now = self._now(), self._monotonic()
        if self._reported is not None:
            at_s, last = self._reported
            same = msgspec.structs.replace(report, seen_s=last.seen_s, counts=last.counts) == last
            due_s = COUNTS_S if report.counts != last.counts else REPORT_S
            if same and now - at_s < due_s:
                return
        store.report(self.gateway, report)
        self._reported = (now, report)


def _log_trial(before: OnTrial | None, trial: OnTrial | None) -> None:
    if trial is None:
        if before is not None:
            log.info("policy %s is no longer on trial", before.policy.hash)
    elif trial.aborted is not None:
        if before is None or before.aborted is None:
            log.error(
                "the canary %s is aborted, it serves no request: %s; fix: farthing policy rollback, or "
                "farthing policy rollout set --share 5%%",
                trial.policy.hash,
                trial.aborted,
            )
    elif before is None or (before.policy.hash, before.mode, before.share) != (
        trial.policy.hash,
        trial.mode,
        trial.share,
    ):
        words = {"shadow": "in shadow beside", "canary": "serving"}[trial.mode]
        log.info("policy %s is on trial, %s %.4g %% of requests", trial.policy.hash, words, 100 * trial.share)
