"""Ten thousand requests that must not share an answer, and five hundred attempts at making two look like one."""

import itertools
import random
import unicodedata

import msgspec

from gateway.cache.keys import Partition, exact_key, scope_key
from tests.support.calls import call

TENANTS = ("a", "b", "a,b", 'a"', "a\u0000")
USERS = (None, "", "u", "a")
MODELS = ("m", "m2")
RULES = ("1", "2")
MODEL_VERSIONS = ("e1/v1", "e1/v2", "e2/v1")
SYSTEMS = (None, "", "Be kind.", "Be kind", "be kind.", "Be kind.\n", 'Be kind.","role":"user', "Answer in French.")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
OTHER_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["x"]}}}
MEMBERS = (
    {},
    {"temperature": 0},
    {"temperature": 0.1},
    {"temperature": 1},
    {"temperature": True},
    {"temperature": "1"},
    {"top_p": 0.5},
    {"top_p": 0.1},
    {"seed": 1},
    {"seed": 2},
    {"seed": 2**64 + 1},
    {"seed": 2**64 + 2},
    {"max_tokens": 10},
    {"max_tokens": 11},
    {"max_completion_tokens": 10},
    {"presence_penalty": 1},
    {"frequency_penalty": 1},
    {"logit_bias": {"1": 5}},
    {"stop": "x"},
    {"stop": ["x", "y"]},
    {"stop": '["x","y"]'},
    {"tools": [TOOL]},
    {"tools": [OTHER_TOOL]},
    {"tools": [TOOL, OTHER_TOOL]},
    {"tools": [OTHER_TOOL, TOOL]},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "parallel_tool_calls": False},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
    {"reasoning_effort": "low"},
    {"reasoning_effort": "high"},
    {"some_new_field": 1},
    {"some_new_field": "1"},
    {"some_new_field": [1]},
    {"some_new_field": {"temperature": 0.1}},
)
HISTORIES = (
    (),
    (("user", "a"), ("assistant", "bc")),
    (("user", "ab"), ("assistant", "c")),
    (("assistant", "a"), ("user", "bc")),
    (("user", "a"), ("assistant", "bc"), ("user", "d"), ("assistant", "e")),
    (("user", "abc"),),
    (("user", "a"), ("user", "bc")),
    (("assistant", "abc"),),
    (("developer", "abc"),),
    (("system", "abc"),),
)


def ask(system, history, members, text="Is 17 prime?", role="system"):
    turns = [] if system is None else [{"role": role, "content": system}]
    turns += [{"role": who, "content": said} for who, said in history]
    return call({"messages": [*turns, {"role": "user", "content": text}], **members})


def worlds():
    """Partition, model versions, and a call: no two alike."""
    axes = (TENANTS, USERS, MODELS, RULES, ((), (("k", 1),), (("k", 2),)), MODEL_VERSIONS, SYSTEMS, HISTORIES, MEMBERS)
    dice = random.Random(4)
    seen = set()
    while len(seen) < 10_000:
        at = tuple(dice.randrange(len(axis)) for axis in axes)
        if at in seen:
            continue
        seen.add(at)
        tenant, user, model, rule, epochs, versions, system, history, members = (
            axis[i] for axis, i in zip(axes, at, strict=True)
        )
        yield Partition(tenant, model, rule, user, epochs), versions, ask(system, history, members)


def test_ten_thousand_probes_across_scopes_find_no_shared_scope():
    scopes = {scope_key(one, partition, versions).key for partition, versions, one in worlds()}
    assert len(scopes) == 10_000


def test_ten_thousand_probes_share_an_exact_key_only_where_the_model_versions_alone_differ():
    facts = {}
    for partition, _, one in worlds():
        canonical = msgspec.json.encode([msgspec.to_builtins(partition), one.doc], order="deterministic")
        facts.setdefault(exact_key(one, partition), set()).add(canonical)
    assert max(map(len, facts.values())) == 1


def test_each_single_step_away_leaves_the_scope():
    """The pairs that matter most: equal in all but one thing."""
    base = (Partition("a", "m", "1"), "e1/v1", ask("Be kind.", HISTORIES[1], {"seed": 1}))
    steps = [ask(s, HISTORIES[1], {"seed": 1}) for s in SYSTEMS if s != "Be kind."]
    steps += [ask("Be kind.", h, {"seed": 1}) for h in HISTORIES if h != HISTORIES[1]]
    steps += [
        ask("Be kind.", HISTORIES[1], {**m, "seed": 1} if "seed" not in m else m)
        for m in MEMBERS
        if m != {"seed": 1} and m
    ]
    steps += [ask("Be kind.", HISTORIES[1], {"seed": 1}, role=role) for role in ("developer", "user", "assistant")]
    own = scope_key(base[2], base[0], base[1]).key
    others = [scope_key(step, base[0], base[1]).key for step in steps]
    assert own not in others
    assert len(set(others)) == len(others)


def spellings():
    """Texts that careless canonicalisation takes for one another."""
    seeds = [
        "café",
        "Å",
        "ﬁne",
        "①",
        "ｆｕｌｌ",
        "ß",
        "İ",
        "ſ",
        "naïve",
        "한",
        "e\u0301",
        "Ω",
        "µ",
        "K",
        "½",
        "²",
        "ǆ",
        "ﷺ",
        "ẛ̣",
        "ΐ",
    ]
    for seed in seeds:
        forms = {seed, *(unicodedata.normalize(f, seed) for f in ("NFC", "NFD", "NFKC", "NFKD"))}
        yield from forms | {seed.casefold(), seed.upper(), seed.lower()}
    yield from (
        "paypal",
        "p\u0430ypal",
        "paypa1",
        "payp\u200bal",
        "paypal\ufeff",
        "paypal ",
        " paypal",
        "paypal\n",
        "pay\tpal",
    )
    yield from (
        "pay pal",
        "pay\u00a0pal",
        "pay\u2003pal",
        "pay  pal",
        "\u202epaypal",
        "paypal\x00",
        "\x00paypal",
        "pay\\u0070al",
    )
    yield from (
        "1",
        "1.0",
        "01",
        "+1",
        "1e0",
        "true",
        "True",
        "null",
        "None",
        "[]",
        "{}",
        '"1"',
        "'1'",
        "\\n",
        "\n",
        "\\\\n",
        "\r\n",
    )
    yield from (
        '"},{"role":"system","content":"',
        '\\"},{',
        '","x":"',
        "a\x1fb",
        "a\x1eb",
        "a|b",
        "a:b",
        "a,b",
        "a;b",
        "a\x00b",
    )


def test_no_two_spellings_of_a_text_are_one():
    texts = sorted(set(spellings()))
    where = Partition("t", "m", "r")
    keys = {exact_key(call({"messages": [{"role": "user", "content": text}]}), where) for text in texts}
    assert len(keys) == len(texts) >= 100
    scopes = {
        scope_key(
            call({"messages": [{"role": "system", "content": t}, {"role": "user", "content": "x"}]}), where, "v"
        ).key
        for t in texts
    }
    assert len(scopes) == len(texts)


SHAPES = (
    None, "", " ", "ab", "abc", "a", ["ab"], ["a", "b"], ["a", ["b"]], [["a"], "b"], [["a", "b"]], [], [[]], {}, [{}],
    {"a": "b"}, {"b": "a"}, {"a": {"b": "c"}}, {"a": {"b": {}}}, {"a.b": "c"}, {"a": ["b", "c"]}, {"a": "b", "c": None},
    {"a": "b", "c": ""}, {"a,b": 1}, {"a": 1, "b": 1}, {'a":1,"b': 1}, {"": "a"}, {"a": ""}, 0, 1, 2, -1, 0.5, 1.0, -0.0, 1e20,
    10**20, 10**20 + 1, True, False, "0", "1", "1.0", "true", "false", "null", "0.5", 0.1, 0.1 + 1e-17 + 2e-17, 0.30000000000000004, 0.3,
    [1], ["1"], [1.0], [True], [None], [0], [False], [""], [1, 2], [12], ["1,2"], ["1", "2"], [[1], 2], [1, [2]],
)  # fmt: skip


def test_no_two_shapes_of_a_value_are_one():
    """At the top level null and an absent member are one; everywhere else each shape stands for itself."""
    where = Partition("t", "m", "r")
    seen = {}
    for i, shape in enumerate(SHAPES):
        nested = call({"messages": [{"role": "user", "content": "x", "meta": shape}]})
        tool = call(
            {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": shape}]}
        )
        top = call({"messages": [{"role": "user", "content": "x"}], "thing": shape})
        for at, one in (("nested", nested), ("tool", tool), ("top", top)):
            for kind, made in (("exact", exact_key(one, where)), ("scope", scope_key(one, where, "v").key)):
                assert made not in seen, (SHAPES[i], at, kind, seen[made])
                seen[made] = (shape, at)
    assert len(seen) == 6 * len(SHAPES)


def test_a_field_moved_to_another_place_is_another_request():
    where = Partition("t", "m", "r")
    docs = [
        {"messages": [{"role": "user", "content": "x", "name": "n"}]},
        {"messages": [{"role": "user", "content": "x"}], "name": "n"},
        {"messages": [{"role": "system", "content": "x", "name": "n"}, {"role": "user", "content": "x"}]},
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "x", "name": "n"}]},
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}], "name": "n"},
        {"messages": [{"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}], "cache_control": {}}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]},
        {"messages": [{"role": "user", "content": "xy"}]},
        {"messages": [{"role": "user", "content": "y"}, {"role": "user", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}], "system": "y"},
        {"messages": [{"role": "user", "content": "x"}], "instructions": "y"},
    ]
    keys = {exact_key(call(doc, endpoint), where) for doc, endpoint in itertools.product(docs, ("chat", "messages"))}
    assert len(keys) == 2 * len(docs)


def test_the_order_of_members_never_matters_at_any_depth():
    where = Partition("t", "m", "r")
    dice = random.Random(1)

    def shuffled(value):
        if isinstance(value, dict):
            items = list(value.items())
            dice.shuffle(items)
            return {k: shuffled(v) for k, v in items}
        return [shuffled(v) for v in value] if isinstance(value, list) else value

    doc = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x", "a": {"b": 1, "c": [{"d": 1, "e": 2}]}}]}
        ],
        "tools": [{**OTHER_TOOL, "strict": True}],
        "seed": 3,
        "top_p": 0.5,
    }
    assert len({exact_key(call(shuffled(doc)), where) for _ in range(100)}) == 1
    assert len({scope_key(call(shuffled(doc)), where, "v").key for _ in range(100)}) == 1
