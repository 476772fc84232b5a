"""Reads the slot values and hand-written forms of the generated questions; knows nothing of labels."""

import random
import re
from pathlib import Path

import msgspec

_DATA = Path(__file__).parent / "data"
_SLOT = re.compile(r"\{([a-z_]+)(\d?)\}")


class Family(msgspec.Struct):
    """Forms that ask the same (`same`), others of the same things (`other`), and exchanges of two slots."""

    name: str
    same: list[str] = []
    other: list[str] = []
    swaps: list[tuple[str, str, bool]] = []


class Pools:
    """Values by pool; a value is a tuple of its names, the first being the usual one."""

    def __init__(self, values: dict[str, list[tuple[str, ...]]]) -> None:
        self._values = values
        first, last = values["first_m"] + values["first_f"], values["last"]
        self._values["name"] = first
        self._values["person"] = [(f"{f[0]} {s[0]}",) for i, f in enumerate(first) for s in last[i % 7 :: 7]]

    def __getitem__(self, pool: str) -> list[tuple[str, ...]]:
        return self._values[pool]

    def one(self, rng: random.Random, pool: str, *but: tuple[str, ...]) -> tuple[str, ...]:
        """A value of the pool other than those of `but`."""
        while True:
            value = rng.choice(self._values[pool])
            if value not in but:
                return value


def pools() -> Pools:
    """The shipped pools."""
    values: dict[str, list[tuple[str, ...]]] = {}
    for line in _lines("pools.txt"):
        name, _, rest = line.partition(":")
        entries = (tuple(n.strip() for n in value.split(" = ")) for value in rest.split(","))
        values[name] = list(dict.fromkeys(e for e in entries if e[0]))
    return Pools(values)


def families() -> list[Family]:
    """The shipped families with slots, in their order."""
    found: list[Family] = []
    for line in _lines("forms.txt", comments=True):
        mark, _, text = line.partition(" ")
        if mark == "#" and re.fullmatch(r"[a-z_]+", text):
            found.append(Family(text))
        elif mark == "=":
            found[-1].same.append(text)
        elif mark == "!":
            found[-1].other.append(text)
        elif mark == "~":
            first, second, kind = text.split()
            found[-1].swaps.append((first, second, kind == "sym"))
    return found


def natural() -> list[Family]:
    """The shipped groups without slots that were written beside the families."""
    return _groups("natural")


def written_order() -> list[Family]:
    """The shipped groups without slots that were written for variety, each of another subject: on word order."""
    return _groups("written_order")


def written_subjects() -> list[Family]:
    """The same on experts' subjects and everyday life, in other words."""
    return _groups("written_subjects")


def _groups(name: str) -> list[Family]:
    """The groups of a file; a `=` after a `!` begins one."""
    found: list[Family] = []
    before = "!"
    for line in _lines(f"{name}.txt"):
        mark, _, text = line.partition(" ")
        if mark == "=" and before == "!":
            found.append(Family(f"{name} {text}"))
        (found[-1].same if mark == "=" else found[-1].other).append(text)
        before = mark
    return found


def slots_of(form: str) -> list[str]:
    """The slots of a form, each once: `city`, `city2`."""
    return list(dict.fromkeys("".join(m) for m in _SLOT.findall(form)))


def draw(rng: random.Random, values: Pools, slots: list[str]) -> dict[str, tuple[str, ...]]:
    """A value for each slot, all different within a pool."""
    filled: dict[str, tuple[str, ...]] = {}
    for slot in slots:
        filled[slot] = values.one(rng, slot.rstrip("0123456789"), *filled.values())
    return filled


def fill(rng: random.Random, form: str, values: dict[str, tuple[str, ...]], synonym: float = 0.3) -> str:
    """The form with its values, each under another of its names with probability `synonym`."""

    def name(match: re.Match[str]) -> str:
        names = values[match[1] + match[2]]
        return rng.choice(names) if rng.random() < synonym else names[0]

    return tidy(_SLOT.sub(name, form))


def tidy(text: str) -> str:
    """`a` before a vowel becomes `an`, the first letter a capital, a doubled plural or article single."""
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO]|un(?!i)|hour|honest)", r"\1n ", text)
    text = re.sub(r"\bmouses\b", "mice", text)
    text = re.sub(r"\b(sheep|goldfish)s\b", r"\1", text)
    text = re.sub(r"\bwolfs\b", "wolves", text)
    text = re.sub(r"([^aeiou])ys\b(?!')", r"\1ies", text)
    text = re.sub(r"\b([Aa]n?) (the|a) ", r"\2 ", text)
    return text[:1].upper() + text[1:]


def _lines(name: str, *, comments: bool = False) -> list[str]:
    text = (_DATA / name).read_text("utf-8")
    return [line for line in text.splitlines() if line and (comments or not line.startswith("#"))]
