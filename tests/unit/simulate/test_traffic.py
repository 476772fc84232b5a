"""Lines of a traffic file."""

import msgspec
import pytest

from gateway.core.errors import BadRequest
from gateway.core.exchange import Usage
from gateway.simulate.traffic import Facts, read_line


def line(**fields):
    return read_line(msgspec.json.encode(fields), "t.jsonl:3")


def test_a_body_is_parsed_as_the_gateway_would():
    recorded = line(request={"model": "auto", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9})
    assert recorded.call.model == recorded.model == "auto"
    assert recorded.call.max_tokens == 9
    assert recorded.identity.tenant == "default"


def test_facts_stand_in_for_a_body():
    recorded = line(model="auto", facts={"input_tokens": 12, "tools": True}, tenant="shop", key="web", tags=["prod"])
    assert recorded.call is None
    assert recorded.facts == Facts(input_tokens=12, tools=True)
    assert (recorded.identity.tenant, recorded.identity.key, recorded.identity.tags) == ("shop", "web", {"prod"})


@pytest.mark.parametrize(
    ("usage", "path", "read"),
    [
        ({"uncached_input": 5, "output": 2}, "/v1/chat/completions", Usage(5, output=2)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
         "/v1/chat/completions", Usage(5, 4, output=2)),
        ({"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 2}, "/v1/messages", Usage(5, 4, output=2)),
        ({"input_tokens": 9, "output_tokens": 2}, "/v1/responses", Usage(9, output=2)),
    ],
)  # fmt: skip
def test_usage_is_taken_in_the_gateways_words_or_the_providers(usage, path, read):
    assert line(model="m", usage=usage, path=path).usage == read


def test_times_are_seconds_or_iso_and_money_is_exact():
    assert line(model="m", time="2026-11-01T00:00:00Z").started_s == line(model="m", time=1793491200).started_s
    assert line(model="m", time="2026-11-01T00:00:00").started_s == 1793491200
    assert line(model="m", cost_usd="0.000123").cost_micro == 123
    assert line(model="m").cost_micro is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "neither request nor model"),
        ({"model": "m", "colour": "red"}, "colour"),
        ({"model": "m", "facts": {"text": "x"}}, "text"),
        ({"model": "m", "path": "/v1/nothing"}, "no endpoint"),
        ({"model": "m", "time": "yesterday"}, "is no time"),
        ({"model": "m", "usage": {"tokens": 3}}, "unknown key 'tokens'"),
        ({"model": "m", "usage": {"output": -3}}, "not a whole number"),
        ({"model": "m", "cost_usd": "cheap"}, "t.jsonl:3"),
        ({"request": {"messages": []}}, "model"),
        ({"request": [1]}, "t.jsonl:3"),
        ({"model": "m", "tenant": 4}, "tenant"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_its_key(fields, said):
    with pytest.raises(BadRequest) as refused:
        line(**fields)
    assert refused.value.message.startswith("t.jsonl:3: ")
    assert said in refused.value.message


def test_a_line_that_is_no_json_is_refused():
    with pytest.raises(BadRequest, match=r"t\.jsonl:3: "):
        read_line(b"{", "t.jsonl:3")
