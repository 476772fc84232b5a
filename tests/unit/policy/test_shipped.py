"""The policies that are shipped are valid, and the reference names every key."""

import io
from pathlib import Path

import pytest

from gateway.policy.commands import lint_command
from gateway.policy.load import load_policy, policy_files, read_document
from gateway.policy.schema import policy_schema
from tests.support.policies import secret

ROOT = Path(__file__).parents[3]
POLICIES = ROOT / "routing_policies"
EXAMPLES = sorted((POLICIES / "examples").glob("*.yaml"))


def test_the_default_names_no_targets_so_that_discovery_takes_over():
    assert policy_files(POLICIES) == [POLICIES / "default.yaml"]
    policy = load_policy(POLICIES, secret)
    assert (policy.targets, policy.routes, policy.keys) == ({}, (), {})


def resolve(reference):
    return f"https://hooks.example.com/{reference}" if "WEBHOOK" in reference else secret(reference)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_without_a_doubt(path):
    assert load_policy(path, resolve).targets
    out = io.StringIO()
    assert lint_command(path, {}, lambda target: True, strict=True, out=out) == 0, out.getvalue()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_tells_editors_its_schema(path):
    assert path.read_text().startswith("# yaml-language-server: $schema=../policy.schema.json\n")


def test_the_commented_policy_in_the_default_is_valid(tmp_path):
    text = (POLICIES / "default.yaml").read_text()
    head, _, body = text.partition("version: 1\n")
    assert head
    uncommented = "\n".join(line.removeprefix("# ").removeprefix("#") for line in body.splitlines())
    (tmp_path / "p.yaml").write_text("version: 1\n" + uncommented)
    assert len(read_document(tmp_path).targets) == 2


def test_the_reference_explains_every_key():
    text = (ROOT / "docs/policy-reference.md").read_text()
    schema = policy_schema()
    for spec in (schema, *schema["$defs"].values()):
        for key in spec["properties"]:
            assert f"`{key}`" in text, key
