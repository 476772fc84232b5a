from pathlib import Path

import jsonschema
import pytest

from gateway.policy import source
from gateway.policy.schema import policy_schema, schema_text

ROOT = Path(__file__).parents[3]
FILES = [ROOT / "routing_policies/default.yaml", *sorted((ROOT / "routing_policies/examples").glob("*.yaml"))]


def validator():
    jsonschema.Draft202012Validator.check_schema(policy_schema())
    return jsonschema.Draft202012Validator(policy_schema())


def test_the_schema_file_is_up_to_date():
    path = ROOT / "routing_policies/policy.schema.json"
    assert path.read_text() == schema_text(), "write it anew with `farthing policy schema`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_policies_agree_with_the_schema(path):
    parsed, problems = source.parse(path.read_bytes(), path.name)
    assert problems == []
    validator().validate(parsed.doc)


@pytest.mark.parametrize(
    "doc",
    [
        {},
        {"version": 2},
        {"version": 1, "routs": []},
        {"version": 1, "targets": {"a": {"provider": "opnai"}}},
        {"version": 1, "targets": {"a": {"provider": "openai", "pool": "p"}}},
        {"version": 1, "targets": {"a": {"provider": "openai", "api_key": "sk-live"}}},
        {"version": 1, "targets": {"a": {"provider": "openai", "model": None}}},
        {"version": 1, "targets": {"a": {"provider": "openai", "deadlines": {"total": 5}}}},
        {"version": 1, "routes": [{"name": "r", "match": {}}]},
        {"version": 1, "budgets": [{"scope": "tenants", "limit": "$1/day"}]},
        {"version": 1, "budgets": [{"scope": "all", "limit": "$1"}]},
        {"version": 1, "limits": [{"scope": "all"}]},
        {"version": 1, "limits": [{"scope": "all", "requests": 5}]},
        {"version": 1, "money": {"unknown_price": "deny"}},
        {"version": 1, "routes": [{"name": "r", "match": {"models": "x"}, "target": "a"}]},
    ],
)
def test_the_schema_refuses_what_the_gateway_refuses(doc):
    assert not validator().is_valid(doc)


def test_every_key_has_a_description():
    schema = policy_schema()
    for name, spec in [("PolicyFile", schema), *schema["$defs"].items()]:
        for key, value in spec["properties"].items():
            assert value.get("description"), f"{name}.{key}"
