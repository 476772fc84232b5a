import timeit

import pytest

from gateway.policy.table import MEMO_ENTRIES
from tests.support.policies import caller, policy

TARGETS = "targets: {a: {provider: sandbox, model: model-a}, b: {provider: sandbox}}\n"


def routes(*bodies, head=""):
    lines = [f"  - {{name: r{index}, {body}}}\n" for index, body in enumerate(bodies)]
    return policy(TARGETS + head + "routes:\n" + "".join(lines))


def name(made, model, identity=None, headers=()):
    route = made.resolve(identity or caller(), model, list(headers))
    return route.name if route else None


def test_the_first_route_that_matches_wins():
    made = routes("match: {models: [m]}, target: a", "match: {models: ['m*']}, target: b", "match: {}, target: a")
    assert [name(made, model) for model in ("m", "mm", "x")] == ["r0", "r1", "r2"]


def test_an_earlier_pattern_wins_over_a_later_exact_name():
    made = routes("match: {models: ['gpt-*']}, target: a", "match: {models: [gpt-4o]}, target: b")
    assert name(made, "gpt-4o") == "r0"


def test_conditions_join_by_and_and_lists_by_or():
    made = routes("match: {models: [m, n], tenants: [shop, bank], tags: [x, y]}, target: a")
    assert name(made, "n", caller("bank", "y", "z")) == "r0"
    assert name(made, "n", caller("bank", "z")) is None
    assert name(made, "n", caller("other", "y")) is None
    assert name(made, "o", caller("bank", "y")) is None


def test_headers_decide_among_routes_in_question_also_when_remembered():
    made = routes(
        "match: {models: [m], headers: {X-Canary: 'on*', x-b: '1'}}, target: b",
        "match: {models: [m], headers: {x-canary: '*'}}, target: b",
        "match: {models: [m]}, target: a",
    )
    canary, b = (b"x-canary", b"on-eu"), (b"x-b", b"1")
    for _ in range(2):
        assert name(made, "m", headers=[canary, b]) == "r0"
        assert name(made, "m", headers=[(b"x-canary", b"off"), canary, b]) == "r0"
        assert name(made, "m", headers=[canary]) == "r1"
        assert name(made, "m", headers=[]) == "r2"


def test_header_values_need_not_be_utf8():
    made = routes("match: {headers: {x: 'caf*'}}, target: a")
    assert name(made, "m", headers=[(b"x", b"caf\xe9\xff")]) == "r0"


def test_an_unmet_header_condition_falls_through_to_the_target_of_that_name():
    made = routes("match: {headers: {x: '1'}}, target: b")
    assert name(made, "a") == "model:a"
    assert name(made, "nothing") is None


def test_a_model_that_no_route_takes_may_name_a_target_or_its_model():
    made = routes("match: {models: [m]}, target: b")
    assert name(made, "a") == "model:a"
    assert name(made, "model-a") == "model:a"
    assert made.resolve(caller(), "model-a", []).plan(0.5).targets == (made.targets["a"],)
    assert name(made, "unknown") is None


def test_a_targets_own_name_wins_over_anothers_model():
    made = policy("targets: {x: {provider: sandbox, model: y}, y: {provider: sandbox, model: z}}")
    assert name(made, "y") == "model:y"


def test_direct_targets_can_be_closed():
    made = routes("match: {models: [m]}, target: b", head="defaults: {direct_targets: false}\n")
    assert name(made, "a") is None
    assert name(made, "m") == "r0"


def test_what_is_remembered_for_one_caller_is_not_served_to_another():
    made = routes("match: {tenants: [shop]}, target: a", "match: {tags: [beta]}, target: b")
    for _ in range(2):
        assert name(made, "m", caller("shop")) == "r0"
        assert name(made, "m", caller("bank")) is None
        assert name(made, "m", caller("bank", "beta")) == "r1"


def test_a_stream_of_invented_models_does_not_grow_the_memory():
    made = routes("match: {}, target: a")
    for index in range(3 * MEMO_ENTRIES):
        assert name(made, f"invented-{index}") == "r0"
    assert len(made._memo) <= MEMO_ENTRIES
    name(made, "x" * 1_000_000)
    assert all(len(key[2]) < 1000 for key in made._memo)


def test_a_request_without_a_model_takes_the_first_route_for_every_model():
    made = routes(
        "match: {models: [m]}, target: a",
        "match: {models: ['gpt-*']}, target: a",
        "match: {tenants: [shop]}, target: a",
        "match: {models: [m, '*']}, target: b",
        "match: {}, target: a",
    )
    assert made.default_route_for_path(caller(), []).name == "r3"
    assert made.default_route_for_path(caller("shop"), []).name == "r2"


def test_a_request_without_a_model_takes_the_sole_target_else_nothing():
    assert policy("targets: {a: {provider: sandbox, model: x}}").default_route_for_path(caller(), []).name == "model:a"
    assert policy(TARGETS).default_route_for_path(caller(), []) is None
    closed = policy("defaults: {direct_targets: false}\ntargets: {a: {provider: sandbox}}")
    assert closed.default_route_for_path(caller(), []) is None


def test_model_names_are_those_the_caller_can_use_without_patterns():
    made = routes(
        "match: {models: [support, 'support-*'], tenants: [shop]}, target: a",
        "match: {models: [auto]}, target: b",
    )
    assert made.model_names(caller("shop")) == ["support", "auto", "a", "b"]
    assert made.model_names(caller("bank")) == ["auto", "a", "b"]
    made.model_names(caller("bank")).append("not mine")
    assert made.model_names(caller("bank")) == ["auto", "a", "b"]


def test_a_target_that_a_catch_all_hides_is_not_offered_by_name():
    made = routes("match: {}, split: [{target: a, weight: 1}, {target: b, weight: 1}]")
    assert made.model_names(caller()) == ["a", "b"]
    assert routes("match: {}, target: b").model_names(caller()) == ["b"]


def test_an_empty_policy_knows_no_model():
    made = policy("")
    assert name(made, "gpt-4o") is None
    assert made.model_names(caller()) == []
    assert made.default_route_for_path(caller(), []) is None


@pytest.mark.parametrize("count", [1, 2000])
def test_a_remembered_answer_is_found_at_once_however_many_routes_there_are(count):
    made = routes(*(f"match: {{models: [m{index}]}}, target: a" for index in range(count)))
    identity, headers, model = caller("shop", "x"), [(b"host", b"h")], f"m{count - 1}"
    made.resolve(identity, model, headers)
    seconds = min(timeit.repeat(lambda: made.resolve(identity, model, headers), number=2000, repeat=20)) / 2000
    assert seconds < 5e-6, "0.2 microseconds on an idle machine"
