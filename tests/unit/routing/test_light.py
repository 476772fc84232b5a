"""The head without a model: its file, its arithmetic, and what it refuses."""

import msgspec
import numpy as np
import pytest

from gateway.routing.features import VERSION, Features, text_features
from gateway.routing.fit import fit_ridge
from gateway.routing.light import HEADS, HeadError, LightFile, LightHead, open_light
from gateway.routing.reading import Caller

NOTHING = Features(*[0.0] * len(Features._fields))


def head(**members) -> LightHead:
    given = {"version": "v", "features": VERSION, "bias": 0.5, "weights": {"words": (2.0, 0.5, 0.1)}}
    return LightHead(LightFile(**{**given, **members}))


def test_a_score_is_the_bias_and_the_weighted_deviations():
    assert head().score(NOTHING._replace(words=2.5)) == pytest.approx(0.5 + 0.1)


@pytest.mark.parametrize(("words", "deviations"), [(1e9, 4), (-1e9, -4)])
def test_a_feature_counts_for_four_deviations_at_most(words, deviations):
    assert head().score(NOTHING._replace(words=words)) == pytest.approx(0.5 + 0.1 * deviations)


def test_a_caller_counts_only_in_a_head_that_knows_it():
    caller = Caller("acme", ("batch", "x"))
    known = head(callers={"tenant:acme": 0.2, "tag:batch": 0.03})
    assert known.score(NOTHING, caller) - known.score(NOTHING) == pytest.approx(0.23)
    assert head().score(NOTHING, caller) == head().score(NOTHING)


@pytest.mark.parametrize(
    "members", [{"features": VERSION + 1}, {"weights": {"unheard_of": (0, 1, 1)}}, {"weights": {"words": (0, 0, 1)}}]
)
def test_a_head_that_does_not_fit_is_refused(members):
    with pytest.raises(HeadError, match="fix:"):
        head(**members)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 1}', b"\xff"])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "light.json").write_bytes(content)
    with pytest.raises(HeadError, match="fix:"):
        open_light(tmp_path / "light.json")
    with pytest.raises(HeadError):
        open_light(tmp_path / "absent.json")


def test_the_shipped_head_is_small_and_reads_no_caller():
    content = (HEADS / "light.json").read_bytes()
    assert len(content) < 4096
    assert msgspec.json.decode(content, type=LightFile).callers == {}


def test_the_shipped_head_thinks_a_long_question_harder():
    score = open_light().score
    short = text_features("Who wrote Faust?")
    long = text_features(
        "A train leaves at 9 with 120 passengers, and at each of 7 stops a third of them get off, while 12 get on. "
        "If every passenger pays 3 dollars, how much has been paid when the train has reached its last stop?"
    )
    assert score(long) > score(short)


def test_serving_computes_what_was_fitted():
    dice = np.random.default_rng(0)
    features = dice.normal(size=(200, len(Features._fields)))
    fitted = fit_ridge(features, features[:, 3] + dice.normal(size=200))
    columns = zip(Features._fields, fitted.scaling.mean, fitted.scaling.scale, fitted.weights, strict=True)
    weights = {name: (float(mean), float(scale), float(weight)) for name, mean, scale, weight in columns}
    served = head(bias=fitted.bias, weights=weights)
    found = [served.score(row) for row in features.tolist()]
    assert found == pytest.approx(fitted.score(features, None))
