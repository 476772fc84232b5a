"""Parsed files merged into one checked `Document`: each entry typed, named once, and aware of its line. Pure."""

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from gateway.policy import units
from gateway.policy.explain import explain
from gateway.policy.models import (
    BudgetSpec,
    DefaultsSpec,
    KeySpec,
    LimitSpec,
    MoneySpec,
    PolicyFile,
    PoolSpec,
    RouteSpec,
    SensitiveSpec,
    Spec,
    TargetSpec,
)
from gateway.policy.problems import Path, Problem, Severity, did_you_mean
from gateway.policy.source import Source

S = TypeVar("S", bound=Spec)

_AS_LISTS = {
    "routes": "write `routes: [{name: ..., match: {...}, target: ...}]`",
    "budgets": "write `budgets: [{scope: ..., limit: ...}]`",
    "limits": "write `limits: [{scope: ..., requests: ...}]`",
}


@dataclass(frozen=True)
class Entry(Generic[S]):
    """One named part of a policy and where it stands."""

    name: str
    spec: S
    source: Source
    path: Path

    def problem(self, sub: Path, message: str, fix: str = "", severity: Severity = "error") -> Problem:
        """A problem at the key `sub` of this entry."""
        return self.source.problem((*self.path, *sub), message, fix, severity)


@dataclass
class Document:
    """A whole policy, before it is compiled. `declared` holds names of invalid entries too, by section."""

    targets: dict[str, Entry[TargetSpec]] = field(default_factory=dict)
    pools: dict[str, Entry[PoolSpec]] = field(default_factory=dict)
    keys: dict[str, Entry[KeySpec]] = field(default_factory=dict)
    routes: list[Entry[RouteSpec]] = field(default_factory=list)
    defaults: Entry[DefaultsSpec] | None = None
    baseline: Entry[Spec] | None = None
    budgets: list[Entry[BudgetSpec]] = field(default_factory=list)
    limits: list[Entry[LimitSpec]] = field(default_factory=list)
    money_rules: Entry[MoneySpec] | None = None
    sensitive_rules: Entry[SensitiveSpec] | None = None
    declared: dict[str, dict[str, str]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()

    @property
    def text(self) -> bytes:
        """What it was read from, without comments: JSON of data by file name."""
        return json.dumps({PurePath(source.file).name: source.doc for source in self.sources}).encode()

    @property
    def default(self) -> DefaultsSpec:
        """The `defaults` section, or what holds without one."""
        return self.defaults.spec if self.defaults else DefaultsSpec()

    @property
    def money(self) -> MoneySpec:
        """The `money` section, or what holds without one."""
        return self.money_rules.spec if self.money_rules else MoneySpec()

    @property
    def sensitive(self) -> SensitiveSpec:
        """The `sensitive` section, or what holds without one."""
        return self.sensitive_rules.spec if self.sensitive_rules else SensitiveSpec()


def merge(sources: Sequence[Source]) -> tuple[Document, list[Problem]]:
    """One document of all files, in their order, with every problem of shape and every repeated name."""
    document = Document(declared={"targets": {}, "pools": {}, "keys": {}, "routes": {}}, sources=tuple(sources))
    problems: list[Problem] = []
    for source in sources:
        problems += _read_file(source, document)
    return document, problems


def _read_file(source: Source, document: Document) -> Iterator[Problem]:
    doc = source.doc
    if doc is None:
        yield source.problem((), "the file is empty", "begin it with `version: 1`, or remove it")
        return
    if not isinstance(doc, dict):
        if source.usable(()):
            yield source.problem((), "the file is not a mapping of keys", "begin it with `version: 1`")
        return
    for key in doc:
        if key not in PolicyFile.model_fields:
            yield source.problem((key,), "unknown key", did_you_mean(key, PolicyFile.model_fields))
    yield from _version(source)
    yield from _mapping(source, document, "targets", TargetSpec, document.targets)
    yield from _mapping(source, document, "pools", PoolSpec, document.pools)
    yield from _mapping(source, document, "keys", KeySpec, document.keys)
    for path, route in (yield from _list(source, "routes", RouteSpec)):
        yield from _route(source, document, path, route)
    document.budgets += [entry for _, entry in (yield from _list(source, "budgets", BudgetSpec)) if entry]
    document.limits += [entry for _, entry in (yield from _list(source, "limits", LimitSpec)) if entry]
    document.defaults = yield from _once(source, "defaults", DefaultsSpec, document.defaults)
    document.money_rules = yield from _once(source, "money", MoneySpec, document.money_rules)
    document.sensitive_rules = yield from _once(source, "sensitive", SensitiveSpec, document.sensitive_rules)
    yield from _baseline(source, document)


def _version(source: Source) -> Iterator[Problem]:
    version = source.doc.get("version")
    if "version" not in source.doc:
        yield source.problem((), "version is missing", "begin the file with `version: 1`")
    elif (type(version) is not int or version != 1) and source.usable(("version",)):
        yield source.problem(("version",), "not a version this gateway knows", "write `version: 1`")


def _mapping(
    source: Source, document: Document, section: str, model: type[S], into: dict[str, Entry[S]]
) -> Iterator[Problem]:
    entries = source.doc.get(section)
    if entries is None:
        return
    if not isinstance(entries, dict):
        if source.usable((section,)):
            yield source.problem((section,), "not a mapping of names", f"write `{section}: {{NAME: {{...}}}}`")
        return
    for name, raw in entries.items():
        path = (section, name)
        try:
            units.name(name)
        except units.BadValue as exc:
            yield source.problem(path, exc.message, exc.fix)
        spec, problems = _entry(source, path, raw, model)
        yield from problems
        yield from _declare(source, document, section, name, path)
        if spec is not None:
            into.setdefault(name, Entry(name, spec, source, path))


def _list(source: Source, section: str, model: type[S]) -> Generator[Problem, None, list[tuple[Path, Entry[S] | None]]]:
    """The paths and entries of a section that is a list, `None` for an entry that is wrong."""
    entries = source.doc.get(section)
    if not isinstance(entries, list):
        if entries is not None and source.usable((section,)):
            yield source.problem((section,), "not a list", _AS_LISTS[section])
        return []
    found: list[tuple[Path, Entry[S] | None]] = []
    for index, raw in enumerate(entries):
        path = (section, index)
        spec, problems = _entry(source, path, raw, model)
        yield from problems
        found.append((path, Entry(section, spec, source, path) if spec is not None else None))
    return found


def _route(source: Source, document: Document, path: Path, entry: Entry[RouteSpec] | None) -> Iterator[Problem]:
    raw = source.at(path)
    name = raw.get("name") if isinstance(raw, dict) else None
    if isinstance(name, str):
        yield from _declare(source, document, "routes", name, (*path, "name"))
    if entry is not None:
        document.routes.append(replace(entry, name=entry.spec.name))


def _once(
    source: Source, section: str, model: type[S], before: Entry[S] | None
) -> Generator[Problem, None, Entry[S] | None]:
    """The entry of a section that only one file may have; what was `before` stays."""
    raw = source.doc.get(section)
    if raw is None:
        return before
    if before is not None:
        yield _second(source, section, before)
        return before
    spec, problems = _entry(source, (section,), raw, model)
    yield from problems
    return Entry(section, spec, source, (section,)) if spec is not None else None


def _baseline(source: Source, document: Document) -> Iterator[Problem]:
    if "baseline" not in source.doc:
        return
    name = source.doc["baseline"]
    if document.baseline is not None:
        yield _second(source, "baseline", document.baseline)
    elif name is None:
        if source.usable(("baseline",)):
            yield source.problem(("baseline",), "no value", "name a target, or remove the key")
    else:
        try:
            document.baseline = Entry(units.name(name), Spec(), source, ("baseline",))
        except units.BadValue as exc:
            yield source.problem(("baseline",), exc.message, exc.fix)


def _second(source: Source, section: str, first: Entry[Any]) -> Problem:
    return source.problem((section,), "given in two files", f"move it to {first.problem((), '').where}")


def _declare(source: Source, document: Document, section: str, name: str, path: Path) -> Iterator[Problem]:
    """Notes a name; a second one is a problem that says where the first is."""
    declared = document.declared[section]
    where = source.problem(path, "").where
    if name in declared:
        yield source.problem(path, f"the name {name!r} is taken by {declared[name]}", "rename one of them")
    declared.setdefault(name, where)


def _entry(source: Source, path: Path, raw: Any, model: type[S]) -> tuple[S | None, list[Problem]]:
    problems = [
        source.problem(at, "no value", "give it a value or remove the key")
        for at in _empty(raw, path)
        if source.usable(at)
    ]
    empty = {problem.key for problem in problems}
    try:
        spec = model.model_validate(raw)
    except ValidationError as exc:
        found = [explain(dict(error), model, raw, path, source) for error in exc.errors(include_url=False)]
        return None, problems + [problem for problem in found if problem and problem.key not in empty]
    return (None if problems else spec), problems


def _empty(raw: Any, path: Path) -> Iterator[Path]:
    """The paths of all empty values: `key:` with nothing behind it is never meant."""
    if raw is None:
        yield path
    elif isinstance(raw, dict):
        for key, value in raw.items():
            yield from _empty(value, (*path, key))
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from _empty(value, (*path, index))
