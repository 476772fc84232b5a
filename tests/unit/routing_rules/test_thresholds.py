"""The threshold in force: a certificate that fits, a calibrated share, or none and why."""

import msgspec
import numpy as np
import pytest

from gateway.guarantee.certificate import Certificate, Subject, binding_of, dump, path_of, seal
from gateway.guarantee.certify import Sample, Target, certify
from gateway.routing.shares import at_threshold, calibrate_share, dump_share, share_binding, share_path
from gateway.routing.thresholds import MOST_RULES, Thresholds
from tests.support.policies import policy

TARGETS = "targets: {small: {provider: vllm, model: l8}, big: {provider: vllm, model: l70}}\n"
PARTS = {"head": "h1", "features": "1"}
VERSIONS = {**PARTS, "weak": "l8", "strong": "l70"}


def rule(classify):
    made = policy(f"{TARGETS}routes: [{{name: r, match: {{}}, classify: {{weak: small, strong: big, {classify}}}}}]\n")
    return made.routes[0].classify


CERTIFIED = rule("max_quality_loss: 3%")
SHARED = rule("strong_share: 30%")


def certificate(alpha=0.03, **changes):
    scores = np.linspace(0, 1, 1000)
    subject = Subject(kind="routing", route="r", date="2026-01-01T00:00:00+00:00", data_hash="x", versions=VERSIONS)
    target = Target(alpha=alpha, accept="at_most", loss="graded")
    found = certify(Sample(scores, np.where(scores < 0.6, 0.0, 0.5)), np.arange(0, 1, 0.05), target, subject)
    assert isinstance(found, Certificate), found
    return seal(msgspec.structs.replace(found, **changes)) if changes else found


def put(folder, path, data):
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(data)


def of(folder, which, parts=PARTS):
    return Thresholds(folder, lambda tier: parts).of(which)


def test_a_certificate_states_the_threshold(tmp_path):
    made = certificate()
    put(tmp_path, path_of("routing", "r"), dump(made))
    found = of(tmp_path, CERTIFIED)
    assert (found.value, found.certificate) == (made.threshold, made.hash[:8])


@pytest.mark.parametrize(
    ("classify", "parts", "changes", "says"),
    [
        ("max_quality_loss: 1%", PARTS, {}, "asks for 0.01"),
        ("max_quality_loss: 3%, confidence: 99%", PARTS, {}, "confidence 0.95"),
        ("max_quality_loss: 3%", {**PARTS, "head": "h2"}, {}, "head was h1"),
        ("max_quality_loss: 3%", PARTS, {"versions": {**VERSIONS, "weak": "l7"}}, "weak was l7"),
        ("max_quality_loss: 3%", PARTS, {"accept": "at_least"}, "low ones"),
        ("confidence: 95%", PARTS, {}, "neither"),
    ],
)
def test_a_certificate_of_something_else_states_none(tmp_path, classify, parts, changes, says):
    put(tmp_path, path_of("routing", "r"), dump(certificate(**changes)))
    found = of(tmp_path, rule(classify), parts)
    assert found.value is None
    assert says in found.why


def test_without_any_there_is_none_and_the_command_is_named(tmp_path):
    assert of(tmp_path, CERTIFIED).value is None
    assert "farthing calibrate routing" in of(tmp_path, CERTIFIED).why
    assert "farthing calibrate routing" in of(tmp_path, SHARED).why


def test_a_calibrated_share_states_an_uncertified_threshold(tmp_path):
    scores = [n / 1000 for n in range(1000)]
    made = calibrate_share(scores, 0.3, route="r", date="2026-01-01T00:00:00+00:00", versions=VERSIONS)
    put(tmp_path, share_path("r"), dump_share(made))
    assert of(tmp_path, SHARED).value == made.threshold
    assert of(tmp_path, SHARED).certificate is None
    assert of(tmp_path, CERTIFIED).value is None, "a share is no promise about quality"
    assert "asks for 0.2" in of(tmp_path, rule("strong_share: 20%")).why
    assert "head was h1" in of(tmp_path, SHARED, {**PARTS, "head": "h2"}).why


def test_a_file_that_comes_or_goes_is_seen(tmp_path):
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    assert thresholds.of(CERTIFIED).value is None
    put(tmp_path, path_of("routing", "r"), dump(certificate()))
    thresholds.certificates.refresh()
    assert thresholds.of(CERTIFIED).value is not None
    (tmp_path / path_of("routing", "r")).unlink()
    thresholds.certificates.refresh()
    assert thresholds.of(CERTIFIED).value is None


def test_a_refuted_certificate_states_none(tmp_path):
    made = certificate()
    put(tmp_path, path_of("routing", "r"), dump(made))
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    thresholds.certificates.refute(made, "refuted by live traffic")
    assert thresholds.of(CERTIFIED).why == "refuted by live traffic"


def test_what_traffic_has_left_behind_is_no_certificate_and_still_a_share(tmp_path):
    certified = certificate()
    shared = calibrate_share(
        [n / 1000 for n in range(1000)], 0.3, route="r", date="2026-01-01T00:00:00+00:00", versions=VERSIONS
    )
    put(tmp_path, path_of("routing", "r"), dump(certified))
    put(tmp_path, share_path("r"), dump_share(shared))
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    assert thresholds.of(CERTIFIED).value == certified.threshold
    assert [thresholds.mark(each.hash, "stale: x") for each in (certified, shared, shared)] == [True, True, False]
    assert (thresholds.of(CERTIFIED).value, thresholds.of(CERTIFIED).why) == (None, "stale: x")
    assert (thresholds.of(SHARED).value, thresholds.of(SHARED).why) == (shared.threshold, "uncertified; stale: x")
    assert thresholds.standing(SHARED).stale == "stale: x"


def test_a_share_and_a_cost_are_not_taken_for_each_other(tmp_path):
    shared = calibrate_share([n / 1000 for n in range(1000)], 0.3, route="r", date="d", versions=VERSIONS)
    put(tmp_path, share_path("r"), dump_share(shared))
    assert of(tmp_path, rule("target_cost: $1/1k")).why == "calibrated for another cost than the policy's"
    costing = at_threshold([0.1, 0.9], 0.5, None, route="r", date="d", versions=VERSIONS, target_cost=1_000_000)
    put(tmp_path, share_path("r"), dump_share(costing))
    assert of(tmp_path, rule("target_cost: $1/1k")).value == 0.5
    assert of(tmp_path, SHARED).why == "calibrated for a cost, the policy asks for 0.3"


def test_a_changed_file_certifies_nothing(tmp_path):
    put(tmp_path, path_of("routing", "r"), dump(certificate()).replace(b'"n": ', b'"n": 9'))
    assert "was changed" in of(tmp_path, CERTIFIED).why


def bound(folder, made):
    """Puts a certificate under the name of what it is for."""
    path = path_of("routing", "r", binding_of(made.alpha, made.delta, made.versions))
    put(folder, path, dump(made))
    return path.removeprefix("certificates/")


def rule_for(weak, classify="max_quality_loss: 3%"):
    targets = f"targets: {{small: {{provider: vllm, model: {weak}}}, big: {{provider: vllm, model: l70}}}}\n"
    made = policy(f"{targets}routes: [{{name: r, match: {{}}, classify: {{weak: small, strong: big, {classify}}}}}]\n")
    return made.routes[0].classify


def test_two_policies_of_one_route_are_certified_side_by_side_and_a_rollback_finds_its_own_at_once(tmp_path):
    now, candidate = rule_for("l8"), rule_for("l9")
    put(tmp_path, path_of("routing", "r"), dump(certificate(threshold=0.31)))
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    assert (thresholds.of(now).value, thresholds.of(candidate).value) == (0.31, None)
    name = bound(tmp_path, certificate(threshold=0.42, versions={**VERSIONS, "weak": "l9"}))
    thresholds.certificates.refresh()
    for _ in range(3):
        assert (thresholds.of(now).value, thresholds.of(candidate).value) == (0.31, 0.42)
    assert (thresholds.standing(now).file, thresholds.standing(candidate).file) == ("routing-r.json", name)
    (tmp_path / "certificates" / name).unlink()
    thresholds.certificates.refresh()
    assert (thresholds.of(now).value, thresholds.of(candidate).value) == (0.31, None)


def test_each_policy_has_the_certificate_that_promises_least_beyond_what_it_asks(tmp_path):
    lax, strict = certificate(0.03, threshold=0.4), certificate(0.01, threshold=0.1, date="2026-02-01T00:00:00+00:00")
    for made in (lax, strict):
        bound(tmp_path, made)
    assert of(tmp_path, rule("max_quality_loss: 3%")).value == 0.4
    assert of(tmp_path, rule("max_quality_loss: 2%")).value == 0.1
    assert of(tmp_path, rule("max_quality_loss: 1%")).value == 0.1


def test_of_two_for_the_same_the_newer_counts_and_refuting_it_does_not_bring_back_the_older(tmp_path):
    newer = certificate(threshold=0.2, date="2026-02-01T00:00:00+00:00")
    put(tmp_path, path_of("routing", "r"), dump(certificate(threshold=0.3)))
    bound(tmp_path, newer)
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    assert thresholds.of(CERTIFIED).value == 0.2
    assert thresholds.mark(newer.hash, "refuted by live traffic")
    assert (thresholds.of(CERTIFIED).value, thresholds.of(CERTIFIED).why) == (None, "refuted by live traffic")
    again = Thresholds(tmp_path, lambda tier: PARTS)
    again.certificates.refute(newer, "refuted too")
    assert (again.of(CERTIFIED).value, again.of(CERTIFIED).why) == (None, "refuted too")


def test_where_none_of_several_fits_the_newest_says_why(tmp_path):
    bound(tmp_path, certificate(versions={**VERSIONS, "weak": "l7"}))
    bound(tmp_path, certificate(versions={**VERSIONS, "weak": "l9"}, date="2026-02-01T00:00:00+00:00"))
    assert of(tmp_path, CERTIFIED).why == ("weak was l9 when certified and is l8 (the newest of 2; none fits)")


@pytest.mark.parametrize("name", ["routing-r-00000000.json", "routing-r.bak.json", "routing-other.json"])
def test_a_file_by_another_name_is_passed_over(tmp_path, name):
    put(tmp_path, f"certificates/{name}", dump(certificate()))
    assert of(tmp_path, CERTIFIED).value is None


def test_a_changed_file_is_told_of_under_either_name(tmp_path):
    made = certificate()
    put(tmp_path, path_of("routing", "r", binding_of(made.alpha, made.delta, made.versions)), dump(made) + b"x")
    assert "routing-r-" in of(tmp_path, CERTIFIED).why


def test_shares_of_two_policies_lie_side_by_side(tmp_path):
    scores = [n / 1000 for n in range(1000)]
    for share in (0.3, 0.2):
        made = calibrate_share(scores, share, route="r", date="2026-01-01T00:00:00+00:00", versions=VERSIONS)
        put(tmp_path, share_path("r", share_binding(made)), dump_share(made))
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    found = [thresholds.of(rule(f"strong_share: {share}%")).value for share in (30, 20, 30)]
    assert found == [pytest.approx(0.699), pytest.approx(0.799), pytest.approx(0.699)]
    assert "asks for 0.1 (the newest of 2; none fits)" in thresholds.of(rule("strong_share: 10%")).why


def test_policies_that_take_turns_are_looked_up_once_each(tmp_path, monkeypatch):
    looked = []
    look = Thresholds._look
    monkeypatch.setattr(Thresholds, "_look", lambda self, rule, parts: looked.append(rule) or look(self, rule, parts))
    bound(tmp_path, certificate())
    thresholds, turns = Thresholds(tmp_path, lambda tier: PARTS), [rule_for("l8"), rule_for("l9")]
    found = [thresholds.of(each).value for each in turns * 50]
    assert looked == turns
    assert found[0] is not None
    assert set(found[1::2]) == {None}


def test_what_is_remembered_is_bounded_and_right_beyond_the_bound(tmp_path):
    bound(tmp_path, certificate(threshold=0.31))
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    rules = [msgspec.structs.replace(CERTIFIED) for _ in range(2 * MOST_RULES)]
    assert {thresholds.of(each).value for each in rules} == {0.31}
    assert len(thresholds._memo) <= MOST_RULES
