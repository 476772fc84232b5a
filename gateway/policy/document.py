"""Parsed files merged into one checked `Document`: each entry typed, named once, and aware of its line. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from gateway.policy import units
from gateway.policy.explain import explain
from gateway.policy.models import DefaultsSpec, KeySpec, PolicyFile, PoolSpec, RouteSpec, Spec, TargetSpec
from gateway.policy.problems import Path, Problem, Severity, did_you_mean
from gateway.policy.source import Source

S = TypeVar("S", bound=Spec)


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
    declared: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def default(self) -> DefaultsSpec:
        """The `defaults` section, or what holds without one."""
        return self.defaults.spec if self.defaults else DefaultsSpec()


def merge(sources: Sequence[Source]) -> tuple[Document, list[Problem]]:
    """One document of all files, in their order, with every problem of shape and every repeated name."""
    document = Document(declared={"targets": {}, "pools": {}, "keys": {}, "routes": {}})
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
    yield from _routes(source, document)
    yield from _defaults(source, document)


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


def _routes(source: Source, document: Document) -> Iterator[Problem]:
    routes = source.doc.get("routes")
    if routes is None:
        return
    if not isinstance(routes, list):
        if source.usable(("routes",)):
            yield source.problem(("routes",), "not a list", "write `routes: [{name: ..., match: {...}, target: ...}]`")
        return
    for index, raw in enumerate(routes):
        path = ("routes", index)
        spec, problems = _entry(source, path, raw, RouteSpec)
        yield from problems
        name = raw.get("name") if isinstance(raw, dict) else None
        if isinstance(name, str):
            yield from _declare(source, document, "routes", name, (*path, "name"))
        if spec is not None:
            document.routes.append(Entry(spec.name, spec, source, path))


def _defaults(source: Source, document: Document) -> Iterator[Problem]:
    raw = source.doc.get("defaults")
    if raw is None:
        return
    if document.defaults is not None:
        other = document.defaults.source
        fix = f"move it to {other.file}:{other.line(('defaults',))}"
        yield source.problem(("defaults",), "given in two files", fix)
        return
    spec, problems = _entry(source, ("defaults",), raw, DefaultsSpec)
    yield from problems
    if spec is not None:
        document.defaults = Entry("defaults", spec, source, ("defaults",))


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
