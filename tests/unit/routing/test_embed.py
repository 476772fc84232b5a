"""The head that also reads a vector."""

import base64

import numpy as np
import pytest

from gateway.encoder import open_model
from gateway.routing.embed import EmbedFile, EmbedHead, open_embed
from gateway.routing.features import VERSION, text_features
from gateway.routing.light import HeadError, LightFile
from gateway.routing.scorer import open_scorer
from gateway.routing.view import VERSION as VIEW

LIGHT = LightFile(version="embed-1", features=VERSION, bias=0.25, weights={})


def head(vector: bytes) -> EmbedHead:
    return EmbedHead(EmbedFile(LIGHT, "encoder-1", VIEW, base64.b64encode(vector).decode()))


def test_a_score_adds_the_vectors_part_to_the_features():
    found = head(np.array([1, -2], "<f4").tobytes()).score(text_features("x"), np.array([0.6, 0.8], np.float32))
    assert found == pytest.approx(0.25 + 0.6 - 1.6)


def test_a_vector_of_another_encoder_is_refused():
    with pytest.raises(HeadError, match="vectors of 2"):
        head(bytes(8)).score(text_features("x"), np.zeros(3, np.float32))


def test_a_head_of_another_view_of_texts_is_refused():
    with pytest.raises(HeadError, match=r"view 0, not .*fix:"):
        EmbedHead(EmbedFile(LIGHT, "e", "0", ""))


@pytest.mark.parametrize("vector", ["no base64!", base64.b64encode(b"abc").decode()])
def test_weights_that_are_no_array_are_refused(vector):
    with pytest.raises(HeadError, match="fix:"):
        EmbedHead(EmbedFile(LIGHT, "e", VIEW, vector))


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "embed.json").write_bytes(b"{")
    with pytest.raises(HeadError, match="fix:"):
        open_embed(tmp_path / "embed.json")


def test_a_certificate_of_a_tier_that_encodes_names_the_view():
    scorer = open_scorer(embed=True)
    assert scorer.versions("embed", "encoder-1")["view"] == VIEW
    assert "view" not in scorer.versions("light", None)


def test_the_shipped_head_was_fitted_on_the_shipped_encoder():
    model, shipped = open_model(), open_embed()
    assert shipped.encoder == model.version
    assert np.isfinite(shipped.score(text_features("hi"), model.encode_batch(["hi"])[0]))
