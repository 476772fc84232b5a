"""The ways into a policy: a directory of YAML files, one file, or a dict; all through the same validation.

The only module of the room, beside `secrets` and `watch`, that reads files. Every failure is a `PolicyError`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.core.errors import PolicyError
from gateway.policy import problems as finding
from gateway.policy import source
from gateway.policy.check import check
from gateway.policy.compile import ResolveSecret, compile_policy
from gateway.policy.document import Document, merge
from gateway.policy.source import Source
from gateway.policy.table import Policy

PRICES = "prices.yaml"
"""The price book lies in the same directory and is not a policy."""
ROLLOUT = "rollout.yaml"
"""Neither is what puts another policy on trial beside this one; see `rollout_file`."""


def policy_files(path: Path) -> list[Path]:
    """`path` itself if it is a file, else its *.yaml files by name, not those below it, of policies only.

    Raises `PolicyError` when there is nothing at `path` or the directory holds no policy.
    """
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise PolicyError(f"{path}: no such file or directory; fix: create it, or name another policy directory")
        found = sorted(
            each
            for each in path.iterdir()
            if each.suffix == ".yaml"
            and each.name not in (PRICES, ROLLOUT)
            and not each.name.startswith(".")
            and each.is_file()
        )
    except (OSError, ValueError) as exc:
        raise PolicyError(f"{path}: cannot be read ({exc}); fix: check its permissions") from exc
    if not found:
        raise PolicyError(f"{path}: no *.yaml file in it; fix: add one that begins with `version: 1`")
    return found


def read_document(path: Path, *, discovered: Mapping[str, Any] | None = None) -> Document:
    """The merged document of the files at `path`, shape and rules checked; secrets are not looked at.

    `discovered`, shaped like a policy file, joins the files when they name no target: their keys, defaults and
    routes hold for it. Raises `PolicyProblems` with everything that is wrong.
    """
    sources: list[Source] = []
    problems: list[finding.Problem] = []
    for file in policy_files(path):
        try:
            with file.open("rb") as stream:
                raw = stream.read(source.MAX_BYTES + 1)
        except OSError as exc:
            fix = "check its permissions"
            problems.append(finding.Problem(str(file), 0, "", f"cannot be read ({exc.strerror})", fix))
            continue
        parsed, found = source.parse(raw, str(file))
        problems += found
        if parsed is not None:
            sources.append(parsed)
    if discovered is not None and not any(parsed.at(("targets",)) for parsed in sources):
        sources.append(Source("(discovered)", dict(discovered)))
    return _checked(sources, problems)


def load_policy(path: Path, resolve_secret: ResolveSecret, *, discovered: Mapping[str, Any] | None = None) -> Policy:
    """The policy of the files at `path`, with `discovered` as in `read_document`.

    Raises `PolicyError`, as a rule `PolicyProblems` with every problem.
    """
    return compile_policy(read_document(path, discovered=discovered), resolve_secret)


def document_from_text(raw: bytes, *, name: str = "policy.yaml") -> Document:
    """The document of one file's bytes; raises `PolicyProblems`."""
    parsed, found = source.parse(raw, name)
    return _checked([parsed] if parsed is not None else [], found)


def document_from_texts(texts: Mapping[str, bytes]) -> Document:
    """The document of several files' bytes by name; raises `PolicyProblems`."""
    parsed = [source.parse(raw, name) for name, raw in sorted(texts.items())]
    sources = [each for each, _ in parsed if each is not None]
    return _checked(sources, [problem for _, found in parsed for problem in found])


def document_from_stored(text: bytes) -> Document:
    """The document of a `Document.text`, of the same hash; raises `PolicyProblems` if this version refuses it."""
    return _checked([Source(name, doc) for name, doc in json.loads(text).items()], [])


def document_from_dict(doc: Mapping[str, Any], *, name: str = "(policy)") -> Document:
    """The document of a mapping shaped like a policy file; `name` stands for the file in messages."""
    problems: list[finding.Problem] = []
    plain = _plain(doc, (), name, problems)
    if problems:
        raise finding.PolicyProblems(problems)
    return _checked([Source(name, plain)], [])


def policy_from_dict(doc: Mapping[str, Any], *, resolve_secret: ResolveSecret, name: str = "(policy)") -> Policy:
    """The policy of a mapping shaped like a policy file; raises `PolicyProblems`."""
    return compile_policy(document_from_dict(doc, name=name), resolve_secret)


def _checked(sources: list[Source], problems: list[finding.Problem]) -> Document:
    document, found = merge(sources)
    problems = [*problems, *found, *check(document)]
    if problems:
        raise finding.PolicyProblems(problems)
    return document


def _plain(value: Any, path: finding.Path, name: str, problems: list[finding.Problem]) -> Any:
    """`value` as YAML would have given it; anything else is a problem."""
    if len(path) > source.MAX_DEPTH:
        problems.append(finding.Problem(name, 0, finding.key_text(path[:3]), "too many levels deep", "flatten it"))
        return None
    if isinstance(value, Mapping):
        here = finding.Problem(name, 0, finding.key_text(path), "a key that is not a text", "write it as a str")
        problems += [here for key in value if not isinstance(key, str)]
        return {str(key): _plain(item, (*path, str(key)), name, problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index), name, problems) for index, item in enumerate(value)]
    if value is not None and not isinstance(value, str | int | float | bool):
        message = f"a {type(value).__name__} is not a policy value"
        problems.append(finding.Problem(name, 0, finding.key_text(path), message, "use str, numbers, lists and dicts"))
    return value
