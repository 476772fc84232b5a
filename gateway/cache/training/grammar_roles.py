"""Rules about who does what to whom: voice, relations that hold both ways or one, and/or."""

# ruff: noqa: D103, E501 - each rule is its sentences, and they read best on one line

import random

from gateway.cache.training.rules import Labelled, either, people, rule, value
from gateway.cache.training.slots import Pools, tidy

_ACTIVE = (
    "Does {x} {v} {y}?",
    "Did {x} {v} {y}?",
    "Will {x} {v} {y}?",
    "Why does {x} {v} {y}?",
    "Why did {x} {v} {y}?",
    "When did {x} {v} {y}?",
    "Should {x} {v} {y}?",
    "Can {x} {v} {y}?",
)
_PASSIVE = (
    "Is {y} {p} by {x}?",
    "Was {y} {p} by {x}?",
    "Will {y} be {p} by {x}?",
    "Why is {y} {p} by {x}?",
    "Why was {y} {p} by {x}?",
    "When was {y} {p} by {x}?",
    "Should {y} be {p} by {x}?",
    "Can {y} be {p} by {x}?",
)


@rule
def voice_people(rng: random.Random, p: Pools) -> Labelled:
    i = rng.randrange(8)
    v, part = value(rng, p, "verb3").split("|")
    x, y = people(rng, p)
    if rng.random() < 0.15:
        x, y = (tidy("the " + value(rng, p, "profession")).lower(), "the " + value(rng, p, "group"))
    same = rng.random() < 0.5
    other = _PASSIVE[i].format(x=x, y=y, p=part) if same else _PASSIVE[i].format(x=y, y=x, p=part)
    if not same and rng.random() < 0.25:
        other = _ACTIVE[i].format(x=y, y=x, v=v)
    return either(rng, _ACTIVE[i].format(x=x, y=y, v=v), other, int(same))


@rule
def voice_verb(rng: random.Random, p: Pools) -> Labelled:
    i = rng.randrange(8)
    v, part = value(rng, p, "verb3").split("|")
    x, y = people(rng, p)
    w = value(rng, p, "verb3", f"{v}|{part}").split("|")
    return either(rng, _ACTIVE[i].format(x=x, y=y, v=v), _PASSIVE[i].format(x=x, y=y, p=w[1]), 0)


@rule
def voice_object(rng: random.Random, p: Pools) -> Labelled:
    v, past, part = value(rng, p, "thingv").split("|")
    x, o = people(rng, p)[0], value(rng, p, "object")
    forms = [
        f"Did {x} {v} {o}?",
        f"Was {o} {part} by {x}?",
        f"Is it true that {x} {past} {o}?",
        f"Was it {x} who {past} {o}?",
    ]
    a, b = rng.sample(forms, 2)
    roll = rng.random()
    if roll < 0.5:
        return either(rng, a, b, 1)
    if roll < 0.7:
        return either(rng, a, b.replace(o, value(rng, p, "object", o)), 0)
    if roll < 0.85:
        return either(rng, a, b.replace(x, people(rng, p)[1]), int(a == b))
    return either(
        rng,
        a,
        rng.choice((f"Did {x} not {v} {o}?", f"Will {x} {v} {o}?", f"Who {past} {o}?", f"Why did {x} {v} {o}?")),
        0,
    )


@rule
def symmetric(rng: random.Random, p: Pools) -> Labelled:
    x, y = people(rng, p)
    r = value(rng, p, "sym").removesuffix(" like")
    be = rng.choice(("Is", "Was", "Why is", "Why was", "When was", "How long was"))
    if rng.random() < 0.75:
        return f"{be} {x} {r} {y}?", f"{be} {y} {r} {x}?", 1
    other = value(rng, p, "sym", r).removesuffix(" like")
    return f"{be} {x} {r} {y}?", f"{be} {y} {other} {x}?", 0


@rule
def asymmetric(rng: random.Random, p: Pools) -> Labelled:
    x, y = people(rng, p)
    r = value(rng, p, "asym")
    be = rng.choice(("Is", "Was", "Why is", "Why was", "When was"))
    if rng.random() < 0.8:
        return f"{be} {x} {r} {y}?", f"{be} {y} {r} {x}?", 0
    return f"{be} {x} {r} {y}?", f"{be} {x} {rng.choice(('really', 'actually', 'indeed'))} {r} {y}?", 1


@rule
def symmetric_plain(rng: random.Random, p: Pools) -> Labelled:
    x, y = people(rng, p)
    forms = (
        ("Are {x} and {y} married?", "Is {x} married to {y}?"),
        ("Are {x} and {y} friends?", "Is {y} friends with {x}?"),
        ("Did {x} marry {y}?", "Did {y} marry {x}?"),
        ("Did {x} and {y} meet in {c}?", "Did {y} and {x} meet in {c}?"),
        ("Do {x} and {y} know each other?", "Do {y} and {x} know each other?"),
        ("Is {x} with {y}?", "Is {y} with {x}?"),
        ("Did {x} and {y} divorce?", "Did {x} divorce {y}?"),
        ("Does {x} live with {y}?", "Does {y} live with {x}?"),
        ("Is {x} working with {y}?", "Is {y} working with {x}?"),
        ("Did {x} play against {y}?", "Did {y} play against {x}?"),
        ("Did {x} debate with {y}?", "Did {y} debate with {x}?"),
        ("Is {x} in the same class as {y}?", "Is {y} in the same class as {x}?"),
    )
    a, b = rng.choice(forms)
    c = value(rng, p, "city")
    return either(rng, a.format(x=x, y=y, c=c), b.format(x=x, y=y, c=c), 1)


@rule
def asymmetric_verbs(rng: random.Random, p: Pools) -> Labelled:
    x, y = people(rng, p)
    form = rng.choice((
        "Is {x} {g} {y}?", "Why is {x} {g} {y}?", "Did {x} {g2} to {y}?", "Is {x} the {n} of {y}?", "Is {x} {y}'s {n}?",
        "Did {x} learn from {y}?", "Did {x} hear about {y} from {c}?", "Did {x} write to {y}?", "Is {x} angry because of {y}?",
        "Did {x} vote for {y}?", "Was {x} sitting behind {y}?", "Does {x} have more money than {y}?", "Is {x} taller than {y}?",
    ))  # fmt: skip
    g = rng.choice(
        [
            "calling",
            "helping",
            "leaving",
            "following",
            "hurting",
            "paying",
            "teaching",
            "watching",
            "protecting",
            "ignoring",
            "chasing",
            "hiring",
            "suing",
            "beating",
            "pushing",
            "driving",
            "blaming",
            "visiting",
            "supporting",
            "firing",
            "cheating",
        ]
    )
    g2 = rng.choice(["lie", "speak", "listen", "write", "apologize", "complain", "object", "sing", "report", "refer"])
    n = rng.choice(
        [
            "boss",
            "father",
            "mother",
            "teacher",
            "lawyer",
            "doctor",
            "manager",
            "son",
            "daughter",
            "student",
            "employee",
            "client",
            "landlord",
            "uncle",
            "nephew",
            "coach",
            "idol",
            "mentor",
        ]
    )
    a = form.format(x=x, y=y, g=g, g2=g2, n=n, c=value(rng, p, "city"))
    b = (
        form.format(x=y, y=x, g=g, g2=g2, n=n, c=value(rng, p, "city"))
        if "{c}" not in form
        else a.replace(x, "\0").replace(y, x).replace("\0", y)
    )
    return a, b, 0


@rule
def or_and(rng: random.Random, p: Pools) -> Labelled:
    x, pool = people(rng, p)[0], rng.choice(("profession", "profession", "good"))
    a, b = value(rng, p, pool), ""
    b = value(rng, p, pool, a)
    art = "a " if pool == "profession" else ""
    roll, word = rng.random(), rng.choice(("or", "and"))
    left = f"Is {x} {art}{a} {word} {art}{b}?"
    if roll < 0.5:
        return either(rng, left, f"Is {x} {art}{b} {word} {art}{a}?", 1)
    left = f"Is {x} {art}{a} or {art}{b}?"
    both = rng.choice(("both ", "simultaneously ", "at the same time ", ""))
    if roll < 0.75:
        return either(rng, left, f"Is {x} {both}{art}{a} and {art}{b}?", 0)
    c = value(rng, p, pool, a, b)
    d = value(rng, p, pool, a, b, c) if rng.random() < 0.7 else b
    return either(rng, left, f"Is {x} {both}{art}{c} {rng.choice(('and', 'or'))} {art}{d}?", 0)


@rule
def and_or_things(rng: random.Random, p: Pools) -> Labelled:
    pool = rng.choice(("food", "thing", "asset", "sport", "country", "city", "drug", "subject", "proglang", "company"))
    a = value(rng, p, pool)
    b = value(rng, p, pool, a)
    form = rng.choice((
        "Are {a} and {b} good for beginners?", "Do {a} and {b} have anything in common?", "Should I choose {a} or {b}?",
        "What do {a} and {b} cost?", "Which is more popular, {a} or {b}?", "Can I have {a} and {b} together?",
        "What is the link between {a} and {b}?", "How do {a} and {b} compare?", "Who invented {a} and {b}?",
        "Why are {a} and {b} so expensive?", "What are the pros and cons of {a} and {b}?", "Which do you prefer, {a} or {b}?",
    ))  # fmt: skip
    left, right = form.format(a=a, b=b), form.format(a=b, b=a)
    roll = rng.random()
    if roll < 0.55:
        return left, right, 1
    if roll < 0.8:
        return either(rng, left, form.format(a=b, b=value(rng, p, pool, a, b)), 0)
    return either(rng, left, form.format(a=a, b=b).replace(f" and {b}", "").replace(f" or {b}", ""), 0)
