import pytest

from gateway.core.errors import PolicyError
from gateway.policy.load import load_policy, policy_from_dict, read_document
from gateway.policy.problems import PolicyProblems
from tests.support.policies import policy, problems, secret

OPENAI = "provider: openai, api_key: env:K"


def one(text):
    found = problems(text)
    assert len(found) == 1, [str(each) for each in found]
    return found[0]


def target(body):
    """The single problem of one target written on line 3."""
    found = one("version: 1\ntargets:\n  t: {" + body + "}\n")
    assert found.line == 3
    return found


def route(body, more=""):
    """The single problem of one route written on line 5, beside targets `a` and `b`."""
    head = "version: 1\ntargets: {a: {provider: sandbox},\n  b: {provider: sandbox}}\nroutes:\n"
    found = one(head + "  - {" + body + "}\n" + more)
    assert found.line == 5
    return found


def test_the_text_names_file_line_key_fault_and_fix():
    text = "version: 1\ntargets:\n  t:\n    provider: openai\n    api_key: env:K\n    modle: gpt-4o\n"
    assert str(one(text)) == "p.yaml:6: targets.t.modle: unknown key; fix: did you mean 'model'?"


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("", "", "empty"),
        ("# nothing\n", "", "empty"),
        ("- a\n", "", "not a mapping"),
        ("just text", "", "not a mapping"),
        ("targets: {}\n", "", "version is missing"),
        ("version: 2\n", "version", "not a version"),
        ("version: '1'\n", "version", "not a version"),
        ("version: true\n", "version", "not a version"),
        ("version: 1\nrouts: []\n", "routs", "unknown key"),
        ("version: 1\ntargets: []\n", "targets", "not a mapping"),
        ("version: 1\nroutes: {}\n", "routes", "not a list"),
        ("version: 1\ndefaults: []\n", "defaults", "not a mapping"),
        ("version: 1\ntargets: {a: }\n", "targets.a", "no value"),
        ("version: 1\ntargets: {a: 3}\n", "targets.a", "not a mapping"),
        ("version: 1\ntargets: {'a b': {provider: sandbox}}\n", "targets.a b", "not a usable name"),
        ("version: 1\ndefaults: {direct_targets: 'no'}\n", "defaults.direct_targets", "not true or false"),
        ("version: 1\ndefaults: {retries: {attempts: 0}}\n", "defaults.retries.attempts", "out of range"),
        ("version: 1\ndefaults: {retries: {attempts: 2.5}}\n", "defaults.retries.attempts", "not a whole number"),
        ("version: 1\ndefaults: {deadlines: {total: 5}}\n", "defaults.deadlines.total", "not a duration"),
    ],
)
def test_the_top_of_a_file_is_checked(text, key, what):
    found = one(text)
    assert found.key == key
    assert what in found.message


@pytest.mark.parametrize(
    ("body", "key", "what"),
    [
        ("model: x", "targets.t", "neither provider nor pool"),
        ("provider: opnai", "targets.t.provider", "not a known value"),
        ("provider: openai", "targets.t", "api_key is missing"),
        ("provider: openai, api_key: sk-live-1234567890", "targets.t.api_key", "reference"),
        ("provider: openai_compatible", "targets.t", "needs a base_url"),
        ("provider: azure, api_key: env:K", "targets.t", "needs a base_url"),
        (f"{OPENAI}, auth: none", "targets.t.auth", "auth is none"),
        ("provider: vllm, auth: bearer", "targets.t.auth", "without api_key"),
        (f"{OPENAI}, base_url: 'https://u:p@h/v1'", "targets.t.base_url", "password"),
        (f"{OPENAI}, latency_ms: 5", "targets.t.latency_ms", "sandbox"),
        ("provider: sandbox, base_url: 'http://h/v1'", "targets.t.base_url", "calls nobody"),
        ("provider: sandbox, price: {input: 1, output: 1}", "targets.t.price", "no prices of its own"),
        ("provider: sandbox, error_rate: 200%", "targets.t.error_rate", "percentage"),
        ("provider: sandbox, size: medium", "targets.t.size", "not a known value"),
        ("pool: p", "targets.t.pool", "unknown pool"),
        (f"{OPENAI}, headers: {{Host: x}}", "targets.t.headers.Host", "itself"),
        (f"{OPENAI}, headers: {{X-A: x, x-a: y}}", "targets.t.headers.x-a", "twice"),
        (f"{OPENAI}, headers: {{a b: x}}", "targets.t.headers.a b", "header name"),
        ("provider: openai, headers: {Authorization: Bearer sk-x}", "targets.t.headers.Authorization", "never stands"),
        (f"{OPENAI}, headers: {{x-api-key: 'env:L'}}", "targets.t.headers.x-api-key", "second credential"),
        (f"{OPENAI}, price: {{input: 1}}", "targets.t.price.output", "missing"),
        (f"{OPENAI}, price: {{input: 1, output: x}}", "targets.t.price.output", "dollars"),
        (f"{OPENAI}, price: 3", "targets.t.price", "name"),
        (f"{OPENAI}, deadlines: {{first_tokn: 1s}}", "targets.t.deadlines.first_tokn", "unknown key"),
        (f"{OPENAI}, model: ", "targets.t.model", "no value"),
    ],
)
def test_a_target_that_cannot_work_is_named(body, key, what):
    found = target(body)
    assert found.key == key
    assert what in found.message
    assert found.fix


@pytest.mark.parametrize(
    ("body", "key", "what"),
    [
        ("name: r, match: {}", "routes[0]", "neither target nor split"),
        ("match: {}, target: a", "routes[0].name", "missing"),
        ("name: r, target: a", "routes[0].match", "missing"),
        ("name: r, match: , target: a", "routes[0].match", "no value"),
        ("name: r, match: {}, target: c", "routes[0].target", "unknown target 'c'"),
        ("name: r, match: {}, target: a, fallbacks: [b, aa]", "routes[0].fallbacks[1]", "unknown target"),
        ("name: r, match: {}, target: a, fallbacks: [b, b]", "routes[0].fallbacks[1]", "twice"),
        ("name: r, match: {}, target: a, split: [{target: b, weight: 1}]", "routes[0].split", "both"),
        ("name: r, match: {}, split: []", "routes[0].split", "empty"),
        ("name: r, match: {}, split: [{target: a, weight: 0}]", "routes[0].split", "all weights are 0"),
        ("name: r, match: {}, split: [{target: a, weight: -1}]", "routes[0].split[0].weight", "out of range"),
        (
            "name: r, match: {}, split: [{target: a, weight: 1}, {target: a, weight: 2}]",
            "routes[0].split[1].target",
            "twice",
        ),
        ("name: 'model:a', match: {}, target: a", "routes[0].name", "the gateway's own"),
        ("name: r, match: {models: gpt-4o}, target: a", "routes[0].match.models", "not a list"),
        ("name: r, match: {models: []}, target: a", "routes[0].match.models", "empty"),
        ("name: r, match: {model: [x]}, target: a", "routes[0].match.model", "unknown key"),
    ],
)
def test_a_route_that_cannot_work_is_named(body, key, what):
    found = route(body)
    assert found.key == key
    assert what in found.message


def test_two_routes_of_one_name_are_told_where_the_first_is():
    text = "version: 1\ntargets: {a: {provider: sandbox}}\nroutes:\n"
    text += "  - {name: r, match: {models: [x]}, target: a}\n  - {name: r, match: {}, target: a}\n"
    found = one(text)
    assert (found.line, found.key) == (5, "routes[1].name")
    assert "p.yaml:4" in found.message


@pytest.mark.parametrize(
    ("replica", "what"), [("ftp://x", "http or https"), ("http://x?y=1", "query"), ("vllm-0:8000", "http or https")]
)
def test_a_replica_that_is_no_address_is_named(replica, what):
    found = one(f"version: 1\npools:\n  p:\n    replicas:\n      - http://ok:1\n      - {replica}\n")
    assert (found.line, found.key) == (6, "pools.p.replicas[1]")
    assert what in found.message


def test_a_replica_that_is_given_twice_is_named():
    found = one("version: 1\npools:\n  p: {replicas: ['http://a:1', 'http://a:1/v1']}\n")
    assert (found.line, found.key) == (3, "pools.p.replicas[1]")


def test_all_problems_are_told_at_once_in_the_order_of_lines():
    text = (
        "version: 1\ntargets:\n  a: {provider: openai}\n  b: {provider: sandbx}\n"
        "routes:\n  - {name: r, match: {}, target: aa}\n  - {nam: s, match: {}, target: b}\n"
    )
    found = problems(text)
    assert [each.line for each in found] == [3, 4, 6, 7, 7]
    assert "did you mean 'a'" in found[2].fix


def test_a_name_whose_entry_is_broken_is_not_called_unknown():
    text = "version: 1\ntargets: {a: {provider: nope}}\nroutes: [{name: r, match: {}, target: a}]\n"
    assert one(text).key == "targets.a.provider"


def test_an_alias_is_told_once():
    assert "alias" in one("version: 1\ntargets: {a: *x}\n").message


def test_an_empty_section_is_an_empty_section():
    assert policy("targets:\nroutes:\nkeys:\npools:\ndefaults:\n").targets == {}


def test_files_of_a_directory_are_one_policy_in_the_order_of_their_names(tmp_path):
    (tmp_path / "20-routes.yaml").write_text("version: 1\nroutes: [{name: z, match: {}, target: a}]\n")
    (tmp_path / "10-targets.yaml").write_text(
        "version: 1\ntargets: {a: {provider: sandbox}}\nroutes: [{name: y, match: {models: [m]}, target: a}]\n"
    )
    (tmp_path / "prices.yaml").write_text("no: policy\n")
    (tmp_path / "notes.txt").write_text("not yaml")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "x.yaml").write_text("broken: [")
    loaded = load_policy(tmp_path, secret)
    assert [each.name for each in loaded.routes] == ["y", "z"]


def test_a_name_in_two_files_is_an_error_that_names_both(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("version: 1\n\ntargets: {t: {provider: sandbox}}\ndefaults: {}\n")
    with pytest.raises(PolicyProblems) as caught:
        read_document(tmp_path)
    first, second = caught.value.problems
    assert first.where == f"{tmp_path}/b.yaml:3"
    assert f"{tmp_path}/a.yaml:3" in first.message
    assert second.key == "defaults"


def test_a_route_in_a_second_file_is_counted_within_its_file(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "version: 1\ntargets: {t: {provider: sandbox}}\nroutes: [{name: r, match: {}, target: t}]\n"
    )
    (tmp_path / "b.yaml").write_text("version: 1\nroutes:\n  - {name: s, match: {}, target: u}\n")
    with pytest.raises(PolicyProblems) as caught:
        read_document(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/b.yaml:3: routes[0].target: unknown target 'u'")


def test_a_directory_that_is_not_there_or_empty_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PolicyError, match="fix:"):
            load_policy(path, secret)


DISCOVERED = {
    "version": 1,
    "targets": {"found": {"provider": "sandbox"}},
    "routes": [{"name": "all", "match": {}, "target": "found"}],
}


def test_what_was_discovered_joins_files_that_name_no_target(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "version: 1\ntargets:\nkeys: {k: {tenant: shop, secret: env:K}}\n"
        "routes: [{name: mine, match: {models: [m]}, target: found}]\n"
    )
    made = load_policy(tmp_path, secret, discovered=DISCOVERED)
    assert list(made.targets) == ["found"]
    assert [each.name for each in made.routes] == ["mine", "all"]
    assert [each.key for each in made.keys.values()] == ["k"]


def test_what_was_discovered_stays_out_of_files_that_name_a_target(tmp_path):
    (tmp_path / "a.yaml").write_text("version: 1\ntargets: {own: {provider: sandbox}}\n")
    assert list(load_policy(tmp_path, secret, discovered=DISCOVERED).targets) == ["own"]


def test_secrets_that_are_missing_weak_or_shared_are_named():
    held = {
        "env:A": "sk-1234",
        "env:B": "x" * 40,
        "env:C": "a-long-secret-of-its-own",
        "env:D": "a-long-secret-of-its-own",
    }

    def resolve(reference):
        if reference not in held:
            raise PolicyError(f"{reference} is not set")
        return held[reference]

    keys = {name: {"tenant": "t", "secret": f"env:{name.upper()}"} for name in "abcde"}
    with pytest.raises(PolicyProblems) as caught:
        policy_from_dict({"version": 1, "keys": keys}, resolve_secret=resolve)
    said = {problem.key: problem.message for problem in caught.value.problems}
    assert set(said) == {"keys.a.secret", "keys.b.secret", "keys.d.secret", "keys.e.secret"}
    assert "well-known" in said["keys.a.secret"]
    assert "'c'" in said["keys.d.secret"]
    assert not any(value in str(caught.value) for value in held.values())


@pytest.mark.parametrize("bad", ["", "two\nlines", "trailing ", "non-ascii-é"])
def test_a_provider_secret_that_would_break_a_header_is_named(bad):
    doc = {"version": 1, "targets": {"t": {"provider": "openai", "api_key": "env:K"}}}
    with pytest.raises(PolicyProblems, match=r"targets\.t\.api_key"):
        policy_from_dict(doc, resolve_secret=lambda _: bad)


@pytest.mark.parametrize(
    "doc", [{}, {1: 2}, {"version": 1, "targets": {"a": object()}}, {"version": 1, "routes": [b"x"]}]
)
def test_a_dict_goes_through_the_same_validation(doc):
    with pytest.raises(PolicyProblems, match=r"\(policy\)"):
        policy_from_dict(doc, resolve_secret=secret)


def test_a_dict_that_contains_itself_is_refused():
    doc = {"version": 1}
    doc["targets"] = doc
    with pytest.raises(PolicyProblems, match="levels deep"):
        policy_from_dict(doc, resolve_secret=secret)
