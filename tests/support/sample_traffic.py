"""Two days of a made-up house's requests, the same for the same seed; every text is written here.

    python -m tests.support.sample_traffic --out routing_policies/examples/sample/traffic.jsonl
    python -m tests.support.sample_traffic --labels 3000 --out labels.csv
    python -m tests.support.sample_traffic --pairs 500 --out pairs.jsonl

The first makes the recorded traffic that the policy cookbook is simulated on, the others what `farthing calibrate
routing` and `calibrate cache` learn from. The first part of an `id` says what a request is, which no policy reads:
tests hold what policies did against it. Qualities are made up as well: they fall with how hard a request is, for a
small model faster than for a large one.
"""

import argparse
import csv
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

SEED = 20_261_116
BEGIN_S = 1_794_787_200
"""Monday, 16 November 2026, 00:00 UTC."""
HOUR_S = 3600
KINDS = {"support": 120, "order": 20, "batch": 56, "code": 36, "maths": 28, "agent": 14, "long": 3, "claude": 14,
         "sensitive": 34, "ci": 26, "trial": 24, "padded": 36}  # fmt: skip
FAQ = (
    ("How long does delivery to {place} take?", "How many days does shipping to {place} take?",
     "What is the delivery time to {place}?", "how long does delivery take to {place}"),
    ("How can a {item} be returned?", "What is the way to return a {item}?", "How does one send back a {item}?",
     "How do returns of a {item} work?"),
    ("Which payment methods are accepted?", "What payment methods do you accept?",
     "Which methods of payment can be used?", "what ways to pay are there"),
    ("How long is the warranty on a {item}?", "What is the warranty period of a {item}?",
     "How many years of warranty does a {item} have?", "how long does the warranty of a {item} last"),
    ("Can a {item} be repaired after the warranty has ended?", "Is it possible to repair a {item} out of warranty?",
     "Are repairs of a {item} possible once the warranty is over?", "can you repair a {item} without warranty"),
    ("How is a {item} cleaned?", "What is the best way to clean a {item}?", "How should a {item} be cleaned?",
     "how to clean a {item}"),
    ("What does shipping to {place} cost?", "How much is shipping to {place}?",
     "What are the shipping costs to {place}?", "how much does delivery to {place} cost"),
)  # fmt: skip
PLACES = ("Austria", "Norway", "Portugal")
ITEMS = ("tent", "rain jacket", "backpack", "stove")
ORDERS = ("Where is my order {n}?", "Why was my payment for order {n} declined?", "Please cancel my order {n}.")
LANGUAGES = ("Python", "Go", "TypeScript", "Rust")
STRUCTURES = ("a bounded queue", "an LRU cache", "a rate limiter", "a retry with backoff", "a trie", "a ring buffer")
DEMANDS = ("It must be safe under concurrent use", "every error must be typed and documented",
           "memory may not grow with the number of keys", "the tests must cover cancellation and timeouts",
           "explain the complexity of each operation", "show where it would break under clock skew",
           "compare two designs and defend the one that you choose")  # fmt: skip
CLAIMS = ("the sum of the first n odd numbers is n^2", "there are infinitely many primes of the form 4k + 3",
          "sqrt(2) + sqrt(3) is irrational", "every tree with n vertices has n - 1 edges",
          "a continuous function on a closed interval is uniformly continuous")  # fmt: skip
STEPS = ("State every lemma that you use", "say where the hypothesis is needed", "give a counterexample without it",
         "and then generalise the result to n dimensions", "avoid the axiom of choice",
         "compare a proof by induction with a direct one")  # fmt: skip
REVIEWS = ("The zip broke in the second week and nobody answered.", "Light, dry and quickly pitched; the pegs bend.",
           "Warm enough for May, not for March.", "The colour is not the one on the page, the fit is good.",
           "Arrived two days early. The stove does not simmer.")  # fmt: skip
PERSONAL = ("Summarise for the file: diagnosis {ill}, blood pressure {n}/80, next visit in {m} weeks.",
            "Draft a letter about the medical record of a patient with {ill}.",
            "Is 123-45-{n} a complete social security number for the form?",
            "Check whether DE44 5001 0517 5407 3249 {n} can be refunded.")  # fmt: skip
ILLS = ("asthma", "a torn ligament", "migraine")
TOPICS = ("haiku about the sea", "name for a bakery", "slogan for a bicycle shop", "riddle about time")
PADDING = "Think step by step, prove every claim, consider each edge case and justify all assumptions rigorously. "
SHOP = "You answer questions about an outdoor shop, briefly."
TOOL = {
    "type": "function",
    "function": {"name": "run_sql", "parameters": {"type": "object", "properties": {"sql": {"type": "string"}}}},
}
TARGETS = {"local": 0.55, "gpt-4.1-mini": 0.3, "gpt-4.1": 0.12, "sonnet": 0.1}
"""How much of its quality a target loses between the easiest request and the hardest."""

Line = dict[str, Any]


def traffic(seed: int = SEED) -> list[Line]:
    """The lines of the traffic file, in the order in which they came."""
    dice = random.Random(seed)
    lines = [_MAKERS[kind](dice, f"{kind}-{number:03d}") for kind, count in KINDS.items() for number in range(count)]
    return sorted(lines, key=lambda line: (line["time"], line["id"]))


def labels(count: int, seed: int = SEED) -> Iterator[tuple[str, float, float]]:
    """Prompts as `auto` gets them, each with the quality of `local` and that of `gpt-4.1`."""
    dice = random.Random(seed + 1)
    kinds = ("support", "order", "batch", "code", "maths", "trial")
    weights = [KINDS[kind] for kind in kinds]
    for number in range(count):
        line = _MAKERS[dice.choices(kinds, weights)[0]](dice, f"label-{number}", always=True)
        yield line["request"]["messages"][-1]["content"], line["quality"]["local"], line["quality"]["gpt-4.1"]


def pairs(count: int, seed: int = SEED) -> Iterator[dict[str, Any]]:
    """Questions of the shop beside the nearest earlier one: some the same in other words, most not."""
    dice = random.Random(seed + 2)
    for _ in range(count):
        place, item = dice.choice(PLACES), dice.choice(ITEMS)
        forms = dice.choice(FAQ)
        a, b = (form.format(place=place, item=item) for form in dice.sample(forms, 2))
        if dice.random() < 0.5:
            yield {"a": a, "b": b, "duplicate": True}
        else:
            other = dice.choice([forms for forms in FAQ if a not in [form.format(place=place, item=item)
                                                                     for form in forms]])  # fmt: skip
            yield {"a": a, "b": dice.choice(other).format(place=place, item=item), "duplicate": False}


def _line(
    dice: random.Random,
    id_: str,
    who: tuple[str, str, list[str]],
    text: str,
    hard: float,
    *,
    hours: tuple[float, float] = (7, 20),
    output: tuple[int, int] = (40, 220),
    model: str = "auto",
    system: str | None = None,
    headers: dict[str, str] | None = None,
    always: bool = False,
    **more: Any,
) -> Line:
    """One request; `hard` is from 0 to 1. Half of them are labelled, drawn at random."""
    at_s = BEGIN_S + int((dice.choice((0, 24)) + dice.uniform(*hours)) * HOUR_S)
    turns = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]
    request = {"model": model, "messages": turns, "max_tokens": 600, **more}
    tenant, key, tags = who
    written = dice.randint(*output)
    line: Line = {
        "id": id_,
        "time": at_s,
        "tenant": tenant,
        "key": key,
        **({"tags": tags} if tags else {}),
        **({"headers": headers} if headers else {}),
        "request": request,
        "usage": {"prompt_tokens": 12 + len(msgspec.json.encode(request)) // 5, "completion_tokens": written},
    }
    quality = {name: _quality(dice, hard, slope) for name, slope in TARGETS.items()}
    if always or dice.random() < 0.5:
        line["quality"] = quality
    return line


def _quality(dice: random.Random, hard: float, slope: float) -> float:
    """0 to 1 in steps of 0.05, the higher the better."""
    return round(max(0.0, min(1.0, 1 - slope * hard + dice.gauss(0, 0.05))) * 20) / 20


def _support(dice: random.Random, id_: str, **more: Any) -> Line:
    text = dice.choice(dice.choice(FAQ)).format(place=dice.choice(PLACES), item=dice.choice(ITEMS))
    session = {"x-farthing-session": f"visit-{dice.randrange(60)}"}
    return _line(dice, id_, ("shop", "shop-web", ["support"]), text, 0.05, system=SHOP, headers=session, **more)


def _order(dice: random.Random, id_: str, **more: Any) -> Line:
    text = dice.choice(ORDERS).format(n=dice.randrange(10_000, 99_999))
    session = {"x-farthing-session": f"visit-{dice.randrange(60)}"}
    return _line(dice, id_, ("shop", "shop-web", ["support"]), text, 0.1, system=SHOP, headers=session, **more)


def _batch(dice: random.Random, id_: str, **more: Any) -> Line:
    text = "Summarise in one line: " + " ".join(dice.sample(REVIEWS, dice.randint(2, 4)))
    hours = (0.5, 5) if dice.random() < 0.75 else (10, 16)
    who, headers = ("shop", "shop-nightly", ["batch"]), {"x-farthing-latency": "batch"}
    return _line(dice, id_, who, text, 0.15, hours=hours, output=(20, 60), headers=headers, **more)


def _code(dice: random.Random, id_: str, **more: Any) -> Line:
    demands = dice.sample(DEMANDS, dice.randint(0, 5))
    text = f"Write {dice.choice(STRUCTURES)} in {dice.choice(LANGUAGES)}. " + "; ".join(demands)
    model = dice.choice(("auto", "auto", "gpt-4.1"))
    hard = 0.3 + 0.14 * len(demands)
    return _line(dice, id_, _researcher(dice), text.strip(), hard, output=(200, 580), **{"model": model, **more})


def _maths(dice: random.Random, id_: str, **more: Any) -> Line:
    steps = dice.sample(STEPS, dice.randint(0, 5))
    text = f"Prove that {dice.choice(CLAIMS)}. " + "; ".join(steps)
    return _line(dice, id_, _researcher(dice), text.strip(), 0.3 + 0.14 * len(steps), output=(200, 580), **more)


def _agent(dice: random.Random, id_: str, **more: Any) -> Line:
    text = f"How many {dice.choice(ITEMS)}s were sold in {dice.choice(PLACES)} in week {dice.randrange(1, 46)}?"
    return _line(dice, id_, _researcher(dice), text, 0.6, tools=[TOOL], **more)


def _long(dice: random.Random, id_: str, **more: Any) -> Line:
    text = "Which complaint is the most frequent?\n" + "\n".join(dice.choices(REVIEWS, k=162))
    return _line(dice, id_, _researcher(dice), text, 0.7, **more)


def _claude(dice: random.Random, id_: str, **more: Any) -> Line:
    """By Anthropic's API: the assistant of an editor, which asks for its own models."""
    line = _code(dice, id_, **{**more, "model": "claude-sonnet-5"})
    usage = line["usage"]
    return line | {
        "path": "/v1/messages",
        "usage": {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]},
    }


def _sensitive(dice: random.Random, id_: str, **more: Any) -> Line:
    text = dice.choice(PERSONAL).format(ill=dice.choice(ILLS), n=dice.randrange(1000, 9999), m=dice.randrange(2, 9))
    if dice.random() < 0.3:
        return _line(dice, id_, ("shop", "shop-web", ["support"]), text, 0.3, system=SHOP, **more)
    return _line(dice, id_, ("clinic", "clinic-portal", []), text, 0.3, **more)


def _ci(dice: random.Random, id_: str, **more: Any) -> Line:
    text = f"Reply with the word ok. Build {dice.randrange(900)}."
    who = ("platform", "ci", ["ci"])
    return _line(dice, id_, who, text, 0.0, hours=(0, 24), output=(1, 5), **{"model": "gpt-4.1-mini", **more})


def _trial(dice: random.Random, id_: str, **more: Any) -> Line:
    return _line(dice, id_, ("trial", "trial-kim", ["trial"]), f"Write a {dice.choice(TOPICS)}.", 0.15, **more)


def _padded(dice: random.Random, id_: str, **more: Any) -> Line:
    """An easy request that is made to look hard."""
    text = f"{PADDING * 3}Write a {dice.choice(TOPICS)}."
    return _line(dice, id_, ("trial", "trial-max", ["trial"]), text, 0.15, output=(300, 580), **more)


def _researcher(dice: random.Random) -> tuple[str, str, list[str]]:
    return "research", dice.choice(("research-ada", "research-bob")), []


_MAKERS: dict[str, Callable[..., Line]] = {
    "support": _support, "order": _order, "batch": _batch, "code": _code, "maths": _maths, "agent": _agent,
    "long": _long, "claude": _claude, "sensitive": _sensitive, "ci": _ci, "trial": _trial, "padded": _padded,
}  # fmt: skip


def dump(lines: list[Line]) -> bytes:
    """The bytes of a traffic file."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def write_labels(path: Path, count: int, seed: int = SEED) -> None:
    """The CSV that `farthing calibrate routing` reads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("prompt", "weak", "strong"))
        writer.writerows(labels(count, seed))


def main() -> int:
    """Writes what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.sample_traffic", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--labels", type=int, metavar="N", help="labelled prompts instead, as CSV")
    parser.add_argument("--pairs", type=int, metavar="N", help="labelled pairs of questions instead")
    parser.add_argument("--seed", type=int, default=SEED, help="[%(default)s]")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.labels:
        write_labels(arguments.out, arguments.labels, arguments.seed)
    else:
        made = list(pairs(arguments.pairs, arguments.seed)) if arguments.pairs else traffic(arguments.seed)
        arguments.out.write_bytes(dump(made))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
