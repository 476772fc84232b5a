"""One YAML text to plain data with the line of every key; refuses what a policy must not use. Knows no policy key.

Scalars follow the YAML 1.2 core schema: `no`, `on`, `1:30` and `2024-10-21` are text, as they look. Anchors, aliases,
merge keys, tags and repeated keys are problems, and so are more than 1 MiB, 50 levels or one document.
"""

import math
import re
from typing import TYPE_CHECKING, Any

import yaml

from gateway.policy.problems import Path, Problem, Severity, key_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1 << 20
MAX_DEPTH = 50

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Source:
    """One file as data. `lines` maps each path to its 1-based line; `unusable` paths were reported already."""

    def __init__(self, file: str, doc: Any, lines: dict[Path, int] | None = None) -> None:
        self.file = file
        self.doc = doc
        self.lines = lines or {}
        self.unusable: set[Path] = set()

    def line(self, path: Path) -> int:
        """The line of `path` or of the nearest key above it; 0 when there is none."""
        for end in range(len(path), -1, -1):
            found = self.lines.get(path[:end])
            if found is not None:
                return found
        return 0

    def problem(self, path: Path, message: str, fix: str = "", severity: Severity = "error") -> Problem:
        """A problem at `path` of this file."""
        return Problem(self.file, self.line(path), key_text(path), message, fix, severity)

    def at(self, path: Path) -> Any:
        """The data at `path`; `None` where there is none."""
        found = self.doc
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def usable(self, path: Path) -> bool:
        """False when the value at `path`, or one around it, has been reported as unreadable."""
        return not self.unusable or not any(path[:end] in self.unusable for end in range(len(path) + 1))


def parse(raw: bytes, file: str) -> tuple[Source | None, list[Problem]]:
    """The file's data and what is wrong with its YAML; no data when it cannot be read to its end. Never raises."""
    if len(raw) > MAX_BYTES:
        fix = "split it into several *.yaml files in the same directory"
        return None, [Problem(file, 1, "", f"larger than {MAX_BYTES >> 20} MiB", fix)]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        return None, [Problem(file, raw.count(b"\n", 0, exc.start) + 1, "", "not UTF-8", "save it as UTF-8")]
    builder = _Builder(file)
    try:
        builder.read(text)
    except _TooDeepError:
        return None, builder.problems
    except yaml.YAMLError as exc:
        builder.problems.append(_syntax(exc, file))
        return None, builder.problems
    return builder.source, builder.problems


def _syntax(exc: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    what = getattr(exc, "problem", None) or "it holds a character that YAML does not allow"
    line = mark.line + 1 if mark else 1
    return Problem(file, line, "", f"not valid YAML: {what}", "check indentation, quotes and brackets up to this line")


class _TooDeepError(Exception):
    pass


class _Builder:
    """Events of one stream into plain data, noting lines and problems on the way."""

    def __init__(self, file: str) -> None:
        self.source = Source(file, None)
        self.problems: list[Problem] = []

    def read(self, text: str) -> None:
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._report((), event, "a second document", "keep one document a file: remove the `---`")
                    return
                self.source.doc = self._node(next(self.events), ())

    def _report(self, path: Path, event: Any, message: str, fix: str) -> None:
        line = event.start_mark.line + 1
        self.problems.append(Problem(self.source.file, line, key_text(path), message, fix))

    def _node(self, event: Any, path: Path) -> Any:
        self.source.lines.setdefault(path, event.start_mark.line + 1)
        if len(path) > MAX_DEPTH:
            self._report(path[:3], event, f"more than {MAX_DEPTH} levels deep", "flatten it")
            raise _TooDeepError
        if isinstance(event, yaml.AliasEvent):
            self._report(path, event, "an alias (*)", "write the value out: every entry can be read alone")
            self.source.unusable.add(path)
            return None
        if event.anchor is not None:
            self._report(path, event, "an anchor (&)", "remove it and write the value out where it is used")
        if event.tag is not None:
            self._report(path, event, "a tag (!)", "remove it: types follow from the key")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            if not key or not key.isprintable() or event.anchor is not None or event.tag is not None:
                self._report(path, event, "a key that is not plain text", "write keys as single words")
                self._skip(event, path)
                self._skip(next(self.events), path)
                continue
            here = (*path, key)
            if key in found:
                fix = f"remove it, or merge it into line {self.source.line(here)}"
                self._report(here, event, "the key is given twice", fix)
                self._skip(next(self.events), path)
                continue
            self.source.lines[here] = event.start_mark.line + 1
            found[key] = self._node(next(self.events), here)
        return found

    def _skip(self, event: Any, path: Path) -> None:
        """Passes over one node whose content does not count."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth + len(path) > MAX_DEPTH:
                self._report(path[:3], event, f"more than {MAX_DEPTH} levels deep", "flatten it")
                raise _TooDeepError
            if depth == 0:
                return
            event = next(self.events)


def _scalar(text: str) -> Any:
    """A plain scalar by the core schema; numbers that do not fit stay text."""
    if text in _WORDS:
        return None
    if text in _WORDS_BOOL:
        return _WORDS_BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and len(text) <= 40 and not _INT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
