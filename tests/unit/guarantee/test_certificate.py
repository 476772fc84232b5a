"""A certificate survives its file, shows that it was altered, and is void for other parts than it certified."""

import json
import re
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import PolicyError
from gateway.guarantee import certificate as c

CERTIFICATE = c.seal(
    c.Certificate(
        kind="cache",
        route="faq",
        alpha=0.01,
        delta=0.05,
        method="binomial",
        n=4000,
        realised=0.006,
        realised_accepted=0.03,
        upper_bound=0.0086,
        threshold=0.71,
        accept="at_least",
        fallback=0.83,
        share_accepted=0.2,
        share_band=(0.11, 0.29),
        date="2026-03-01",
        data_hash="ab" * 32,
        versions={"encoder": "minilm-3", "verifier": "pairs-2"},
        reference=c.histogram([0.1, 0.2, 0.3, 0.4]),
    )
)


def test_a_certificate_survives_its_file():
    assert c.load(c.dump(CERTIFICATE)) == CERTIFICATE


def test_the_file_may_be_laid_out_anew_but_not_altered():
    assert c.load(json.dumps(json.loads(c.dump(CERTIFICATE))).encode()) == CERTIFICATE


@pytest.mark.parametrize("field", [name for name in CERTIFICATE.__struct_fields__ if name != "format"])
def test_a_change_of_any_field_is_noticed(field):
    document = json.loads(c.dump(CERTIFICATE))
    value = document[field]
    others = {
        "kind": "routing",
        "accept": "at_most",
        "versions": {"encoder": "other"},
        "reference": {"edges": [0.5], "shares": [0.5, 0.5]},
        "share_band": [0.0, 1.0],
        "n": 4001,
    }
    document[field] = others.get(field) or (value + "x" if isinstance(value, str) else value / 2)
    with pytest.raises(c.BadCertificate, match=r"certificates/cache-faq\.json: was changed after it was sealed"):
        c.load(json.dumps(document).encode(), "certificates/cache-faq.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        c.dump(CERTIFICATE)[:-20],
        c.dump(CERTIFICATE).replace(b'"format": 1', b'"format": 2'),
        c.dump(CERTIFICATE).replace(b'"n": 4000', b'"n": 4000, "note": ""'),
        c.dump(CERTIFICATE).replace(b'"n": 4000', b'"n": 0'),
        c.dump(CERTIFICATE).replace(b'"threshold": 0.71', b'"threshold": null'),
    ],
)
def test_what_is_no_whole_certificate_is_an_error_of_the_operators_files(data):
    with pytest.raises(c.BadCertificate, match="calibrate the route again") as caught:
        c.load(data)
    assert isinstance(caught.value, PolicyError)


def test_a_sealed_certificate_that_contradicts_itself_is_refused():
    wrong = c.seal(msgspec.structs.replace(CERTIFICATE, upper_bound=0.02))
    with pytest.raises(c.BadCertificate, match="over its alpha"):
        c.load(c.dump(wrong))


def test_the_hash_is_that_of_canonical_json_without_it():
    document = json.loads(c.dump(CERTIFICATE)) | {"hash": ""}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert CERTIFICATE.hash == c.sha256(canonical).hexdigest()


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"encoder": "minilm-3", "verifier": "pairs-2"}, None),
        ({"verifier": "pairs-2", "encoder": "minilm-3"}, None),
        ({"encoder": "minilm-4", "verifier": "pairs-2"}, "encoder was minilm-3 when certified and is minilm-4"),
        ({"encoder": "minilm-3"}, "verifier was pairs-2 when certified and is absent"),
        ({"encoder": "minilm-3", "verifier": "pairs-2", "head": "1"}, "head was absent when certified and is 1"),
    ],
)
def test_another_version_of_any_part_voids_a_certificate(now, reason):
    assert c.voids(CERTIFICATE.versions, now) == reason


def test_a_score_on_the_threshold_is_accepted_and_nan_is_not():
    at_most = msgspec.structs.replace(CERTIFICATE, accept="at_most")
    assert [CERTIFICATE.accepts(x) for x in (0.7, 0.71, 0.72, float("nan"))] == [False, True, True, False]
    assert [at_most.accepts(x) for x in (0.7, 0.71, 0.72, float("nan"))] == [True, True, False, False]


def test_a_certificate_lies_beside_the_policy():
    assert c.path_of("routing", "faq") == "certificates/routing-faq.json"
    assert c.path_of("cache", "../a b") == "certificates/cache-..%2Fa%20b.json"
    assert c.path_of("cache", "faq", "0123abcd") == "certificates/cache-faq-0123abcd.json"


def test_what_a_certificate_is_for_has_one_name_whenever_it_was_made():
    versions = {"head": "1", "weak": "a", "strong": "b"}
    name = c.binding_of(0.03, 1 - 0.95, versions)
    assert re.fullmatch("[0-9a-f]{8}", name)
    assert c.binding_of(0.03, 0.05, dict(reversed(versions.items()))) == name
    others = [
        c.binding_of(0.02, 0.05, versions),
        c.binding_of(0.03, 0.01, versions),
        c.binding_of(0.03, 0.05, {**versions, "head": "2"}),
    ]
    assert len({name, *others}) == 4


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=300))
def test_a_histogram_counts_every_score_where_it_will_look_for_it(scores):
    found = c.histogram(scores)
    bins = [0] * len(found.shares)
    for score in scores:
        bins[found.bin_of(score)] += 1
    assert [count / len(scores) for count in bins] == list(found.shares)
    assert len(found.edges) == len(found.shares) - 1 <= 9
    assert msgspec.json.decode(msgspec.json.encode(found), type=c.Histogram) == found


def test_weighted_scores_are_as_many_as_they_stand_for():
    few = c.histogram([0.1, 0.2, 0.3], weights=[1.0, 7.0, 2.0])
    assert few == c.histogram([0.1] + [0.2] * 7 + [0.3] * 2)
    assert c.histogram([0.3, 0.1, 0.2], weights=[4.0, 2.0, 14.0]) == few


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.98])
def test_the_band_is_as_wide_on_either_side_of_the_threshold(share):
    low, high = c.share_band(share, 2000)
    assert low < share < high
    assert c.share_band(1 - share, 2000) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("scores", [[], [0.1, float("nan"), 0.2]])
def test_a_histogram_of_nothing_or_of_no_numbers_is_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        c.histogram(scores)


def test_serving_needs_no_numpy_for_certificates():
    modules = "certificate, drift, monitor, sampling"
    code = f"import sys; from gateway.guarantee import {modules}; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
