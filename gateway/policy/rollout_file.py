"""`rollout.yaml` beside the policy: which other policy is on trial, how, and for how many requests.

It decides what the file asks for, and reads it; whether that happens is the gateway's to say. Fails closed: a file that
is wrong raises `PolicyProblems`, and nothing new is put on trial.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from pydantic import Field, ValidationError

from gateway.policy import problems as finding
from gateway.policy import source
from gateway.policy.explain import explain
from gateway.policy.load import ROLLOUT
from gateway.policy.models import Fraction, Spec

Mode = Literal["shadow", "canary"]
"""In shadow it decides and changes nothing; as a canary it serves a share of the requests."""
HASH_DIGITS = 12


class RolloutSpec(Spec):
    """A policy on trial beside the one in force."""

    version: Literal[1]
    """The format of the file."""
    candidate: Annotated[str, Field(min_length=1, max_length=1024)]
    """The directory or file of the policy on trial, relative to this file."""
    mode: Literal["shadow", "canary", "off"]
    """`shadow`: it decides and changes nothing; `canary`: it serves a share of the requests; `off`: neither."""
    share: Fraction | None = None
    """The share of requests. Default: all of them in shadow; a canary must say."""


class Declared(msgspec.Struct, frozen=True):
    """What the file asks for. `id` changes with every word of it; `mode` is `None` for `off`."""

    id: str
    candidate: Path
    mode: Mode | None
    share: float


def read_rollout(folder: Path) -> Declared | None:
    """What the folder's rollout.yaml asks for, `None` without one. Raises `PolicyProblems`."""
    path = folder / ROLLOUT
    try:
        with path.open("rb") as stream:
            raw = stream.read(source.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        message, fix = f"cannot be read ({exc.strerror})", "check its permissions"
        raise finding.PolicyProblems([finding.Problem(str(path), 0, "", message, fix)]) from exc
    parsed, problems = source.parse(raw, str(path))
    if parsed is None or problems:
        raise finding.PolicyProblems(problems)
    return _declared(parsed, folder)


def _declared(parsed: source.Source, folder: Path) -> Declared:
    try:
        spec = RolloutSpec.model_validate(parsed.doc)
    except ValidationError as exc:
        found = [explain(dict(error), RolloutSpec, parsed.doc, (), parsed) for error in exc.errors(include_url=False)]
        raise finding.PolicyProblems([each for each in found if each is not None]) from exc
    if spec.mode == "canary" and spec.share is None:
        problem = parsed.problem(("mode",), "a canary without a share", "add `share: 5%`")
        raise finding.PolicyProblems([problem])
    told = json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()
    return Declared(
        id=hashlib.sha256(told).hexdigest()[:HASH_DIGITS],
        candidate=folder / spec.candidate,
        mode=None if spec.mode == "off" else spec.mode,
        share=1.0 if spec.share is None else spec.share,
    )
