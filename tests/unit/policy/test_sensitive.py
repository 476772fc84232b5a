"""A sensitive request keeps to self-hosted targets, whoever says that it is sensitive."""

import msgspec
import pytest

from gateway.core.errors import Forbidden
from gateway.policy import facts
from gateway.policy.choosing import alternatives, confined
from gateway.policy.resolve import resolved
from tests.support.calls import call, chat
from tests.support.policies import caller, policy, problems

TARGETS = """
targets:
  own: {provider: vllm, model: llama}
  own2: {provider: sandbox, self_hosted: true}
  api: {provider: openai, model: gpt-4o, api_key: env:K}
  other: {provider: anthropic, model: claude, api_key: env:K}
"""
HEADER = {"x-farthing-sensitive": "true"}


def plan_of(route, request=None, head="", identity=None, draw=0.0):
    made = policy(f"{TARGETS}{head}\nroutes: [{{name: r, match: {{}}, {route}}}]\n")
    return resolved(made, identity or caller(), request or chat("hello", model="m"), 0.0, draw)[0]


def names(plan):
    return [target.name for target in plan.targets]


def sensitive(text="hello"):
    return call({"messages": [{"role": "user", "content": text}]}, headers=HEADER)


def test_a_plan_is_open_unless_something_says_otherwise():
    assert plan_of("target: api, fallbacks: [own]").sensitive is None
    no = call({"messages": []}, headers={"x-farthing-sensitive": "false"})
    assert names(plan_of("target: api", no)) == ["api"]


@pytest.mark.parametrize("value", ["true", "1", "yes", "TRUE", "ture"])
def test_a_header_that_does_not_say_no_says_yes(value):
    plan = plan_of("target: api, fallbacks: [own]", call({"messages": []}, headers={"x-farthing-sensitive": value}))
    assert (names(plan), plan.sensitive) == (["own"], "header")


def test_the_primary_and_every_fallback_across_the_boundary_are_removed():
    plan = plan_of("target: api, fallbacks: [own, other, own2]", sensitive())
    assert names(plan) == ["own", "own2"]
    assert plan.reasons == ("route=r", "sensitive=header")


@pytest.mark.parametrize("model", ["m", "api", "gpt-4o"])
def test_without_a_self_hosted_target_the_request_is_refused(model):
    made = policy(f"{TARGETS}routes: [{{name: r, match: {{models: [m]}}, target: api, fallbacks: [other]}}]\n")
    request = call({"model": model, "messages": []}, headers=HEADER)
    with pytest.raises(Forbidden) as refused:
        resolved(made, caller(), request, 0.0, 0.0)
    assert (refused.value.status, refused.value.code) == (403, "no_self_hosted_target")


def test_another_arm_serves_where_the_drawn_one_may_not():
    arms = "split: [{target: api, weight: 90}, {target: own, weight: 10}]"
    for draw in (0.0, 0.95):
        assert names(plan_of(arms, sensitive(), draw=draw)) == ["own"]


@pytest.mark.parametrize(
    ("rules", "identity", "text", "why"),
    [
        ("{tenants: [bank]}", caller("bank"), "hello", "tenant"),
        ("{tags: [health]}", caller("shop", "health"), "hello", "tag"),
        (r"{regex: [x, '\b\d{3}-\d{2}-\d{4}\b']}", caller(), "my number is 123-45-6789", "regex[1]"),
        ("{keywords: [diagnosis]}", caller(), "The Diagnosis is", "keywords"),
    ],
)
def test_rules_make_requests_sensitive_on_every_route(rules, identity, text, why):
    head = f"sensitive: {rules}\n"
    plan = plan_of("target: api, fallbacks: [own]", chat(text), head, identity)
    assert (names(plan), plan.sensitive) == (["own"], why)
    open_ = plan_of("target: api, fallbacks: [own]", chat("nothing"), head)
    assert names(open_) == ["api", "own"]


@pytest.mark.parametrize(
    "doc",
    [
        {"messages": [{"role": "system", "content": "diagnosis"}, {"role": "user", "content": "x"}]},
        {"messages": [{"role": "user", "content": "diagnosis"}, *[{"role": "user", "content": "x"}] * 300]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 200 + [{"text": "diagnosis"}]}]},
        {"messages": [{"role": "tool", "tool_call_id": "1", "content": "diagnosis"}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "diagnosis"}}]}]},
        {"messages": [], "tools": [{"function": {"name": "f", "description": "diagnosis"}}]},
        {"instructions": "diagnosis", "input": "x"},
        {
            "messages": [
                {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "diagnosis"}}]}
            ]
        },
    ],
)
def test_all_text_is_searched_wherever_it_stands(doc):
    plan = plan_of("target: api, fallbacks: [own]", call(doc), "sensitive: {keywords: [diagnosis]}\n")
    assert names(plan) == ["own"]


def test_what_is_too_long_to_search_is_sensitive():
    head = "sensitive: {keywords: [diagnosis]}\n"
    long = chat("x" * (facts.MOST_SENSITIVE_CHARS + 1))
    assert plan_of("target: api, fallbacks: [own]", long, head).sensitive == "too_long"
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * facts.MOST_SENSITIVE_CHARS}}
    assert plan_of("target: api", call({"messages": [{"role": "user", "content": [image]}]}), head).sensitive is None


def test_bodies_that_are_not_json_are_searched_as_they_come():
    made = policy(f"{TARGETS}sensitive: {{keywords: [diagnosis]}}\nroutes: [{{name: r, match: {{}}, target: api}}]\n")
    raw = msgspec.structs.replace(chat("x"), doc=None, model=None, raw=b"--b\r\n\r\na diagnosis\r\n--b--")
    with pytest.raises(Forbidden):
        resolved(made, caller(), raw, 0.0, 0.0)


def test_a_sensitive_route_says_so_in_its_plan():
    plan = plan_of("target: own, fallbacks: [own2], sensitive: true")
    assert (names(plan), plan.sensitive, plan.reasons) == (["own", "own2"], "route", ("route=r", "sensitive=route"))


@pytest.mark.parametrize(
    ("route", "key"),
    [
        ("target: api", "routes[0].target"),
        ("target: own, fallbacks: [own2, api]", "routes[0].fallbacks[1]"),
        ("split: [{target: own, weight: 1}, {target: api, weight: 1}]", "routes[0].split[1].target"),
        ("classify: {weak: own, strong: api}", "routes[0].classify.strong"),
    ],
)
def test_a_sensitive_route_across_the_boundary_is_an_error(route, key):
    found = problems(f"version: 1{TARGETS}routes: [{{name: r, match: {{}}, sensitive: true, {route}}}]\n")
    assert [each.key for each in found] == [key]
    assert "not self-hosted" in found[0].message


def test_sensitive_requests_can_have_a_route_of_their_own():
    text = (
        TARGETS
        + "routes: [{name: inside, match: {sensitive: true}, target: own}, {name: rest, match: {}, target: api}]\n"
    )
    made = policy(text)
    assert resolved(made, caller(), sensitive(), 0.0, 0.0)[0].route == "inside"
    assert resolved(made, caller(), chat("x"), 0.0, 0.0)[0].route == "rest"


def test_a_choice_is_left_only_among_self_hosted_targets():
    made = policy(
        f"{TARGETS}routes: [{{name: r, match: {{}}, classify: {{weak: own, strong: api}}, fallbacks: [own2]}}]\n"
    )
    plan, rule = resolved(made, caller(), call({"model": "auto", "messages": []}, headers=HEADER), 0.0, 0.0)
    weak, strong = alternatives(rule, plan)
    assert names(weak) == ["own", "own2"]
    assert strong is None
    assert weak.sensitive == "header"


def test_nothing_confined_ever_holds_an_outside_target():
    plan = plan_of("target: api, fallbacks: [own, other]")
    assert all(target.self_hosted for target in confined(plan, "x").targets)
    assert confined(plan_of("target: api"), "x") is None
