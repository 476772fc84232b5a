"""`farthing policy rollout | rollback | resume | history`: directly in the database of the settings.

Whoever may open that database owns the gateway, so the actor is `cli:USER` with the role of an owner; every change has
its audit row. A change waits until the gateways that are alive have followed it, and says how long that took.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.commands import share
from gateway.core.errors import BadRequest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from gateway.access.authority import Actor
    from gateway.rollout.operate import Done, Operations, Status

FOLLOW_S = 5.0
_LOOK_S = 0.02

_Commands = Any  # argparse's subparsers have no public type


class Setup(msgspec.Struct, frozen=True):
    """What the command line knows of this installation; all are asked when a command runs."""

    policies: Callable[[], Path]
    open: "Callable[[], AbstractContextManager[Operations]]"
    """The operations on the gateway's own database, closed after them. Raises `BadRequest` where there is none."""
    actor: "Callable[[], Actor]"


def register(actions: _Commands, setup: Setup) -> None:
    """Adds the actions to `farthing policy`."""
    rollout = actions.add_parser(
        "rollout", help="put another policy on trial", description="A candidate on trial beside the policy in force."
    )
    _register_rollout(rollout.add_subparsers(title="actions", required=True, metavar="ACTION"), setup)
    back = _action(
        actions, setup, "rollback", "end the trial; without one, put the policy before in force again", _roll_back
    )
    back.add_argument("hash", nargs="?", metavar="HASH", help="an earlier policy (see history) [the one before]")
    _action(actions, setup, "resume", "let the files rule again after a rollback or promotion", _resume)
    history = _action(actions, setup, "history", "list the policies that were in force", _history)
    history.add_argument("--show", metavar="HASH", help="print that policy, as YAML")


def _register_rollout(actions: _Commands, setup: Setup) -> None:
    start = _action(actions, setup, "start", "put a candidate on trial", partial(_start, setup))
    start.add_argument(
        "--candidate", type=Path, metavar="PATH", help="directory or file [candidate/ below the policy directory]"
    )
    _mode_arguments(start, "5%%; of a shadow [100%%]")
    change = _action(actions, setup, "set", "change the mode or the share", _set)
    _mode_arguments(change, "20%%; whoever was in stays in when it grows")
    _action(actions, setup, "promote", "put the candidate in force", _promote)
    _action(actions, setup, "status", "how the trial goes", _status)


def _mode_arguments(parser: argparse.ArgumentParser, which: str) -> None:
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--shadow", action="store_true", help="it decides, is recorded, and changes nothing")
    mode.add_argument("--canary", action="store_true", help="it serves its share of the requests")
    parser.add_argument("--share", type=_share, metavar="SHARE", help=f"of the requests: {which}")
    parser.add_argument(
        "--abort-on",
        metavar="CONDITIONS",
        help="hold the canary at 0%% once one is broken, as errors>+2%%,cost>+10%%: more than in force, beyond chance "
        "(errors, refused: in points; cost: relative); none: no more",
    )


def _share(text: str) -> float:
    return 1.0 if text == "100%" else share(text)


def _action(
    actions: _Commands,
    setup: Setup,
    name: str,
    what: str,
    run: "Callable[[Operations, argparse.Namespace, Actor], int]",
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what.capitalize()}.")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def func(arguments: argparse.Namespace) -> int:
        with setup.open() as operations:
            return run(operations, arguments, setup.actor())

    parser.set_defaults(func=func)
    return parser


def _start(setup: Setup, operations: "Operations", arguments: argparse.Namespace, actor: "Actor") -> int:
    from gateway.policy.compile import compile_policy  # noqa: PLC0415 - pydantic
    from gateway.policy.lint import placeholder  # noqa: PLC0415
    from gateway.policy.load import read_document  # noqa: PLC0415

    if not arguments.shadow and arguments.share is None:
        raise BadRequest("say how: --shadow, or --share 5% of the requests")
    path = arguments.candidate or setup.policies() / "candidate"
    document = read_document(path)
    policy = compile_policy(document, lambda reference: placeholder("not-set-here", reference))
    mode, part = ("shadow", arguments.share or 1.0) if arguments.shadow else ("canary", arguments.share)
    return _change(
        operations,
        arguments,
        lambda now: operations.start(
            policy.hash,
            policy.text,
            mode,  # type: ignore[arg-type]
            part,
            actor,
            now,
            abort_on=arguments.abort_on or "",
        ),
    )


def _set(operations: "Operations", arguments: argparse.Namespace, actor: "Actor") -> int:
    mode = "shadow" if arguments.shadow else "canary" if arguments.canary else None
    return _change(
        operations,
        arguments,
        lambda now: operations.move(mode, arguments.share, actor, now, abort_on=arguments.abort_on),  # type: ignore[arg-type]
    )


def _promote(operations: "Operations", arguments: argparse.Namespace, actor: "Actor") -> int:
    note = "pinned over the files: commit the candidate to them, then `farthing policy resume`"
    return _change(operations, arguments, lambda now: operations.promote(actor, now), note)


def _roll_back(operations: "Operations", arguments: argparse.Namespace, actor: "Actor") -> int:
    return _change(operations, arguments, lambda now: operations.roll_back(arguments.hash, actor, now))


def _resume(operations: "Operations", arguments: argparse.Namespace, actor: "Actor") -> int:
    return _change(operations, arguments, lambda now: operations.resume(actor, now))


def _change(
    operations: "Operations", arguments: argparse.Namespace, change: "Callable[[float], Done]", note: str = ""
) -> int:
    """Makes a change and watches the gateways follow; 1 where one does not, or cannot do what is asked."""
    alive = tuple(report.gateway for report in operations.status(time.time()).gateways)
    began = time.monotonic()
    done = change(time.time())
    behind = operations.behind(done.version, alive)
    while behind and time.monotonic() - began < FOLLOW_S:
        time.sleep(_LOOK_S)
        behind = operations.behind(done.version, alive)
    took_s = time.monotonic() - began
    status = operations.status(time.time())
    errors = {report.gateway: list(report.errors) for report in status.gateways if report.errors}
    if arguments.json:
        told = {"told": done.told, "version": done.version, "took_s": round(took_s, 3)}
        _print(json.dumps({**told, "gateways": len(alive), "behind": behind, "errors": errors}) + "\n")
    else:
        _print(f"{done.told}\n{_followed(alive, behind, took_s)}\n")
        for gateway, found in errors.items():
            _print("".join(f"{gateway}: {error}\n" for error in found))
        if status.state.pin is not None or note:
            _print(f"{note or _pinned(status)}\n")
    return 1 if behind or errors else 0


def _followed(alive: tuple[str, ...], behind: list[str], took_s: float) -> str:
    if not alive:
        return "no gateway is running on this database: it holds from the next start"
    if behind:
        return f"NOT FOLLOWED after {took_s:.1f} s by {', '.join(behind)}; fix: look at their logs, or end them"
    return f"followed by {len(alive)} of {len(alive)} gateways after {took_s:.2f} s"


def _pinned(status: "Status") -> str:
    pin = status.state.pin
    assert pin is not None, "asked for by the caller"
    return (
        f"{pin.policy} is pinned wherever the files hold {', '.join(pin.over)}: "
        "correct the files, or let them rule again with `farthing policy resume`"
    )


def _status(operations: "Operations", arguments: argparse.Namespace, _: "Actor") -> int:
    from gateway.rollout.show import shown_status, status_text  # noqa: PLC0415

    status = operations.status(time.time())
    _print(json.dumps(shown_status(status)) + "\n" if arguments.json else status_text(status))
    return 0


def _history(operations: "Operations", arguments: argparse.Namespace, _: "Actor") -> int:
    from gateway.rollout.show import history_text, shown_history  # noqa: PLC0415

    if arguments.show is not None:
        _print(_yaml(operations.text(arguments.show)))
        return 0
    history = operations.history()
    in_force = operations.status(time.time()).in_force
    _print(json.dumps(shown_history(history)) + "\n" if arguments.json else history_text(history, in_force))
    return 0


def _yaml(text: bytes) -> str:
    import yaml  # noqa: PLC0415 - slow, and only here

    files = json.loads(text)
    return "".join(
        f"# {name}\n{yaml.safe_dump(doc, sort_keys=False, allow_unicode=True)}" for name, doc in files.items()
    )


def _print(text: str) -> None:
    sys.stdout.write(text)
