"""Rules about what is said: qualities, tense, before and after, opposites, negation, reference."""

# ruff: noqa: D103, E501, ARG001 - each rule is its sentences, and they read best on one line

import random

from gateway.cache.training.rules import Labelled, either, people, rule, value
from gateway.cache.training.slots import Pools


@rule
def nationality(rng: random.Random, p: Pools) -> Labelled:
    x, n, j = people(rng, p)[0], value(rng, p, "nationality"), value(rng, p, "profession")
    forms = [
        f"Is {x} a {n} {j}?",
        f"Is {x} a {j} and {n}?",
        f"Is {x} {n} and a {j}?",
        f"Is {x} both a {j} and {n}?",
        f"Is {x} a {j} from the {n} nation?",
    ]
    a, b = rng.sample(forms[:4], 2)
    if rng.random() < 0.6:
        return either(rng, a, b, 1)
    wrong = (
        b.replace(n, value(rng, p, "nationality", n))
        if rng.random() < 0.5
        else b.replace(j, value(rng, p, "profession", j))
    )
    return either(rng, a, wrong if rng.random() < 0.8 else f"Is {x} a {n}?", 0)


@rule
def irrelevant_word(rng: random.Random, p: Pools) -> Labelled:
    x, y = people(rng, p)
    word = p.one(rng, "irrelevant")[0]
    v = value(rng, p, "verb3").split("|")[0]
    pairs = (
        (f"Is {x} {value(rng, p, 'asym')} {y}?", f"Is {x} "), (f"Does {x} {v} {y}?", f"Does {x} "),
        (f"Can I feed my {value(rng, p, 'animal')} {value(rng, p, 'food')}?", "Can I "), (f"Is {x} a {value(rng, p, 'profession')}?", f"Is {x} "),
        (f"Is {value(rng, p, 'food')} {value(rng, p, 'good')}?", ""), (f"Did {x} move to {value(rng, p, 'city')}?", f"Did {x} "),
        (f"Is it {value(rng, p, 'fact')} to {value(rng, p, 'activity')} at night?", "Is it "),
    )  # fmt: skip
    text, head = rng.choice(pairs)
    if rng.random() < 0.7 and head:
        return either(rng, text, head + word + " " + text[len(head) :], 1)
    if rng.random() < 0.5 or not head:
        return either(
            rng, text, rng.choice((f"Is it true that {text[0].lower()}{text[1:]}", text.replace("?", ", please?"))), 1
        )
    bad = rng.choice(("never", "no longer", "not", "rarely", "partly", "only", "almost", "secretly"))
    return either(rng, text, head + bad + " " + text[len(head) :], 0)


@rule
def added_adjective(rng: random.Random, p: Pools) -> Labelled:
    x, j, adj = people(rng, p)[0], value(rng, p, "profession"), value(rng, p, "modadj")
    form = rng.choice(
        (
            "Is {x} a {j}?",
            "Has {x} become a {j}?",
            "Did {x} hire a {j}?",
            "Was {x} once a {j}?",
            "Is {x} married to a {j}?",
        )
    )
    return either(rng, form.format(x=x, j=j), form.format(x=x, j=f"{adj} {j}"), 0)


@rule
def other_adjective(rng: random.Random, p: Pools) -> Labelled:
    x, pool = people(rng, p)[0], rng.choice(("profession", "good", "nationality", "modadj"))
    a = value(rng, p, pool)
    art = "a " if pool == "profession" else ""
    if rng.random() < 0.6:
        y = people(rng, p)[1]
        if rng.random() < 0.5 and " " in x:
            first, last = x.split(" ", 1)
            y = (
                f"{first} {value(rng, p, 'last', last)}"
                if rng.random() < 0.5
                else f"{value(rng, p, 'name', first)} {last}"
            )
        return either(rng, f"Is {x} {art}{a}?", f"Is {y} {art}{a}?", int(x == y))
    return either(rng, f"Is {x} {art}{a}?", f"Is {x} {art}{value(rng, p, pool, a)}?", 0)


@rule
def tense(rng: random.Random, p: Pools) -> Labelled:
    x, j = people(rng, p)[0], value(rng, p, "profession")
    now = f"Is {x} a {j}?"
    other = rng.choice((
        f"Did {x} use to be a {j}?", f"Is {x} becoming a {j}?", f"Was {x} a {j}?", f"Will {x} be a {j}?", f"Has {x} ever been a {j}?",
        f"Is {x} still a {j}?", f"Is {x} no longer a {j}?", f"Does {x} want to be a {j}?", f"Is {x} going to be a {j}?",
        f"Was {x} a {j} before?", f"Is {x} about to become a {j}?",
    ))  # fmt: skip
    return either(rng, now, other, 0)


@rule
def before_after(rng: random.Random, p: Pools) -> Labelled:
    j, x = value(rng, p, "profession"), people(rng, p)[0]
    h, f, g, e = value(rng, p, "hour"), value(rng, p, "fact"), value(rng, p, "activity"), value(rng, p, "event")
    pet, act, act2, d = (
        value(rng, p, "animal"),
        value(rng, p, "petact"),
        value(rng, p, "petact2"),
        value(rng, p, "drug"),
    )
    form = rng.choice((
        f"What was {x}'s life {{w}} becoming a {j}?", f"Is it {f} to {g} {{w}} {h}?", f"Do you have to {act} your {pet} {{w}} {act2}?",
        f"Is it {f} to {g} {{w}} {e}?", f"Should I take {d} {{w}} meals?", f"What did {x} do {{w}} {e}?", f"Who ruled {value(rng, p, 'country')} {{w}} {value(rng, p, 'year')}?",
        f"Where did {x} live {{w}} moving to {value(rng, p, 'city')}?", "What happens to my card {w} it expires?", f"Can I {g} {{w}} {e}?",
        f"What jobs did {x} have {{w}} {value(rng, p, 'year')}?",
    ))  # fmt: skip
    if rng.random() < 0.25:
        t = form.format(w="before")
        return t, form.format(w="prior to") if "expires" not in form else t, 1
    a, b = rng.choice(
        (("before", "after"), ("before", "after"), ("before", "during"), ("until", "after"), ("since", "before"))
    )
    return either(rng, form.format(w=a), form.format(w=b), 0)


_OPPOSITES = [
    ("generous", "selfish"), ("humble", "arrogant"), ("happy", "sad"), ("brave", "cowardly"), ("patient", "impatient"),
    ("polite", "rude"), ("strong", "weak"), ("rich", "poor"), ("calm", "anxious"), ("honest", "dishonest"), ("healthy", "unhealthy"),
    ("confident", "insecure"), ("optimistic", "pessimistic"), ("careful", "careless"), ("organized", "disorganized"),
    ("responsible", "irresponsible"), ("friendly", "hostile"), ("smart", "stupid"), ("hardworking", "lazy"), ("active", "passive"),
    ("active", "inactive"), ("tolerant", "intolerant"), ("popular", "unpopular"), ("kind", "cruel"), ("mature", "immature"),
    ("open-minded", "narrow-minded"), ("flexible", "rigid"), ("independent", "dependent"), ("positive", "negative"),
    ("conservative", "liberal"), ("religious", "secular"), ("visible", "invisible"), ("progressive", "conservative"),
    ("thoughtful", "thoughtless"), ("sensitive", "insensitive"), ("credible", "unreliable"), ("attractive", "ugly"),
    ("specific", "vague"), ("extroverted", "introverted"), ("courageous", "fearful"), ("cautious", "reckless"), ("loud", "quiet"),
    ("fast", "slow"), ("warm", "cold"), ("relaxed", "stressed"), ("rational", "irrational"), ("moral", "immoral"),
]  # fmt: skip


_SAME_ADJ = [
    ("happy", "glad", "joyful"), ("brave", "courageous"), ("thankful", "grateful"), ("angry", "furious", "mad"), ("smart", "intelligent", "clever"),
    ("rich", "wealthy"), ("humble", "modest"), ("careful", "cautious"), ("calm", "relaxed"), ("outspoken", "vocal"), ("religious", "spiritual"),
    ("slim", "thin", "skinny"), ("loyal", "faithful"), ("afraid", "fearful", "scared"), ("sad", "unhappy"), ("lonely", "isolated"),
    ("tired", "weary", "exhausted"), ("kind", "nice"), ("honest", "truthful"), ("attractive", "good-looking"), ("famous", "well-known"),
    ("funny", "humorous"), ("creative", "imaginative"), ("diligent", "hardworking"), ("anxious", "worried"), ("healthy", "fit"),
    ("compassionate", "caring"), ("charming", "likeable"), ("polite", "courteous"), ("persistent", "tenacious"), ("eloquent", "articulate"),
    ("friendly", "amiable"), ("disciplined", "self-controlled"), ("stubborn", "obstinate"), ("curious", "inquisitive"), ("pious", "devout"),
    ("powerful", "mighty"), ("noisy", "loud"), ("poor", "impoverished"), ("strange", "weird", "odd"),
]  # fmt: skip

_BECOME = (
    "How can I become {q}?", "How do I become {q}?", "How can one be {q}?", "What should I do to be {q}?", "How can I be {q}?",
    "What does it take to become {q}?", "How can people become {q}?", "Is it good to be {q}?", "How do you get {q}?",
)  # fmt: skip


@rule
def more_less(rng: random.Random, p: Pools) -> Labelled:
    a, b = rng.choice(_OPPOSITES)
    if rng.random() < 0.5:
        a, b = b, a
    f = rng.choice(_BECOME)
    g = f if rng.random() < 0.7 else rng.choice(_BECOME[:7]) if f in _BECOME[:7] else f
    roll = rng.random()
    if roll < 0.4:
        return either(rng, f.format(q=f"more {a}"), g.format(q=f"less {b}"), 1)
    if roll < 0.6:
        return either(rng, f.format(q=f"more {a}"), g.format(q=f"less {a}"), 0)
    if roll < 0.8:
        return either(rng, f.format(q=f"more {a}"), g.format(q=f"more {b}"), 0)
    if roll < 0.9:
        return either(rng, f.format(q=f"less {a}"), g.format(q=f"less {b}"), 0)
    c = rng.choice(_OPPOSITES)
    return either(rng, f.format(q=f"more {a}"), g.format(q=f"less {c[0]}"), int(c == (b, a)))


@rule
def person_who_is(rng: random.Random, p: Pools) -> Labelled:
    a, b = rng.choice(_OPPOSITES)
    if rng.random() < 0.5:
        a, b = b, a
    f = rng.choice(_BECOME)
    roll = rng.random()
    if roll < 0.3:
        return either(rng, f.format(q=f"a {a} person"), f.format(q=f"a person who is not {b}"), 1)
    if roll < 0.45:
        return either(rng, f.format(q=f"a {a} person"), f.format(q=f"a person who is {a}"), 1)
    if roll < 0.8:
        return either(rng, f.format(q=f"a {a} person"), f.format(q=f"a person who is not {a}"), 0)
    return either(rng, f.format(q=f"a {a} person"), f.format(q=f"a {b} person"), 0)


@rule
def same_adjective(rng: random.Random, p: Pools) -> Labelled:
    one = rng.choice(_SAME_ADJ)
    a, b = rng.sample(one, 2)
    f, shape = rng.choice(_BECOME), rng.choice(("more {}", "less {}", "a {} person", "{}"))
    if rng.random() < 0.7:
        return f.format(q=shape.format(a)), f.format(q=shape.format(b)), 1
    other = rng.choice(rng.choice([s for s in _SAME_ADJ if s is not one]))
    if {a, other} in ({"happy", "thankful"}, {"kind", "friendly"}, {"nice", "friendly"}):
        return f.format(q=shape.format(a)), f.format(q=shape.format(b)), 1
    return f.format(q=shape.format(a)), f.format(q=shape.format(other)), 0


@rule
def negated(rng: random.Random, p: Pools) -> Labelled:
    f, g, c, j = value(rng, p, "fact"), value(rng, p, "activity"), value(rng, p, "country"), value(rng, p, "profession")
    x, pet, food = people(rng, p)[0], value(rng, p, "animal"), value(rng, p, "food")
    pos, neg = rng.choice((
        (f"Is it {f} to {g} in {c}?", f"Is it {f} not to {g} in {c}?"), (f"Is it {f} to {g} in {c}?", f"Is it not {f} to {g} in {c}?"),
        (f"What are things a {j} should worry about?", f"What are things a {j} should not worry about?"),
        (f"What should a {j} do?", f"What should a {j} never do?"), (f"What should I eat with {food}?", f"What should I not eat with {food}?"),
        (f"Why does {x} travel to {c}?", f"Why does {x} not travel to {c}?"), (f"Which {pet}s can eat {food}?", f"Which {pet}s can't eat {food}?"),
        (f"Who can enter {c}?", f"Who can't enter {c}?"), (f"When should I feed {food} to my {pet}?", f"When should I avoid feeding {food} to my {pet}?"),
        (f"Can I {g} with a permit?", f"Can I {g} without a permit?"), (f"Why did {x} become a {j}?", f"Why didn't {x} become a {j}?"),
        (f"Which countries have {food}?", f"Which countries have no {food}?"), (f"Does {x} ever {g}?", f"Does {x} never {g}?"),
        (f"What do {j}s like?", f"What do {j}s dislike?"), (f"Do {j}s need to {g}?", f"Do {j}s need not {g}?"),
    ))  # fmt: skip
    if rng.random() < 0.2:
        return either(
            rng, neg, neg.replace("should not", "shouldn't").replace("can't", "cannot").replace("didn't", "did not"), 1
        )
    return either(rng, pos, neg, 0)


@rule
def coreference(rng: random.Random, p: Pools) -> Labelled:
    m, f = value(rng, p, "first_m"), value(rng, p, "first_f")
    x, y = (m, f) if rng.random() < 0.5 else (f, m)
    start = rng.choice(("If {x} and {y} were married", "If {x} and {y} were alone", "If {x} and {y} moved to Rome", "When {x} and {y} were young",
                        "If {x} and {y} were colleagues", "If {x} and {y} had a baby")).format(x=x, y=y)  # fmt: skip
    if rng.random() < 0.5:
        tail, who = (
            rng.choice(
                ("would {} family be happy?", "would {} parents agree?", "who paid {} rent?", "would {} boss mind?")
            ),
            True,
        )
    else:
        tail, who = (
            rng.choice(
                (
                    "do you think {} would leave?",
                    "would {} reject the offer?",
                    "would {} be happy?",
                    "do you think {} would confess?",
                )
            ),
            False,
        )
    him = ("his", "her") if who else ("he", "she")
    pronoun, right, wrong = (him[0], m, f) if rng.random() < 0.5 else (him[1], f, m)
    mine = "'s" if who else ""
    roll = rng.random()
    left = f"{start}, {tail.format(pronoun)}"
    if roll < 0.35:
        return either(rng, left, f"{start}, {tail.format(right + mine)}", 1)
    if roll < 0.75:
        return either(rng, left, f"{start}, {tail.format(wrong + mine)}", 0)
    return either(rng, left, f"{start}, {tail.format(him[1 - him.index(pronoun)])}", 0)
