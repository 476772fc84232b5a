"""What every model promises: whole texts, unit norm, and a vector that depends on its text alone."""

import numpy as np
import pytest

from gateway.encoder import BatchingEncoder, EncoderError
from gateway.encoder.grammar import sentences

TEXTS = sentences(40, 11)
SAME = 1e-5
"""Float sums in another order; a cached vector and a fresh one of the same text are as close."""


def alone(model, text):
    return model.run([model.read(text)])[0]


def test_vectors_have_the_dimension_and_unit_norm(model):
    vectors = model.encode_batch(TEXTS)
    assert vectors.shape == (len(TEXTS), model.dimension)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < SAME


def test_a_text_has_the_same_vector_alone_and_in_any_company(model):
    vectors = model.encode_batch(TEXTS)
    reversed_ = model.encode_batch(TEXTS[::-1])[::-1]
    assert np.abs(vectors - reversed_).max() < SAME
    for row in range(0, len(TEXTS), 5):
        assert np.abs(alone(model, TEXTS[row]) - vectors[row]).max() < SAME


def test_padding_beside_a_long_text_changes_nothing(model):
    short = model.read("What is a heat pump?")
    long = model.read("word " * (model.window - 6))
    assert np.abs(model.run([short, long])[0] - model.run([short])[0]).max() < SAME


def test_a_text_that_just_fits_is_encoded_and_one_token_more_is_refused(model):
    fits = "a " * (model.window - 2)
    assert len(model.read(fits).ids) == model.window
    assert np.linalg.norm(alone(model, fits)) == pytest.approx(1, abs=SAME)
    assert model.read(fits + "a") is None


def test_the_last_word_of_a_text_that_just_fits_counts(model):
    body = "a " * (model.window - 3)
    assert alone(model, body + "cat") @ alone(model, body + "dog") < 1 - SAME


@pytest.mark.parametrize("text", ["a" * 1_000_000, "word " * 100_000, "é" * 1_000_000], ids=["run", "words", "accents"])
def test_a_huge_text_is_refused_without_being_tokenised(model, text, monkeypatch):
    monkeypatch.setattr(model, "_tokenizer", None, raising=False)
    monkeypatch.setattr(model, "_model", None, raising=False)
    assert model.read(text) is None


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "🍎🍌", "שלום", "你好，世界", "a\ud7ffb", "ﷺ" * 9])
def test_odd_texts_have_unit_vectors(model, text):
    assert np.linalg.norm(alone(model, text)) == pytest.approx(1, abs=SAME)


def test_half_a_surrogate_pair_is_an_error(model):
    with pytest.raises(EncoderError):
        model.read("a\ud800b")


def test_case_and_spaces_at_the_ends_do_not_matter_and_words_do(model):
    a, b, c = model.encode_batch(["reset my password", "  Reset my password ", "reset my router"])
    assert a @ b > 1 - SAME
    assert a @ c < 0.9


def test_a_paraphrase_is_nearer_than_another_question(model):
    a, b, c = model.encode_batch(
        ["How do I reset my password?", "What are the steps to change a forgotten password?", "Is Osaka in Japan?"]
    )
    assert a @ b > a @ c + 0.3


def test_words_outside_the_vocabulary_are_counted(model):
    assert model.read("an apple").unknown == 0
    assert model.read("an 🫠 and a 🪿").unknown == 2
    assert model.read("x" * 150).unknown == 1


def test_a_batch_with_a_text_beyond_the_window_is_refused_whole(model):
    with pytest.raises(EncoderError, match=r"text 1 .* is beyond the window"):
        model.encode_batch(["fine", "word " * model.window])


def test_no_texts_are_no_rows(model):
    assert model.encode_batch([]).shape == (0, model.dimension)


async def test_the_server_s_encoder_gives_the_model_s_vectors(model):
    encoder = BatchingEncoder(model)
    assert (encoder.version, encoder.dimension, encoder.window) == (model.version, model.dimension, model.window)
    encoding = await encoder.encode(TEXTS[0])
    await encoder.aclose()
    assert np.abs(encoding.vector - alone(model, TEXTS[0])).max() < SAME
    assert encoding.tokens == len(model.read(TEXTS[0]).ids)
