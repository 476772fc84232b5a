"""Doubts about conditions, sensitivity and choices."""

import pytest

from gateway.core.exchange import Identity
from gateway.policy.commands import lint_command
from gateway.policy.lint import lint
from gateway.policy.load import document_from_text
from tests.support.policies import policy, problems

TARGETS = """version: 1
targets:
  a: {provider: vllm, model: m-a}
  b: {provider: openai, model: m-b, api_key: env:K}
"""


def found(text, **more):
    return lint(document_from_text((TARGETS + text).encode(), name="p.yaml"), lambda target: True, **more)


def messages(text, **more):
    return [f"{each.severity} {each.key}: {each.message}" for each in found(text, **more)]


def routes(earlier, later):
    return f"routes:\n  - {{name: r, match: {{{earlier}}}, target: a, fallbacks: [b]}}\n  - {{name: s, match: {{{later}}}, target: b}}\n"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("tools: true", "tools: true, models: [m]"),
        ("images: false", "images: false"),
        ("keywords: [x, y]", "keywords: [Y]"),
        ("regex: [x, y]", "regex: [y], keywords: [z]"),
        ("min_input_tokens: 100", "min_input_tokens: 200"),
        ("max_input_tokens: 2k", "max_input_tokens: 2000, min_input_tokens: 5"),
        ("hours: ['09:00-17:00']", "hours: ['10:00-12:00'], days: [mon]"),
        ("days: [mon, tue]", "days: [tue]"),
        ("hours: ['22:00-06:00']", "hours: ['23:00-24:00']"),
        ("hours: ['00:00-12:00', '12:00-24:00']", "models: [m]"),
        ("latency: batch", "latency: batch, tools: false"),
        ("sensitive: true", "sensitive: true, tools: true"),
    ],
)
def test_a_route_behind_a_broader_one_is_never_reached(earlier, later):
    text = routes(earlier, later)
    assert any("never reached" in each for each in messages(text)), messages(text)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("tools: true", "tools: false"),
        ("tools: true", ""),
        ("keywords: [x]", "keywords: [x, y]"),
        ("keywords: [x]", "keywords: [x], text: all"),
        ("keywords: [x]", "regex: [x]"),
        ("min_input_tokens: 100", "max_input_tokens: 200"),
        ("hours: ['09:00-17:00']", "hours: ['09:00-17:01']"),
        ("hours: ['09:00-17:00'], timezone: Asia/Tokyo", "hours: ['09:00-17:00']"),
        ("hours: ['09:00-17:00'], days: [mon]", "hours: ['09:00-17:00']"),
        ("latency: batch", "latency: interactive"),
    ],
)
def test_a_route_that_takes_what_is_left_is_reached(earlier, later):
    assert not any("never reached" in each for each in messages(routes(earlier, later)))


def test_a_choice_takes_only_the_models_that_it_names():
    choice = "  - {name: c, match: {}, classify: {weak: a, strong: b, strong_share: 30%}}\n"
    rest = "  - {name: rest, match: {}, target: b}\n"
    assert not any("never reached" in each for each in messages(f"routes:\n{choice}{rest}"))
    auto = "  - {name: d, match: {models: ['auto:cheap']}, target: b}\n"
    assert any("never reached" in each for each in messages(f"routes:\n{choice}{auto}"))


@pytest.mark.parametrize("pattern", ["a*", "(x|)", "^"])
def test_an_expression_that_matches_the_empty_text_matches_all(pattern):
    text = (
        f"routes: [{{name: r, match: {{regex: [ok, '{pattern}']}}, target: a}}, {{name: s, match: {{}}, target: b}}]\n"
    )
    assert [m for m in messages(text) if "empty text" in m] == [
        "warning routes[0].match.regex[1]: the expression matches the empty text, so it matches every request"
    ]
    text = f"sensitive: {{regex: ['{pattern}']}}\nroutes: [{{name: r, match: {{}}, target: a, fallbacks: [b]}}]\n"
    assert any(m.startswith("warning sensitive.regex[0]") for m in messages(text))


def choice(classify="strong_share: 30%", weak="a", strong="b", more=""):
    return (
        f"routes:\n  - name: c\n    match: {{}}\n    classify: {{weak: {weak}, strong: {strong}, {classify}}}\n{more}"
    )


PRICES = {"a": 1.0, "b": 4.0}


def cost(target):
    return PRICES[target.name]


def test_a_choice_that_pays_has_no_doubts():
    assert messages(choice(), cost=cost, weak_share=lambda route: 0.4) == []


def test_a_weak_target_that_is_dearer_is_doubted():
    assert messages(choice(weak="b", strong="a"), cost=cost) == [
        "warning classify.weak: the weak target 'b' costs 4.00 times what the strong one does".replace(
            "classify", "routes[0].classify"
        )
    ]


def test_a_cascade_that_cannot_pay_is_doubted_once_the_share_is_known():
    assert messages(choice(), cost=cost, weak_share=lambda route: None) == []
    assert messages(choice(), cost=cost, weak_share=lambda route: 0.26) == []
    (message,) = messages(choice(), cost=cost, weak_share=lambda route: "weak was l7 when certified and is l8")
    assert "no certificate of the route fits: weak was l7 when certified and is l8" in message
    (message,) = messages(choice(), cost=cost, weak_share=lambda route: 0.2)
    assert message.startswith("warning routes[0].classify.weak: its certificate lets the weak target serve 20%")
    assert "a cascade cannot pay, and choosing saves 15% at most" in message


def test_unknown_prices_are_not_compared():
    assert messages(choice(weak="b", strong="a"), cost=lambda target: None) == []


def test_a_price_in_the_policy_is_compared_without_a_price_book():
    text = TARGETS.replace("m-a}", "m-a, price: {input: 9, output: 9}}").replace(
        "api_key: env:K}", "api_key: env:K, price: {input: 1, output: 2}}"
    )
    problems = lint(document_from_text((text + choice()).encode(), name="p.yaml"), lambda target: True)
    assert [each.key for each in problems] == ["routes[0].classify.weak"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (choice("tier: light"), "nothing says when the weak target is good enough"),
        (choice("max_quality_loss: 3%, strong_cap_per_key: 40%"), "no certificate speaks of them"),
        (choice("strong_share: 30%, judge: {target: b}"), "nothing asks the judge"),
        (choice("strong_share: 30%, judge: {target: b}, compare: 2%"), "rates its own answers"),
        (choice(more="    fallbacks: [a]\n"), "answers when the strong one fails"),
        ("sensitive: {keywords: [x]}\nroutes: [{name: r, match: {}, target: b}]\n", "sensitive requests that it takes"),
    ],
)
def test_what_is_doubtful_is_said(text, says):
    assert any(says in each for each in messages(text)), messages(text)


def test_rules_of_sensitivity_without_a_self_hosted_target_refuse_everything_sensitive():
    text = "sensitive: {keywords: [x]}\nroutes: [{name: r, match: {}, target: b}]\n"
    document = document_from_text(
        (TARGETS.replace("vllm", "openai_compatible, base_url: https://x/v1") + text).encode()
    )
    assert any("every sensitive request is refused" in each.message for each in lint(document, lambda target: True))


def test_a_route_before_it_for_all_that_is_sensitive_answers_the_doubt():
    text = (
        "sensitive: {keywords: [x]}\nroutes:\n  - {name: inside, match: {sensitive: true}, target: a}\n"
        "  - {name: r, match: {}, target: b}\n"
    )
    assert messages(text) == []


@pytest.mark.parametrize(
    ("classify", "key", "says"),
    [
        ("{weak: x, strong: b}", "classify.weak", "unknown target"),
        ("{weak: a, strong: a}", "classify.weak", "same target"),
        ("{weak: a, strong: b, max_quality_loss: 3%, strong_share: 30%}", "classify.strong_share", "keep one"),
        ("{weak: a, strong: b, strong_share: 3%, target_cost: $1/1k}", "classify.target_cost", "keep one"),
        ("{weak: a, strong: b, target_cost: $1}", "classify.target_cost", "write $0.80/1k"),
        ("{weak: a, strong: b}, target: a", "classify", "keep one"),
        ("{weak: nameless, strong: b}", "classify.weak", "names no model"),
        ("{weak: a, strong: b}, fallbacks: [nameless]", "fallbacks[0]", "names no model"),
        ("{weak: a}", "classify.strong", "missing"),
        ("{weak: a, strong: b, tier: judge}", "classify.tier", "nobody is named to judge"),
        ("{weak: a, strong: b, compare: 2%}", "classify.compare", "until somebody rates them"),
        ("{weak: a, strong: b, judge: {target: x}}", "classify.judge.target", "unknown target"),
        ("{weak: a, strong: b, judge: {target: nameless}}", "classify.judge.target", "names no model"),
        ("{weak: a, strong: a, judge: {}}", "classify.judge.target", "missing"),
        ("{weak: a, strong: b, threshold: 0.3}", "classify.threshold", "unknown key"),
    ],
)
def test_a_choice_that_cannot_be_made_is_an_error(classify, key, says, tmp_path, capsys):
    text = f"{TARGETS}  nameless: {{provider: vllm}}\nroutes: [{{name: r, match: {{}}, classify: {classify}}}]\n"
    (tmp_path / "p.yaml").write_text(text)
    assert lint_command(tmp_path / "p.yaml", {"K": "x" * 20}, lambda target: True) == 1
    said = capsys.readouterr().out
    assert f"routes[0].{key}: " in said
    assert says in said


def test_a_route_that_is_sensitive_has_no_judge_outside():
    text = "routes: [{name: r, match: {}, sensitive: true, classify: {weak: a, strong: a2, tier: judge, judge: {target: b}}}]\n"
    targets = f"{TARGETS}  a2: {{provider: vllm, model: m-a2}}\n"
    said = [each.message for each in problems(targets + text)]
    assert any("the target 'b' is not self-hosted" in each for each in said), said


def test_what_comparing_may_cost_is_a_budget_of_its_own():
    more = "strong_share: 30%, judge: {target: b}, compare: 2%, compare_budget: $5/day"
    limits = policy(TARGETS.removeprefix("version: 1\n") + choice(more)).limits(Identity("compare:c", "compare"), "c")
    assert [(budget.scope, budget.limit_micro_usd) for budget in limits.budgets] == [("tenant:compare:c", 5_000_000)]
