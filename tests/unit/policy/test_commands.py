import io

import msgspec
import pytest

from gateway.core.errors import PolicyError
from gateway.guarantee.certificate import binding_of, dump, path_of, seal
from gateway.policy.commands import lint_command, schema_command
from gateway.policy.schema import schema_text
from tests.support.certificates import certificate

SANDBOX = "version: 1\ntargets: {a: {provider: sandbox}, b: {provider: sandbox}}\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(path, text, *, env=None, strict=False, out=None):
    (path / "p.yaml").write_text(text)
    out = out or io.StringIO()
    code = lint_command(path, env or {}, lambda target: True, strict=strict, out=out)
    return code, out.getvalue()


def test_a_sound_policy_is_said_to_be_sound(tmp_path):
    assert run(tmp_path, SANDBOX) == (0, f"{tmp_path}: no problems\n")


def test_an_error_is_printed_with_its_place_and_fix_and_exits_1(tmp_path):
    code, text = run(tmp_path, "version: 1\ntargets:\n  a: {provider: sandbx}\n")
    assert code == 1
    assert text == (
        f"{tmp_path}/p.yaml:3: error: targets.a.provider: not a known value\n"
        f"    fix: did you mean 'sandbox'?\n{tmp_path}: 1 error\n"
    )


def test_a_warning_exits_0_unless_strict(tmp_path):
    text = SANDBOX + "routes: [{name: r, match: {}, target: a}]\n"
    code, said = run(tmp_path, text)
    assert code == 0
    assert "warning: targets.b: no route leads to this target" in said
    assert run(tmp_path, text, strict=True)[0] == 1


def test_a_secret_that_is_not_set_here_is_an_info_even_when_strict(tmp_path):
    text = "version: 1\nkeys: {a: {tenant: t, secret: env:A}, b: {tenant: t, secret: env:B}}\n"
    code, said = run(tmp_path, text, strict=True)
    assert code == 0
    assert "info: keys.a.secret: the environment variable A is not set" in said
    assert "2 infos" in said


def test_a_secret_that_is_set_here_is_checked(tmp_path):
    text = "version: 1\nkeys: {a: {tenant: t, secret: env:A}}\n"
    code, said = run(tmp_path, text, env={"A": "sk-1234"})
    assert code == 1
    assert "well-known" in said
    assert "sk-1234" not in said


def test_colours_are_for_terminals_only(tmp_path):
    assert "\x1b[31m" in run(tmp_path, "version: 2\n", out=Terminal())[1]
    assert "\x1b" not in run(tmp_path, "version: 2\n")[1]


def test_a_path_that_is_not_there_is_no_finding_but_an_error(tmp_path):
    with pytest.raises(PolicyError, match="no such file"):
        lint_command(tmp_path / "none", {}, lambda target: True, out=io.StringIO())


def test_the_schema_is_printed_as_it_is_shipped():
    out = io.StringIO()
    assert schema_command(out) == 0
    assert out.getvalue() == schema_text()


def test_what_is_on_trial_beside_a_policy_is_checked_too(tmp_path):
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "p.yaml").write_text("version: 1\ntargets:\n  a: {provider: sandbx}\n")
    (tmp_path / "rollout.yaml").write_text("version: 1\ncandidate: candidate\nmode: shadow\n")
    code, said = run(tmp_path, SANDBOX)
    assert code == 1
    assert "candidate/p.yaml:3: error: targets.a.provider" in said
    (tmp_path / "rollout.yaml").write_text("version: 1\ncandidate: candidate\nmode: canary\n")
    code, said = run(tmp_path, SANDBOX)
    assert (code, "rollout.yaml:3: error: mode: a canary without a share" in said) == (1, True)
    (tmp_path / "rollout.yaml").write_text("version: 1\ncandidate: candidate\nmode: off\n")
    assert run(tmp_path, SANDBOX)[0] == 0


def test_certificates_that_are_all_for_other_models_are_warned_of(tmp_path):
    targets = "{a: {provider: sandbox, model: m1}, b: {provider: sandbox, model: m2}}"
    choice = "{weak: a, strong: b, max_quality_loss: 3%}"
    text = f"version: 1\ntargets: {targets}\nroutes: [{{name: r, match: {{}}, classify: {choice}}}]\n"
    doubt = "no certificate of the route fits"
    assert doubt not in run(tmp_path, text)[1]
    (tmp_path / "certificates").mkdir()
    for weak, said in (("m0", True), ("m1", False)):
        made = certificate("r", {"head": "h", "weak": weak, "strong": "m2"})
        made = seal(msgspec.structs.replace(made, kind="routing", accept="at_most"))
        path = tmp_path / path_of("routing", "r", binding_of(made.alpha, made.delta, made.versions))
        path.write_bytes(dump(made))
        assert (f"{doubt}: weak was m0 when certified and is m1" in run(tmp_path, text)[1]) is said
