"""Conditions on the request itself: text, size, form, time, class."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.policy.facts import MOST_CHARS, Facts
from gateway.policy.patterns import encoded
from gateway.policy.resolve import resolved, tried
from tests.support.calls import call, chat
from tests.support.policies import caller, policy, problems

TARGETS = "targets: {a: {provider: sandbox}, b: {provider: sandbox}}\n"
NOON = datetime(2026, 11, 18, 12, 0, tzinfo=ZoneInfo("UTC")).timestamp()
"""A Wednesday."""


def taken(match, request, wall_s=NOON, head=""):
    """Whether a route with this condition takes the request, rather than the one behind it."""
    text = (
        f"{TARGETS}{head}routes: [{{name: r, match: {{{match}}}, target: a}}, {{name: rest, match: {{}}, target: b}}]\n"
    )
    return resolved(policy(text), caller(), request, wall_s, 0.0)[0].route == "r"


@pytest.mark.parametrize(
    ("match", "text", "holds"),
    [
        (r"regex: ['\d{4}-\d{4}']", "card 1234-5678", True),
        (r"regex: ['\d{4}-\d{4}']", "card 123-456", False),
        ("regex: [foo, bar]", "a bar", True),
        ("regex: [Foo]", "foo", False),
        ("regex: ['(?i)Foo']", "foo", True),
        ("keywords: [invoice]", "Your INVOICE, please", True),
        ("keywords: [invoice]", "invoices", False),
        ("keywords: [invoice]", "reinvoice", False),
        ("keywords: [straße]", "In der STRASSE", False),
        ("keywords: [Ärger]", "viel ärger.", True),
        ("keywords: [Ärger]", "Ärgernis", False),
        ("keywords: [C++]", "is C++ hard?", True),
        ("keywords: [credit card]", "credit\n  card", True),
        ("keywords: [密码]", "我的密码是什么", True),
        ("keywords: ['a.c']", "abc", False),
        ("keywords: [x], regex: [y]", "x y", True),
        ("keywords: [x], regex: [y]", "x z", False),
    ],
)
def test_text_is_searched(match, text, holds):
    assert taken(match, chat(text)) is holds


def test_the_last_user_text_is_searched_unless_all_is_asked_for():
    request = call(
        {
            "messages": [
                {"role": "system", "content": "secret alpha"},
                {"role": "user", "content": "beta"},
                {"role": "assistant", "content": "gamma"},
                {"role": "user", "content": [{"type": "text", "text": "delta"}]},
                {"role": "tool", "tool_call_id": "t", "content": "epsilon"},
            ]
        }
    )
    words = ("alpha", "beta", "gamma", "delta", "epsilon")
    assert [taken(f"keywords: [{word}]", request) for word in words] == [False, False, False, True, False]
    assert all(taken(f"keywords: [{word}], text: all", request) for word in words)


@pytest.mark.parametrize(
    ("endpoint", "doc"),
    [
        ("chat", {"messages": [{"role": "user", "content": "needle"}]}),
        ("completions", {"prompt": "needle"}),
        ("completions", {"prompt": ["hay", "needle"]}),
        ("responses", {"input": "needle"}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "needle"}]}]}),
        ("messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "needle"}]}),
        ("embeddings", {"input": ["hay", "needle"]}),
    ],
)
def test_every_endpoint_has_a_last_user_text(endpoint, doc):
    assert taken("keywords: [needle]", call(doc, endpoint))


def test_the_apis_own_words_are_no_text():
    request = chat("hello", tools=[{"type": "function", "function": {"name": "f", "description": "needle"}}])
    assert not taken("keywords: [user, function, gpt-4o], text: all", request)
    assert taken("keywords: [needle], text: all", request)


def test_long_text_is_searched_up_to_a_bound():
    assert not taken("keywords: [end]", chat("x" * MOST_CHARS + " end"))
    assert taken("keywords: [end]", chat("x " * 1000 + " end"))


def test_size_is_four_bytes_a_token():
    request = chat("x" * 4000)
    tokens = len(request.raw) // 4
    assert taken(f"min_input_tokens: {tokens}, max_input_tokens: {tokens}", request)
    assert not taken(f"min_input_tokens: {tokens + 1}", request)
    assert not taken(f"max_input_tokens: {tokens - 1}", request)


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "json_schema", "json_schema": {}}


@pytest.mark.parametrize(
    ("key", "members"),
    [
        ("images", {"messages": [IMAGE]}),
        ("images", {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": IMAGE["content"]}]}]}),
        ("tools", {"messages": [], "tools": [TOOL]}),
        ("structured", {"messages": [], "response_format": SCHEMA}),
        ("structured", {"input": "x", "text": {"format": SCHEMA}}),
    ],
)
def test_the_form_of_a_request_decides_either_way(key, members):
    request, plain = call(members), chat("hello")
    assert [taken(f"{key}: {wanted}", each) for each in (request, plain) for wanted in ("true", "false")] == [
        True,
        False,
        False,
        True,
    ]


def at(day, hour, minute=0, zone="UTC"):
    return datetime(2026, 11, 15 + day, hour, minute, tzinfo=ZoneInfo(zone)).timestamp()  # day 1 is a Monday


@pytest.mark.parametrize(
    ("match", "wall_s", "holds"),
    [
        ("hours: ['09:00-17:30']", at(1, 9), True),
        ("hours: ['09:00-17:30']", at(1, 17, 29), True),
        ("hours: ['09:00-17:30']", at(1, 17, 30), False),
        ("hours: ['22:00-06:00'], days: [sun]", at(7, 23), True),
        ("hours: ['22:00-06:00'], days: [sun]", at(1, 5, 59), True),
        ("hours: ['22:00-06:00'], days: [sun]", at(7, 5), False),
        ("days: [sat, sun]", at(6, 0), True),
        ("days: [sat, sun]", at(5, 23, 59), False),
        ("hours: ['09:00-10:00'], timezone: America/New_York", at(3, 9, 30, "America/New_York"), True),
        ("hours: ['09:00-10:00'], timezone: America/New_York", at(3, 9, 30), False),
        ("hours: ['18:00-24:00']", at(3, 23, 59), True),
    ],
)
def test_time_is_of_the_week_in_a_zone(match, wall_s, holds):
    assert taken(match, chat("x"), wall_s) is holds


def test_hours_are_in_the_zone_of_money_unless_they_name_one():
    head = "money: {timezone: Asia/Tokyo}\n"
    assert taken("hours: ['09:00-10:00']", chat("x"), at(3, 9, 30, "Asia/Tokyo"), head)


@pytest.mark.parametrize(("header", "kind"), [(None, "interactive"), ("batch", "batch"), ("Batch ", "batch")])
def test_latency_is_what_the_caller_says(header, kind):
    request = call({"messages": []}, headers={"x-farthing-latency": header} if header else None)
    assert taken(f"latency: {kind}", request)


def test_conditions_of_a_request_are_not_remembered_for_the_next():
    made = policy(f"{TARGETS}routes: [{{name: r, match: {{models: [m], tools: true}}, target: a}}]\n")
    with_tools = call({"model": "m", "messages": [], "tools": [TOOL]})
    for _ in range(2):
        assert resolved(made, caller(), with_tools, NOON, 0.0)[0].route == "r"
        assert made.find(caller(), "b").name == "model:b"
        with pytest.raises(Exception, match="does not exist"):
            resolved(made, caller(), call({"model": "m", "messages": []}), NOON, 0.0)


def test_a_route_without_conditions_asks_for_no_facts():
    made = policy(f"{TARGETS}routes: [{{name: r, match: {{models: [m]}}, target: a}}]\n")
    assert not isinstance(made.find(caller(), "m"), tuple)


def test_the_reasons_name_what_matched():
    made = policy(f"{TARGETS}routes: [{{name: r, match: {{tools: true, hours: ['00:00-24:00']}}, target: a}}]\n")
    plan, _ = resolved(made, caller(), chat("x", tools=[TOOL]), NOON, 0.0)
    assert plan.reasons == ("route=r", "match=tools,hours")


def test_what_was_tried_is_told_condition_by_condition():
    text = (
        TARGETS
        + "routes: [{name: r, match: {tools: true, keywords: [x]}, target: a}, {name: s, match: {}, target: b}]\n"
    )
    found = list(tried(policy(text), caller(), chat("x"), NOON))
    assert [(each.route, dict(each.conditions), each.taken) for each in found] == [
        ("r", {"keywords": True, "tools": False}, False),
        ("s", {}, True),
    ]


@pytest.mark.parametrize(
    "doc", [{"messages": 5}, {"messages": [5, None, {"role": "user", "content": 7}]}, {"input": {}}]
)
def test_bodies_that_are_not_what_the_api_says_have_no_text(doc):
    facts = Facts(call(doc), caller(), NOON, None)
    assert (facts.last_text, facts.images, facts.tools, facts.structured) == (b"", False, False, False)
    assert isinstance(facts.text, bytes)


def test_text_with_a_lone_surrogate_is_searched():
    assert encoded("\udce9 pay") == b"? pay"


@pytest.mark.parametrize(
    ("match", "key", "says"),
    [
        ("regex: ['(']", "routes[0].match.regex[0]", "not a regular expression"),
        (r"regex: ['(?<=a)b']", "routes[0].match.regex[0]", "look-around"),
        (r"regex: ['(a)\1']", "routes[0].match.regex[0]", "back-references"),
        ("regex: ['a{1,1000}{1,1000}']", "routes[0].match.regex[0]", "not a regular expression"),
        ("regex: []", "routes[0].match.regex", "empty"),
        ("keywords: ['']", "routes[0].match.keywords[0]", "keyword"),
        ("min_input_tokens: 9, max_input_tokens: 8", "routes[0].match.min_input_tokens", "no request"),
        ("hours: ['9-17']", "routes[0].match.hours[0]", "span of hours"),
        ("hours: ['09:00-09:00']", "routes[0].match.hours[0]", "empty"),
        ("days: [monday]", "routes[0].match.days[0]", "mon"),
        ("timezone: Europe/Berlin", "routes[0].match.timezone", "neither hours nor days"),
        ("hours: ['09:00-17:00'], timezone: Mars/Olympus", "routes[0].match.timezone", "time zone"),
        ("text: all", "routes[0].match.text", "nothing looks"),
        ("latency: fast", "routes[0].match.latency", "interactive"),
        ("tools: sometimes", "routes[0].match.tools", "true or false"),
    ],
)
def test_a_condition_that_cannot_be_is_an_error_with_its_line(match, key, says):
    found = problems(f"version: 1\n{TARGETS}routes:\n  - name: r\n    match: {{{match}}}\n    target: a\n")
    assert [(each.line, each.key) for each in found] == [(5, key)]
    assert says in str(found[0])
