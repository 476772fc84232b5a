"""What operators have asked of rollouts, and what follows from it for one gateway. Pure: each change is a function.

| change | the trial | the policy in force |
|---|---|---|
| start, move | begins; another mode or share | stays |
| abort | its canary has no requests any more, until it is moved | stays |
| stop | ends, that of the file too until the file asks for something else | stays |
| promote, roll back | ends | another one wherever the files hold what it replaces, until `resume` |
| resume | may begin again by the file | what the files say |

A promotion and a rollback pin a policy over those of the files; a rollback of a trial only stops it.
"""

from collections.abc import Collection

import msgspec

from gateway.core.errors import BadRequest, ClientError
from gateway.policy.rollout_file import Declared, Mode

MOST = 16
"""Policies that a pin replaces and rollouts of the file that are stopped; older ones are forgotten."""


class Conflict(ClientError):
    """409: what is asked for does not fit what goes on."""

    status = 409
    code = "rollout_conflict"


class Trial(msgspec.Struct, frozen=True):
    """A candidate on trial. `candidate` is the policy's hash, `share` of the requests in (0, 1]; `by` who asked.

    `abort_on` are the conditions of `gateway.rollout.guard`, "" for none, and `aborted` says which of them has held the
    canary up. `leg` counts the changes of a trial with conditions.
    """

    candidate: str
    mode: Mode
    share: float
    since_s: float
    by: str
    abort_on: str = ""
    aborted: str | None = None
    leg: int = 0

    @property
    def id(self) -> str:
        """What is counted together: a change of mode or share counts on, but not where conditions judge the counts.

        The errors of a bad hour in which another share of requests was on trial would look like the candidate's.
        """
        return f"{self.candidate}/{self.since_s:.3f}" + (f"/{self.leg}" if self.leg else "")


class Pin(msgspec.Struct, frozen=True):
    """Serve this policy wherever the files hold one of `over`. `left` are those that a rollback has left."""

    policy: str
    over: tuple[str, ...]
    left: tuple[str, ...]
    since_s: float
    by: str


class State(msgspec.Struct, frozen=True):
    """All of it. `version` rises with each change; `stopped` are the ids of rollouts of the file that are ended."""

    version: int = 0
    trial: Trial | None = None
    pin: Pin | None = None
    stopped: tuple[str, ...] = ()


class Serve(msgspec.Struct, frozen=True):
    """What follows for a gateway whose files hold a certain policy. `pinned` is `None` where the files rule."""

    pinned: str | None
    trial: Trial | None
    declared: Declared | None
    """The rollout of the file, where that is the one; its candidate lies in files."""


def wanted(state: State, files: str, declared: Declared | None) -> Serve:
    """What a gateway with the policy `files` on its disk has to do. A rollout of the file goes before a started one."""
    pin = state.pin
    pinned = pin.policy if pin is not None and files in pin.over and pin.policy != files else None
    if declared is not None and declared.mode is not None and declared.id not in state.stopped:
        return Serve(pinned, None, declared)
    return Serve(pinned, state.trial, None)


def started(state: State, trial: Trial, in_force: Collection[str], declared: Collection[str]) -> State:
    """With a candidate on trial. `declared` are the ids of the file's rollouts that run. Raises `Conflict`."""
    _check_share(trial.share)
    running = state.trial
    if any(id_ not in state.stopped for id_ in declared):
        raise Conflict("rollout.yaml in the policy directory has a candidate on trial; fix: change that file")
    if running is not None and running.candidate != trial.candidate:
        raise Conflict(
            f"the policy {running.candidate} is on trial; fix: farthing policy rollout promote, or policy rollback"
        )
    if trial.candidate in in_force:
        raise Conflict(f"the policy {trial.candidate} is in force already; fix: name a candidate that differs from it")
    if running is not None:
        raise Conflict(f"the policy {running.candidate} is on trial already; fix: farthing policy rollout set")
    return msgspec.structs.replace(state, trial=trial)


def moved(state: State, mode: Mode | None, share: float | None, abort_on: str | None = None) -> State:
    """With another mode, share or conditions; who was in stays in when the share grows.

    A canary that was aborted goes on, counted anew. Raises `Conflict`, `BadRequest`.
    """
    trial = _running(state)
    if trial.aborted is not None and share is None and mode != "shadow":
        raise BadRequest("The canary was aborted; say the share of requests with which it goes on.", param="share")
    if mode == "canary" and trial.mode == "shadow" and share is None:
        raise BadRequest("A canary needs a share of the requests.", param="share")
    if mode is None and share is None and abort_on is None:
        raise BadRequest("Say what changes: the mode, the share, or what aborts it.")
    if share is None:
        share = 1.0 if mode == "shadow" and trial.mode == "canary" else trial.share
    _check_share(share)
    guarded = bool(trial.abort_on or abort_on)
    trial = msgspec.structs.replace(
        trial,
        mode=mode or trial.mode,
        share=share,
        abort_on=trial.abort_on if abort_on is None else abort_on,
        aborted=None,
        leg=trial.leg + guarded,
    )
    return msgspec.structs.replace(state, trial=trial)


def aborted(state: State, id_: str, why: str) -> State:
    """With the canary `id_` held up. Raises `Conflict` where it no longer runs."""
    trial = state.trial
    if trial is None or trial.id != id_ or trial.mode != "canary" or trial.aborted is not None:
        raise Conflict("this canary no longer runs")
    return msgspec.structs.replace(state, trial=msgspec.structs.replace(trial, aborted=why))


def stopped(state: State, declared: Collection[str]) -> State:
    """Without a trial; the file's (`declared`) stay ended until the file asks for something else."""
    return msgspec.structs.replace(state, trial=None, stopped=_last(state.stopped, declared))


def promoted(
    state: State, policy: str, in_force: Collection[str], declared: Collection[str], now: float, by: str
) -> State:
    """With `policy` in place of those `in_force`, and of those that the pin before replaced."""
    over, left = (state.pin.over, state.pin.left) if state.pin is not None else ((), ())
    over, left = _without(policy, _last(over, in_force)), _without(policy, left)
    pin = Pin(policy, over, left, now, by) if over else None
    return msgspec.structs.replace(stopped(state, declared), pin=pin)


def rolled_back(
    state: State, policy: str, in_force: Collection[str], declared: Collection[str], now: float, by: str
) -> State:
    """The same; those `in_force` are not gone back to."""
    state = promoted(state, policy, in_force, declared, now, by)
    if state.pin is None:
        return state
    left = _without(policy, _last(state.pin.left, in_force))
    return msgspec.structs.replace(state, pin=msgspec.structs.replace(state.pin, left=left))


def resumed(state: State) -> State:
    """With the files in charge again, of the policy and of rollout.yaml. Raises `Conflict`."""
    if state.pin is None and not state.stopped:
        raise Conflict("nothing is pinned and nothing is stopped: the files rule already")
    return msgspec.structs.replace(state, pin=None, stopped=())


def _running(state: State) -> Trial:
    if state.trial is None:
        raise Conflict("no candidate is on trial that could change; fix: farthing policy rollout start")
    return state.trial


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise BadRequest("`share` must be above 0 and at most 1 (100%).", param="share")


def _without(one: str, hashes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in hashes if each != one)


def _last(before: tuple[str, ...], more: Collection[str]) -> tuple[str, ...]:
    """Both, each once, the newest last."""
    new = sorted(more)
    return (*(each for each in before if each not in new), *new)[-MOST:]
