"""The JSON Schema (draft 2020-12) of a policy file, for editors; made from the models, so it cannot drift."""

from typing import Any

import msgspec

from gateway.policy.models import PolicyFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def policy_schema() -> dict[str, Any]:
    """The schema of one file. It knows keys and values; whether names exist only `lint` can tell."""
    schema = PolicyFile.model_json_schema(by_alias=False)
    definitions = schema["$defs"]
    definitions["RouteSpec"]["oneOf"] = [{"required": [key]} for key in ("target", "split", "classify")]
    definitions["TargetSpec"]["oneOf"] = [{"required": ["provider"]}, {"required": ["pool"]}]
    definitions["LimitSpec"]["anyOf"] = [{"required": [key]} for key in ("requests", "tokens", "concurrent")]
    cleaned: dict[str, Any] = _clean(schema)
    for section in ("targets", "pools", "keys", "defaults", "routes", "budgets", "limits", "money", "sensitive"):
        _or_empty(cleaned["properties"], section)
    return {"$schema": DIALECT, **cleaned, "title": "Farthing policy"}


def schema_text() -> str:
    """`policy_schema` as the file `routing_policies/policy.schema.json` holds it."""
    return msgspec.json.format(msgspec.json.encode(policy_schema()), indent=2).decode() + "\n"


def _clean(node: Any) -> Any:
    """Without the titles of single keys and without `null`: a key is left out, never set to nothing."""
    if isinstance(node, list):
        return [_clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    cleaned = {}
    for key, value in node.items():
        generated = (
            (key == "title" and isinstance(value, str))
            or (key == "default" and not isinstance(value, str | int))
            or (key == "examples" and not value)
        )
        if not generated:
            cleaned[key] = _clean(value)
    options = cleaned.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        options.remove({"type": "null"})
        if len(options) == 1:
            del cleaned["anyOf"]
            cleaned = {**options[0], **cleaned}
    return cleaned


def _or_empty(properties: dict[str, Any], section: str) -> None:
    """A section may stand empty, as it does when all of its entries are commented out."""
    inner = properties[section]
    description = inner.pop("description")
    properties[section] = {"description": description, "anyOf": [inner, {"type": "null"}]}
