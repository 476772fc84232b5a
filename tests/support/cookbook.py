"""The policy cookbook's kitchen: the recipes on their sample traffic, and the parts of the page that commands print.

    python -m tests.support.cookbook

writes the sample traffic and those parts of docs/policy-cookbook.md anew. In the page a fence that begins with
```` ```yaml NAME.yaml ```` holds the file of that name, one with ```` ```console NAME ```` what the commands print.
"""

import argparse
import contextlib
import io
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gateway.cli import main as farthing_main
from tests.support.sample_traffic import dump, pairs, traffic, write_labels

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "routing_policies" / "examples"
PAGE = ROOT / "docs" / "policy-cookbook.md"
TRAFFIC = EXAMPLES / "sample" / "traffic.jsonl"
SAMPLE = "--baseline-policy sample/before.yaml --traffic sample/traffic.jsonl"
LABELS, PAIRS = 3000, 1000

_FENCE = re.compile(r"^```(yaml|console) ([a-z0-9/-]+)(\.yaml)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CALIBRATED = ("asked", "certified", "uncertified", "loss", "strong", "error", "among hits")


class Recipe(NamedTuple):
    """A policy of the page. `before`: what makes its certificate. `shows`: the report's tables, beside the first."""

    shows: tuple[str, ...]
    before: str = ""


RECIPES = {
    "local-pool-first": Recipe(("Where", "Pools")),
    "choose-by-complexity": Recipe(
        ("Where",), "farthing calibrate routing --policies choose-by-complexity.yaml --route choice --data labels.csv"
    ),
    "sensitive-data": Recipe(("Where", "Sensitive")),
    "team-budgets": Recipe(("Budgets", "Refused")),
    "interactive-and-batch": Recipe(("Where", "Pools")),
    "support-faq-cache": Recipe(
        ("Where", "Hits"),
        "farthing calibrate cache --policies support-faq-cache.yaml --route support --pairs pairs.jsonl",
    ),
    "provider-migration": Recipe(("Where",)),
    "pinned-aliases": Recipe(("Where",)),
    "untrusted-users": Recipe(
        ("Where", "Tenants"),
        "farthing calibrate routing --policies untrusted-users.yaml --route trial --data labels.csv",
    ),
    "sandbox-for-ci": Recipe(("Where", "To know")),
}


class Kitchen:
    """A copy of the examples in `folder`, with what certificates are made of; commands run there.

    `pantry` keeps certificates, and what was printed as they were made, for the next kitchen.
    """

    def __init__(self, folder: Path, pantry: dict[str, tuple[str, dict[Path, bytes]]] | None = None) -> None:
        self.folder = folder
        self._pantry = pantry if pantry is not None else {}
        shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("certificates"))
        write_labels(folder / "labels.csv", LABELS)
        (folder / "pairs.jsonl").write_bytes(dump(list(pairs(PAIRS))))

    def run(self, command: str) -> tuple[int, str]:
        """The exit status of `farthing ...` and what it printed."""
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = farthing_main(shlex.split(command.replace("$SAMPLE", SAMPLE))[1:])
        return status, out.getvalue()

    def prepare(self, name: str) -> str:
        """Makes the recipe's certificate, if it has one; what that printed."""
        before = RECIPES[name].before
        if not before:
            return ""
        folder = self.folder / "certificates"
        if name not in self._pantry:
            old = set(folder.glob("*.json"))
            status, said = self.run(before)
            assert status == 0, said
            made = {path.relative_to(folder): path.read_bytes() for path in set(folder.glob("*.json")) - old}
            self._pantry[name] = said, made
        said, made = self._pantry[name]
        folder.mkdir(exist_ok=True)
        for path, data in made.items():
            (folder / path).write_bytes(data)
        return said

    def changed(self, name: str, *replacements: tuple[str, str]) -> str:
        """The name of a policy that differs from the recipe's in its text."""
        text = (self.folder / f"{name}.yaml").read_text()
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (self.folder / "changed.yaml").write_text(text)
        return "changed"

    def simulated(self, name: str, *ids: str, more: str = "") -> dict[str, Any]:
        """What `farthing policy simulate --json` says of the sample, or of its requests whose ids begin with `ids`."""
        return self.replayed(name, chosen(*ids), more=more)

    def replayed(self, name: str, lines: list[dict[str, Any]], *, more: str = "") -> dict[str, Any]:
        """The same of other lines."""
        (self.folder / "part.jsonl").write_bytes(dump(lines))
        _, said = self.run(
            f"farthing policy simulate --policy {name}.yaml --baseline-policy sample/before.yaml"
            f" --traffic part.jsonl --json {more}"
        )
        found: dict[str, Any] = json.loads(said)
        return found

    def shown(self, name: str) -> str:
        """The recipe's commands with what they print, abridged."""
        recipe = RECIPES[name]
        lines = []
        if recipe.before:
            said = self.prepare(name).splitlines()
            lines = [f"$ {recipe.before}", *(line for line in said if line.startswith(_CALIBRATED))]
        command = f"farthing policy simulate --policy {name}.yaml $SAMPLE"
        status, said = self.run(command)
        assert status == 0, said
        parts = said.split("\n\n")[1:]
        kept = [part.strip("\n") for part in parts[:1]]
        kept += [part.strip("\n") for part in parts[1:] if part.startswith(recipe.shows)]
        return "\n".join([*lines, f"$ {command}", "\n\n".join(kept)]) + "\n"


def chosen(*ids: str) -> list[dict[str, Any]]:
    """The sample's lines whose ids begin with one of `ids`; all without any."""
    lines = [line for line in map(json.loads, TRAFFIC.read_bytes().splitlines()) if line["id"].startswith(ids or "")]
    assert lines, ids
    return lines


def page(text: str, kitchen: Kitchen, left: Collection[str] = ()) -> str:
    """The page with every such fence made anew, but for what commands print for the recipes in `left`."""

    def fence(found: re.Match[str]) -> str:
        kind, name, ending, _ = found.groups()
        if kind == "console" and name in left:
            return found[0]
        body = (EXAMPLES / f"{name}.yaml").read_text() if kind == "yaml" else kitchen.shown(name)
        return f"```{kind} {name}{ending or ''}\n{body}```"

    return _FENCE.sub(fence, text)


def fences(text: str) -> Iterator[tuple[str, str]]:
    """The kind and the name of each, in order."""
    for found in _FENCE.finditer(text):
        yield found[1], found[2]


def main() -> int:
    """Writes the traffic and the page."""
    argparse.ArgumentParser(prog="python -m tests.support.cookbook", description=__doc__.splitlines()[0]).parse_args()
    TRAFFIC.write_bytes(dump(traffic()))
    with tempfile.TemporaryDirectory(prefix="farthing-cookbook-") as folder:
        PAGE.write_text(page(PAGE.read_text(), Kitchen(Path(folder))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
