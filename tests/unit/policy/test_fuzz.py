"""Whatever the bytes, loading gives a policy or a PolicyError that names the file."""

import contextlib
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.errors import ClientError, PolicyError
from gateway.policy.compile import compile_policy
from gateway.policy.lint import lint
from gateway.policy.load import document_from_text, policy_from_dict
from gateway.policy.resolve import resolved
from tests.support.calls import chat
from tests.support.policies import caller, secret

EXAMPLES = sorted((Path(__file__).parents[3] / "routing_policies/examples").glob("*.yaml"))
TEXTS = [path.read_text() for path in EXAMPLES]
KEYS = ["version", "targets", "pools", "keys", "defaults", "routes", "name", "match", "target", "split", "weight"]
KEYS += ["provider", "pool", "base_url", "api_key", "headers", "price", "models", "fallbacks", "deadlines", "retries"]
KEYS += ["baseline", "budgets", "limits", "money", "scope", "limit", "soft", "requests", "unknown_price", "timezone"]
KEYS += ["regex", "keywords", "text", "hours", "days", "tools", "sensitive", "classify", "weak", "strong", "tier"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([*KEYS, "1s", "openai", "all", "tenant:x", "$1/day", "5/s", "UTC", "(a|b)*", "22:00-06:00", "mon"]),
)
DOCS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)
PIECES = [
    "",
    " ",
    "\n",
    "  - ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "!t ",
    "'",
    '"',
    "|\n",
    "? ",
    "<<: ",
    "null",
    "-1",
]
PIECES += ["\t", "\x00", "\ud800", "é", "---\n", "9" * 30, "%", "# ", "1e400", ", ", "version: 1\n", "$x", "@", "`"]


def attempt(raw):
    try:
        document = document_from_text(raw, name="p.yaml")
        policy = compile_policy(document, secret)
        lint(document, lambda target: False)
    except PolicyError as exc:
        assert "p.yaml" in exc.message
        return
    for model in ("gpt-4o", "auto", "x"):
        with contextlib.suppress(ClientError):
            resolved(policy, caller(), chat("hello", model=model), 0.0, 0.5)
        policy.limits(caller(), model)
    policy.default_route_for_path(caller(), [])
    policy.model_names(caller())


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfea\x00")
@settings(deadline=None, max_examples=200)
def test_any_bytes(raw):
    attempt(raw)


@given(
    st.sampled_from(TEXTS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from([*PIECES, *KEYS])), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=300)
def test_a_sound_file_with_pieces_cut_out_and_put_in(text, edits):
    for place, cut, piece in edits:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + cut :]
    attempt(text.encode("utf-8", "surrogatepass"))


@given(st.dictionaries(st.sampled_from(KEYS), DOCS, max_size=6))
@settings(deadline=None, max_examples=300)
def test_any_dict(doc):
    try:
        policy_from_dict({"version": 1, **doc}, resolve_secret=secret)
    except PolicyError as exc:
        assert "(policy)" in exc.message
