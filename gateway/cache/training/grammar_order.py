"""Rules about word order and context: comparisons, preambles, adverbials, exchanged words, amounts."""

# ruff: noqa: D103, E501, ARG001 - each rule is its sentences, and they read best on one line

import random

from gateway.cache.training.rules import Labelled, either, people, rule, value
from gateway.cache.training.slots import Pools, draw, fill, slots_of


@rule
def according_to(rng: random.Random, p: Pools) -> Labelled:
    g, s, r = value(rng, p, "group"), value(rng, p, "superlative"), value(rng, p, "role_of")
    forms = [f"Who do {g} think is the {s} {r} in the world?", f"Who is the {s} {r} in the world according to {g}?",
             f"According to {g}, who is the {s} {r} in the world?", f"In the opinion of {g}, who is the {s} {r} in the world?"]  # fmt: skip
    if rng.random() < 0.3:
        forms = [t.replace(" in the world", " of all time") for t in forms]
    a, b = rng.sample(forms, 2)
    roll = rng.random()
    if roll < 0.6:
        return either(rng, a, b, 1)
    if roll < 0.8:
        return either(rng, a, b.replace(g, value(rng, p, "group", g)), 0)
    if roll < 0.9:
        return either(rng, a, b.replace(f"the {s} ", f"the {value(rng, p, 'superlative', s)} "), 0)
    return either(rng, a, f"Who are the {s} {g} in the world?", 0)


_LESS = [("heavier", "lighter"), ("faster", "slower"), ("bigger", "smaller"), ("stronger", "weaker"), ("cheaper", "more expensive"), ("older", "younger"),
         ("taller", "shorter"), ("louder", "quieter"), ("warmer", "colder"), ("harder", "softer"), ("safer", "more dangerous"), ("richer", "poorer"),
         ("smarter", "dumber"), ("sweeter", "less sweet"), ("cleaner", "dirtier"), ("more useful", "less useful"), ("healthier", "less healthy")]  # fmt: skip


@rule
def comparison(rng: random.Random, p: Pools) -> Labelled:
    pool = rng.choice(("animal", "animal", "planet", "metal", "company", "city", "name", "vehicle", "thing"))
    x = value(rng, p, pool)
    y = value(rng, p, pool, x)
    if pool in {"animal", "vehicle", "thing"}:
        x, y = x + "s", y + "s"
    be = "Are" if pool in {"animal", "vehicle", "thing"} else "Is"
    (c, o), which = rng.choice(_LESS), rng.choice(("What", "Which"))
    yes = [f"{be} {x} {c} than {y}?", f"{be} {y} {o} than {x}?"]
    ask = [f"{which} is {c}, {x} or {y}?", f"{which} is {c}: {y} or {x}?", f"{which} are {c}, {y} or {x}?"]
    roll = rng.random()
    if roll < 0.25:
        return either(rng, yes[0], yes[1], 1)
    if roll < 0.45:
        return (
            either(rng, rng.choice(ask[:2]), ask[2] if be == "Are" else ask[1], 1)
            if rng.random() < 0.5
            else either(rng, ask[0], ask[1], 1)
        )
    if roll < 0.6:
        return either(rng, yes[0], ask[rng.randrange(2)], 1)
    if roll < 0.75:
        return either(rng, yes[0], f"{be} {y} {c} than {x}?", 0)
    if roll < 0.9:
        return either(rng, yes[0], f"{be} {x} {o} than {y}?", 0)
    return either(rng, ask[0], f"{which} is {o}, {x} or {y}?", 0)


_STORY = [
    ("I own a {animal} that likes {food}. Is it normal for animals to like {food}?", "animal", 1),
    ("My {animal} ate {food} yesterday. Is it healthy for animals to eat {food}?", "animal", 1),
    ("My pet {animal} eats {food}. Is it normal for animals to eat {food}?", "animal", 1),
    ("My friend {name} speaks {language}. How hard is {language} to learn?", "name", 1),
    ("My cousin {name} lives in {city}. What is there to see in {city}?", "name", 1),
    ("I was talking to {name} about {subject}. What is {subject} good for?", "name", 1),
    ("My neighbor {name} bought a {thing}. How much does a {thing} cost?", "name", 1),
    ("Last {day} I read about {disease}. What causes {disease}?", "day", 1),
    ("I work as a {profession}. What is the capital of {country}?", "profession", 1),
    ("I hurt my {bodypart} playing {sport}. Is this a common injury?", "bodypart", 0),
    ("I injured my {bodypart} last time I played {sport}. How long does it take to heal?", "bodypart", 0),
    ("My {thing} is broken. Where can I get it repaired?", "thing", 0),
    ("I live in {city}. What is the weather like there in {month}?", "city", 0),
    ("I have {disease}. Which foods should I avoid?", "disease", 0),
    ("I am learning {language}. Is it a hard language?", "language", 0),
    ("I own {asset}. When should I sell them?", "asset", 0),
    ("I want to visit {country}. Do I need a visa?", "country", 0),
    ("My {animal} is sick. What should I give it?", "animal", 0),
]  # fmt: skip


@rule
def preamble(rng: random.Random, p: Pools) -> Labelled:
    form, slot, same = rng.choice(_STORY)
    values = draw(rng, p, slots_of(form))
    other = dict(values)
    key = slot if same or rng.random() < 0.8 else rng.choice(list(values))
    if same and rng.random() < 0.3:
        rest = [s for s in values if s != slot]
        key, same = rng.choice(rest), 0
    other[key] = p.one(rng, key, *values.values())
    return either(rng, fill(rng, form, values, 0), fill(rng, form, other, 0), same)


@rule
def drop_preamble(rng: random.Random, p: Pools) -> Labelled:
    form, _, same = rng.choice([s for s in _STORY if s[2]])
    values = draw(rng, p, slots_of(form))
    text = fill(rng, form, values, 0)
    return either(rng, text, text.split(". ", 1)[1], same)


@rule
def from_to(rng: random.Random, p: Pools) -> Labelled:
    form, pool = rng.choice((
        ("How do I {v} from {a} to {b}?", "city"), ("What is the best route from {a} to {b}?", "city"), ("Is there a train from {a} to {b}?", "city"),
        ("How do I switch from {a} to {b}?", "proglang"), ("Why did people emigrate from {a} to {b}?", "country"),
        ("How do I change from {a} to {b}?", "os"), ("How do I move my money from {a} to {b}?", "company"), ("What are the exports from {a} to {b}?", "country"),
        ("Why do students go from {a} to {b}?", "subject"), ("How do I send my {t} from {a} to {b}?", "country"),
    ))  # fmt: skip
    a = value(rng, p, pool)
    b = value(rng, p, pool, a)
    k = {"v": rng.choice(("travel", "drive", "fly", "cycle", "commute")), "t": value(rng, p, "thing")}
    roll = rng.random()
    left = form.format(a=a, b=b, **k)
    turned = form.replace("from {a} to {b}", "to {b} from {a}")
    if roll < 0.45:
        return left, form.format(a=b, b=a, **k), 0
    if roll < 0.85:
        return either(rng, left, turned.format(a=a, b=b, **k), 1)
    return either(rng, left, turned.format(a=b, b=a, **k), 0)


@rule
def swapped_modifiers(rng: random.Random, p: Pools) -> Labelled:
    a, b = rng.sample(("good", "bad", "young", "old", "rich", "poor", "American", "Chinese", "small", "large", "public", "private", "new", "used", "modern",
                       "ancient", "smart", "lazy", "Indian", "British", "cheap", "foreign", "local", "red", "blue", "white", "black"), 2)  # fmt: skip
    n, m = rng.sample(("people", "countries", "companies", "cars", "schools", "books", "teachers", "students", "banks", "houses", "men", "women", "dogs", "cats",
                       "cities", "languages", "movies", "workers", "farmers", "investors"), 2)  # fmt: skip
    form, sym = rng.choice((
        ("Why do {0} {2} like {1} {3}?", 0), ("Do {0} {2} cost more than {1} {3}?", 0), ("Can {0} {2} become {1} {2}?", 0),
        ("What do {0} {2} think about {1} {3}?", 0), ("Why are {0} {2} replacing {1} {3}?", 0), ("Are {0} {2} better than {1} {3}?", 0),
        ("How many {0} {2} have {1} {3}?", 0), ("Why do {0} {2} turn into {1} {2}?", 0), ("Do {0} {2} depend on {1} {3}?", 0),
        ("Do {0} {2} and {1} {3} differ?", 1), ("What is the difference between {0} {2} and {1} {3}?", 1), ("What do {0} {2} and {1} {3} have in common?", 1),
        ("Which are better, {0} {2} or {1} {3}?", 1),
    ))  # fmt: skip
    left = form.format(a, b, n, m)
    roll = rng.random()
    if roll < 0.4:
        return left, form.format(b, a, n, m), 0
    if roll < 0.6:
        return left, form.format(a, b, m, n), int("{3}" not in form and n == m)
    return left, form.format(b, a, m, n), sym


@rule
def adverb_scope(rng: random.Random, p: Pools) -> Labelled:
    v, past, part = value(rng, p, "thingv").split("|")
    o, x = value(rng, p, "object"), people(rng, p)[0]
    a, b = rng.choice((
        (f"Did only {x} {v} {o}?", f"Did {x} {v} only {o}?"), (f"Why did {x} almost {v} {o}?", f"Why did almost nobody {v} {o} but {x}?"),
        (f"Did {x} also {v} {o}?", f"Did {x} {v} {o} too early?"), (f"What did {x} say that he {past}?", f"What {past} {x}?"),
        (f"Can I {v} {o} without {x} knowing?", f"Can {x} {v} {o} without me knowing?"), (f"Does {x} know who {past} {o}?", f"Who knows that {x} {past} {o}?"),
        (f"Did {x} {v} {o} because it was cheap?", f"Was {o} cheap because {x} {past} it?"), (f"Has {o} not all been {part}?", f"Has all of {o} not been {part}?"),
        (f"Who told {x} to {v} {o}?", f"Who did {x} tell to {v} {o}?"), (f"Who asked {x} about {o}?", f"Who did {x} ask about {o}?"),
    ))  # fmt: skip
    return either(rng, a, b, 0)


@rule
def fronted(rng: random.Random, p: Pools) -> Labelled:
    place = rng.choice((f"in {value(rng, p, 'country')}", f"in {value(rng, p, 'city')}", f"in {value(rng, p, 'year')}", f"on {value(rng, p, 'day')}", f"during {value(rng, p, 'event')}",
                        f"in {value(rng, p, 'proglang')}", f"after {value(rng, p, 'event')}", f"for {value(rng, p, 'patients')}"))  # fmt: skip
    core = rng.choice((
        f"how much does a {value(rng, p, 'profession')} earn", f"what is the price of a {value(rng, p, 'thing')}", "who is in charge",
        f"what do people do about {value(rng, p, 'disease')}", f"is {value(rng, p, 'activity')}ing allowed".replace("eing", "ing"), f"how do people buy {value(rng, p, 'asset')}",
        f"is {value(rng, p, 'drug')} used", f"what is the best {value(rng, p, 'noun')}", f"which {value(rng, p, 'fileformat')} library is the best", f"can I eat {value(rng, p, 'food')}",
    ))  # fmt: skip
    same = rng.random() < 0.6
    wh, rest = f"{core} {place}?", f"{place}, {core}?"
    if not same:
        head, where = place.split(" ", 1)
        pool = {"in": rng.choice(("country", "city", "year")), "on": "day", "for": "patients"}.get(head, "event")
        rest = f"{head} {value(rng, p, pool, where)}, {core}?"
    return either(rng, wh, rest, int(same))


@rule
def quantified(rng: random.Random, p: Pools) -> Labelled:
    g, v, o = value(rng, p, "group"), value(rng, p, "activity"), value(rng, p, "country")
    q, r = rng.choice((("all", "some"), ("most", "few"), ("every one of the", "none of the"), ("at least five", "at most five"), ("more than ten", "fewer than ten"),
                       ("exactly two", "about two"), ("many", "no"), ("only", "even"), ("up to three", "over three"), ("both", "neither of the"), ("half of the", "all of the")))  # fmt: skip
    form = rng.choice(
        ("Do {q} {g} {v} in {o}?", "Why do {q} {g} {v}?", "Can {q} {g} {v} in {o}?", "Is it true that {q} {g} {v}?")
    )
    a, b = form.format(q=q, g=g, v=v, o=o), form.format(q=r, g=g, v=v, o=o)
    if rng.random() < 0.3:
        s = {
            "at least five": "five or more",
            "more than ten": "over ten",
            "at most five": "no more than five",
            "fewer than ten": "less than ten",
            "up to three": "at most three",
        }.get(q)
        if s:
            return either(rng, a, form.format(q=s, g=g, v=v, o=o), 1)
    return either(rng, a, b, 0)


@rule
def entity_changed(rng: random.Random, p: Pools) -> Labelled:
    form, pool = rng.choice((
        ("What is the best way to contact {x}?", "company"), ("How old is {x}?", "person"), ("Where does {x} live?", "person"), ("How tall is {x}?", "person"),
        ("What is the tallest building in {x}?", "city"), ("How safe is {x} for tourists?", "country"), ("Who founded {x}?", "company"),
        ("What happened in {x}?", "year"), ("Why is {x} important in history?", "year"), ("How many people use {x}?", "software"), ("Is {x} a good phone?", "phone"),
        ("How do I live on {x} a month?", "money"), ("Can I buy a car for {x}?", "money"), ("Is {x} interest too much?", "percent"), ("What can I do with {x} dollars?", "number"),
        ("What happens on {x}?", "day"), ("Is {x} a good time to call?", "hour"), ("What are the holidays in {x}?", "month"), ("Who won the {x} election?", "year"),
        ("Is {x} still widely used?", "proglang"), ("Who is {x} married to?", "person"), ("How did {x} die?", "person"), ("What does {x} cost on {os}?", "software"),
    ))  # fmt: skip
    x = value(rng, p, pool)
    y = value(rng, p, pool, x)
    if pool == "person" and rng.random() < 0.5:
        y = x.split()[0] + " " + value(rng, p, "last", x.split()[1])
    o = value(rng, p, "os")
    return either(rng, form.format(x=x, os=o), form.format(x=y, os=o), 0)


@rule
def two_acts(rng: random.Random, p: Pools) -> Labelled:
    acts = rng.sample((("finish school", "finishing school"), ("get a job", "getting a job"), ("buy a house", "buying a house"), ("get married", "getting married"),
                       ("pay my debts", "paying my debts"), ("start a company", "starting a company"), ("learn to drive", "learning to drive"),
                       ("see a doctor", "seeing a doctor"), ("call the bank", "calling the bank"), ("sign the contract", "signing the contract"), ("move out", "moving out"),
                       ("sell my car", "selling my car"), ("update the app", "updating the app"), ("eat dinner", "eating dinner"), ("take a shower", "taking a shower"),
                       ("wash the rice", "washing the rice"), ("cancel my card", "cancelling my card"), ("write tests", "writing tests"), ("warm up", "warming up")), 2)  # fmt: skip
    (a, a_ing), (b, b_ing) = acts
    head = rng.choice(("Should I", "Do I have to", "Can I", "Is it better to", "Why should I", "Is it wise to"))
    left = f"{head} {a} before {b_ing}?"
    roll = rng.random()
    if roll < 0.2:
        return either(rng, left, f"{head} {b} after {a_ing}?", 1)
    if roll < 0.4:
        return either(rng, left, f"Before {b_ing}, {head[0].lower()}{head[1:]} {a}?".replace("do i", "do I"), 1)
    if roll < 0.75:
        return either(rng, left, f"{head} {b} before {a_ing}?", 0)
    return either(rng, left, f"{head} {a} after {b_ing}?", 0)


_CAUSES = ("sleep", "stress", "exercise", "diet", "weight", "memory", "mood", "age", "income", "education", "crime", "poverty", "temperature", "pressure", "speed",
           "light", "inflation", "unemployment", "interest rates", "oil prices", "immigration", "wages", "rain", "soil", "music", "smoking", "alcohol", "culture",
           "language", "technology", "politics", "religion", "the brain", "the heart", "the moon", "the ocean", "parents", "teachers", "children", "friends")  # fmt: skip


@rule
def affects(rng: random.Random, p: Pools) -> Labelled:
    x, y = rng.sample(_CAUSES, 2)
    v, part = rng.choice(
        (
            ("affect", "affected"),
            ("influence", "influenced"),
            ("change", "changed"),
            ("improve", "improved"),
            ("control", "controlled"),
            ("damage", "damaged"),
        )
    )
    active = [
        f"How does {x} {v} {y}?",
        f"In what way does {x} {v} {y}?",
        f"How is {y} {part} by {x}?",
        f"How can {x} {v} {y}?",
    ]
    if v in {"affect", "influence"}:
        active += [
            f"What is the effect of {x} on {y}?",
            f"What impact does {x} have on {y}?",
            f"What effect does {x} have on {y}?",
        ]
    a, b = rng.sample(active, 2)
    roll = rng.random()
    if roll < 0.45:
        return either(rng, a, b, 1)
    turned = (a if rng.random() < 0.5 else b).replace(x, "\0").replace(y, x).replace("\0", y)
    if roll < 0.85:
        return either(rng, a, turned, 0)
    return either(rng, a, rng.choice((f"Does {x} {v} {y}?", f"Why does {x} {v} {y}?", f"When does {x} {v} {y}?")), 0)


@rule
def relative_clause(rng: random.Random, p: Pools) -> Labelled:
    g, h = rng.sample(("teachers", "students", "doctors", "patients", "parents", "children", "men", "women", "voters", "politicians", "police officers",
                       "drivers", "tenants", "landlords", "managers", "workers", "lawyers", "clients", "tourists", "locals", "Indians", "Germans"), 2)  # fmt: skip
    v, w = rng.sample(
        (
            "respect",
            "ignore",
            "like",
            "avoid",
            "help",
            "trust",
            "sue",
            "complain about",
            "believe",
            "criticize",
            "marry",
            "admire",
        ),
        2,
    )
    head = rng.choice(("Do", "Why do", "Should", "How often do"))
    left = f"{head} {g} {v} {h} who {w} them?"
    turned = rng.choice((f"{head} {h} {v} {g} who {w} them?", f"{head} {g} {w} {h} who {v} them?"))
    if rng.random() < 0.25:
        return either(rng, left, f"{head} {g} {v} {h} that {w} them?", 1)
    return either(rng, left, turned, 0)


@rule
def superlatives(rng: random.Random, p: Pools) -> Labelled:
    s, t = rng.sample(
        (
            "largest",
            "smallest",
            "oldest",
            "newest",
            "richest",
            "poorest",
            "tallest",
            "cheapest",
            "most expensive",
            "safest",
            "coldest",
            "best",
            "worst",
        ),
        2,
    )
    n, m = rng.choice((("city", "country"), ("bank", "city"), ("school", "state"), ("player", "team"), ("house", "street"), ("student", "class"), ("lake", "continent"),
                       ("hotel", "town"), ("company", "industry"), ("mountain", "island")))  # fmt: skip
    forms = [
        f"What is the {s} {n} in the {t} {m}?",
        f"Which {n} is the {s} in the {t} {m}?",
        f"In the {t} {m}, what is the {s} {n}?",
        f"What is the {t} {m}'s {s} {n}?",
    ]
    a, b = rng.sample(forms, 2)
    if rng.random() < 0.5:
        return either(rng, a, b, 1)
    other = rng.choice((a, b))
    return either(rng, a, other.replace(s, "\0").replace(t, s).replace("\0", t), 0)


@rule
def measured_in(rng: random.Random, p: Pools) -> Labelled:
    pool = rng.choice(("lengthu", "massu", "volumeu", "timeu"))
    u = value(rng, p, pool)
    w, n = value(rng, p, pool, u), value(rng, p, "number")
    forms = [
        f"How many {w} are {n} {u}?",
        f"What is {n} {u} in {w}?",
        f"Convert {n} {u} to {w}.",
        f"{n} {u} to {w}",
        f"How do I convert {n} {u} into {w}?",
        f"{n} {u} equals how many {w}?",
    ]
    a, b = rng.sample(forms, 2)
    if rng.random() < 0.5:
        return either(rng, a, b, 1)
    other = rng.choice((a, b))
    return either(rng, a, other.replace(u, "\0").replace(w, u).replace("\0", w), 0)


@rule
def operation(rng: random.Random, p: Pools) -> Labelled:
    n, m = value(rng, p, "number"), value(rng, p, "number")
    ways = [
        [f"What is {n} plus {m}?", f"What is {n} + {m}?", f"How much is {n} and {m} together?"], [f"What is {n} minus {m}?", f"What is {n} - {m}?", f"Subtract {m} from {n}."],
        [f"What is {n} times {m}?", f"What is {n} multiplied by {m}?", f"What is the product of {n} and {m}?"], [f"What is {n} divided by {m}?", f"What is {n} / {m}?", f"Divide {n} by {m}."],
        [f"What is {n} percent of {m}?", f"What is {n}% of {m}?", f"How much is {n}% of {m}?"], [f"What is {m} plus {n}%?", f"What do I get if I add {n}% to {m}?"],
    ]  # fmt: skip
    one = rng.choice(ways)
    if rng.random() < 0.45:
        return (*rng.sample(one, 2), 1)  # type: ignore[return-value]
    return rng.choice(one), rng.choice(rng.choice([w for w in ways if w is not one])), 0
