from collections import Counter

from tests.support.policies import caller, policy

HEAD = "targets: {a: {provider: sandbox}, b: {provider: sandbox}, c: {provider: sandbox}}\nroutes:\n"


def route(body):
    return policy(HEAD + "  - {name: r, match: {}, " + body + "}\n").resolve(caller(), "m", [])


def split(first, second, extra="", sticky=", sticky: session"):
    return route(f"split: [{{target: a, weight: {first}}}, {{target: b, weight: {second}{sticky}}}]{extra}")


def names(plan):
    return [target.name for target in plan.targets]


def test_a_plan_lists_the_target_then_its_fallbacks():
    plan = route("target: a, fallbacks: [b, c]").plan(0.3)
    assert (plan.route, names(plan), plan.reasons) == ("r", ["a", "b", "c"], ("route=r",))


def test_plans_are_built_once():
    made = route("target: a")
    assert made.plan(0.1) is made.plan(0.9, "session")


def test_a_fallback_never_repeats_the_primary():
    made = split(50, 50, ", fallbacks: [a, b, c]")
    assert names(made.plan(0.2)) == ["a", "b", "c"]
    assert names(made.plan(0.7)) == ["b", "a", "c"]


def test_a_draw_falls_to_a_side_in_proportion_to_the_weights():
    made = split(95, 5)
    drawn = Counter(names(made.plan(step / 1000))[0] for step in range(1000))
    assert drawn == {"a": 950, "b": 50}
    assert made.plan(0.949).reasons == ("route=r", "split 95/5", "arm=a")


def test_a_side_of_weight_zero_is_never_drawn():
    assert {names(split(0, 1).plan(draw))[0] for draw in (0.0, 0.5, 0.999999)} == {"b"}
    assert {names(split(1, 0).plan(draw))[0] for draw in (0.0, 0.5, 0.999999, 1.0)} == {"a"}


def test_a_session_stays_on_its_side_whatever_is_drawn():
    made = split(50, 50)
    for session in map(str, range(50)):
        assert len({id(made.plan(draw / 10, session)) for draw in range(10)}) == 1
    assert made.plan(0.0, "x").reasons[-1] == "sticky=session"
    assert made.sticky


def test_sessions_are_spread_in_proportion_to_the_weights():
    made = split(80, 20)
    taken = Counter(names(made.plan(0.0, f"session-{index}"))[0] for index in range(5000))
    assert 850 < taken["b"] < 1150


def test_widening_a_canary_keeps_the_sessions_that_are_in_it():
    narrow, wide = split(95, 5), split(80, 20)
    inside = [s for s in map(str, range(2000)) if names(narrow.plan(0.0, s)) == ["b"]]
    assert inside
    assert all(names(wide.plan(0.0, session)) == ["b"] for session in inside)


def test_without_stickiness_a_session_changes_nothing():
    made = split(50, 50, sticky="")
    assert names(made.plan(0.1, "s")) == ["a"]
    assert names(made.plan(0.9, "s")) == ["b"]
    assert not made.sticky


def test_a_session_of_any_text_is_accepted():
    assert split(50, 50).plan(0.0, "\udce9 \x00 é").targets
