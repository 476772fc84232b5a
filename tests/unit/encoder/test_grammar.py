"""Sentences of a seed."""

from gateway.encoder.grammar import sentences


def test_a_seed_always_gives_the_same_sentences():
    assert sentences(50, 3) == sentences(50, 3)
    assert sentences(50, 3) != sentences(50, 4)


def test_sentences_differ_and_have_no_open_slots():
    made = sentences(1000, 1)
    assert len(set(made)) == 1000
    assert not [text for text in made if "{" in text or "}" in text]
