"""Assembles the training pairs, repeatably: families, written groups, grammar, edited seeds, seeds by intent."""

import csv
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.cache.training import edits, grammar, slots

HELD_OUT_GRAMMAR = ("quantified",)
"""Rules never trained on."""

HARD_GRAMMAR = {
    "voice_people": 4,
    "voice_object": 2,
    "asymmetric": 2,
    "symmetric": 2,
    "coreference": 2,
    "superlatives": 2,
}
"""Rules drawn this many times as often as the others: roles are learnt last."""


ONE_IN = 6
"""One family, one intent in so many is held out."""


class TrainingPair(msgspec.Struct):
    """Two questions, how likely one answer serves both, where they come from, and whether they are held out."""

    a: str
    b: str
    same: float
    source: str
    held_out: bool


class Amounts(msgspec.Struct):
    """Pairs of each source."""

    families: int = 20_000
    natural: int = 10_000
    written_order: int = 90_000
    written_subjects: int = 80_000
    grammar: int = 26_000
    edits: int = 20_000
    intents: int = 5_000


def held_out(name: str, one_in: int) -> bool:
    """Whether a family or an intent is for estimates only, by the hash of its name."""
    return zlib.crc32(name.encode()) % one_in == 0


def generate(banking77: Path, seed: int, amounts: Amounts | None = None) -> list[TrainingPair]:
    """Every pair, in a random order that `seed` fixes."""
    rng = random.Random(seed)  # noqa: S311  repeatable draws, no secret
    amounts = amounts or Amounts()
    values = slots.pools()
    seeds = read_banking77(banking77)
    pairs = [
        *_families(rng, values, slots.families(), amounts.families),
        *_families(rng, values, slots.natural(), amounts.natural),
        *_families(rng, values, slots.written_order(), amounts.written_order),
        *_families(rng, values, slots.written_subjects(), amounts.written_subjects),
        *_grammar(rng, values, amounts.grammar),
        *_edited(rng, values, seeds, amounts.edits),
        *_intents(rng, seeds, amounts.intents),
    ]
    unique = {(p.a, p.b): p for p in pairs}
    pairs = list(unique.values())
    rng.shuffle(pairs)
    return pairs


def read_banking77(path: Path) -> dict[str, list[str]]:
    """Queries of 3 to 20 words by intent, from the data set's `text,category` CSV."""
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = " ".join(row["text"].split())
            if 3 <= len(text.split()) <= 20:
                found.setdefault(row["category"], []).append(text)
    return found


def _soil(rng: random.Random, text: str, chance: float) -> str:
    return edits.keep(rng, text, 2) if rng.random() < chance else text


def _families(rng: random.Random, values: slots.Pools, families: list[slots.Family], n: int) -> Iterator[TrainingPair]:
    for _ in range(n):
        family = rng.choice(families)
        made = _of_family(rng, values, family)
        if made:
            a, b, same = made
            chance = rng.choice((0.0, 0.0, 0.35)) if slots.slots_of(family.same[0]) else rng.choice((0.0, 0.5))
            yield TrainingPair(
                _soil(rng, a, chance),
                _soil(rng, b, chance),
                same,
                f"family:{family.name}",
                held_out(family.name, ONE_IN),
            )


def _of_family(rng: random.Random, values: slots.Pools, family: slots.Family) -> tuple[str, str, int] | None:
    every = slots.slots_of(" ".join(family.same + family.other + [f"{{{a}}} {{{b}}}" for a, b, _ in family.swaps]))
    drawn = slots.draw(rng, values, every)
    roll = rng.random()
    first, second = rng.choice(family.same), rng.choice(family.same)
    used = slots.slots_of(first)
    if family.swaps and roll < 0.4:
        one, two, sym = rng.choice(family.swaps)
        turned = {**drawn, one: drawn[two], two: drawn[one]}
        if rng.random() < 0.6:
            second = first
        return slots.fill(rng, first, drawn), slots.fill(rng, second, turned), int(sym)
    if roll < (0.65 if used else 0.5):
        if first == second and len(family.same) > 1:
            second = rng.choice([f for f in family.same if f != first])
        return slots.fill(rng, first, drawn), slots.fill(rng, second, drawn), 1
    if family.other and (roll < 0.85 or not used):
        pair = [slots.fill(rng, first, drawn), slots.fill(rng, rng.choice(family.other), drawn)]
        rng.shuffle(pair)
        return pair[0], pair[1], 0
    if not used:
        return None
    slot = rng.choice(used)
    changed = {**drawn, slot: values.one(rng, slot.rstrip("0123456789"), *drawn.values())}
    if rng.random() < 0.5:
        second = first
    if slot not in slots.slots_of(second):
        return None
    return slots.fill(rng, first, drawn), slots.fill(rng, second, changed), 0


def _grammar(rng: random.Random, values: slots.Pools, n: int) -> Iterator[TrainingPair]:
    rules = list(grammar.RULES)
    weights = [HARD_GRAMMAR.get(name, 1) for name in rules]
    for name in rng.choices(rules, weights, k=n):
        a, b, same = grammar.RULES[name](rng, values)
        chance = rng.choice((0.0, 0.0, 0.0, 0.3))
        if a != b:
            yield TrainingPair(
                _soil(rng, a, chance), _soil(rng, b, chance), same, f"grammar:{name}", name in HELD_OUT_GRAMMAR
            )


def _edited(rng: random.Random, values: slots.Pools, seeds: dict[str, list[str]], n: int) -> Iterator[TrainingPair]:
    changes = edits.SeedEdits([t for texts in seeds.values() for t in texts], values).all()
    intents = sorted(seeds)
    groups = slots.natural() + slots.written_order() + slots.written_subjects()
    for _ in range(n):
        if rng.random() < 0.3:
            group = rng.choice(groups)
            text, out = rng.choice(group.same + group.other), held_out(group.name, ONE_IN)
        else:
            intent = rng.choice(intents)
            text, out = rng.choice(seeds[intent]), held_out(intent, ONE_IN)
        if rng.random() < 0.45:
            yield TrainingPair(text, edits.keep(rng, text), 1, "edit:keep", out)
            continue
        name = rng.choice(list(changes))
        changed = changes[name](rng, text)
        if changed and changed.lower() != text.lower():
            chance = rng.choice((0.0, 0.5))
            pair = [_soil(rng, text, chance), _soil(rng, changed, chance)]
            rng.shuffle(pair)
            yield TrainingPair(pair[0], pair[1], 0, f"edit:{name}", out)


def _content(text: str) -> frozenset[str]:
    return frozenset(w for w in re.findall(r"[a-z0-9']+", text.lower()) if w not in edits._STOP)  # noqa: SLF001


def _intents(rng: random.Random, seeds: dict[str, list[str]], n: int) -> Iterator[TrainingPair]:
    """Queries of one intent whose content words overlap (mostly the same question), and of two intents (never)."""
    intents = sorted(seeds)
    words = {text: _content(text) for texts in seeds.values() for text in texts}
    made = 0
    while made < n:
        intent = rng.choice(intents)
        text = rng.choice(seeds[intent])
        same = rng.random() < 0.5
        other = intent if same else rng.choice(intents)
        candidates = rng.sample(seeds[other], min(40, len(seeds[other])))
        best = max((c for c in candidates if c != text), key=lambda c: _overlap(words[text], words[c]), default=None)
        if best is None or (not same and other == intent) or (same and _overlap(words[text], words[best]) < 0.5):
            continue
        made += 1
        yield TrainingPair(
            text, best, 0.8 if same else 0.0, "intent", held_out(intent, ONE_IN) or held_out(other, ONE_IN)
        )


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))
