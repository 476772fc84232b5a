"""The training pairs: repeatable, labelled as their rules say, held out by name."""

import csv
import random
from pathlib import Path

import pytest

from gateway.cache.evaluate import read_pairs
from gateway.cache.training import edits, grammar, slots
from gateway.cache.training.pairs import HELD_OUT_GRAMMAR, Amounts, generate

DATA = Path(__file__).parent / "data"
SMALL = Amounts(families=400, natural=200, grammar=400, edits=300, intents=40)


@pytest.fixture(scope="module")
def banking77(tmp_path_factory):
    path = tmp_path_factory.mktemp("seeds") / "train.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "category"])
        for intent in range(12):
            for i in range(30):
                writer.writerow(
                    [f"Why was my card number {i} charged a fee for the transfer {intent}?", f"intent{intent}"]
                )
    return path


def test_a_seed_fixes_every_pair(banking77):
    assert generate(banking77, 1, SMALL) == generate(banking77, 1, SMALL)
    assert generate(banking77, 1, SMALL) != generate(banking77, 2, SMALL)


def test_no_family_and_no_rule_is_both_trained_on_and_held_out(banking77):
    pairs = generate(banking77, 1, SMALL)
    trained = {p.source for p in pairs if not p.held_out and p.source.startswith(("family:", "grammar:"))}
    held = {p.source for p in pairs if p.held_out and p.source.startswith(("family:", "grammar:"))}
    assert held
    assert not trained & held
    assert {f"grammar:{name}" for name in HELD_OUT_GRAMMAR} <= held


def test_both_labels_are_common(banking77):
    pairs = generate(banking77, 1, SMALL)
    assert 0.3 < sum(p.same for p in pairs) / len(pairs) < 0.6


def test_every_slot_of_every_form_has_a_pool():
    values = slots.pools()
    for family in slots.families():
        for form in family.same + family.other:
            for slot in slots.slots_of(form):
                assert len(values[slot.rstrip("0123456789")]) >= 2, (family.name, slot)
        for one, two, _ in family.swaps:
            assert {one, two} <= set(slots.slots_of(" ".join(family.same))), family.name


def test_natural_groups_have_two_ways_to_ask_and_something_else():
    groups = slots.natural() + slots.written_order() + slots.written_subjects()
    assert len(groups) > 1000
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        assert group.same, group.name
        assert group.other, group.name
        assert not set(group.same) & set(group.other), group.name


def test_no_pair_of_an_evaluation_set_is_trained_on():
    trained = {
        _plain(text)
        for family in slots.natural() + slots.written_order() + slots.written_subjects()
        for text in family.same + family.other
    }
    sets = sorted(DATA.glob("*.jsonl"))
    assert len(sets) >= 6
    for path in sets:
        for pair in read_pairs(path):
            assert not {_plain(pair.a), _plain(pair.b)} <= trained, (path.name, pair)


def _plain(text):
    return " ".join(text.casefold().rstrip("?.!").split())


@pytest.mark.parametrize("name", sorted(grammar.RULES))
def test_a_grammar_rule_never_calls_two_equal_texts_different(name):
    rng, values = random.Random(3), slots.pools()
    for _ in range(60):
        a, b, same = grammar.RULES[name](rng, values)
        assert same in {0, 1}
        assert a != b or same
        assert "{" not in a + b


@pytest.mark.parametrize(
    ("edit", "text", "expected"),
    [
        (edits.number, "I paid 5 euros", "5"),
        (edits.negate, "Can I pay?", "not"),
        (edits.antonym, "How do I open it?", "How do I close it?"),
        (edits.wh_word, "How do I pay?", "do I pay?"),
    ],
)
def test_an_edit_that_changes_the_question_changes_the_text(edit, text, expected):
    changed = {edit(random.Random(i), text) for i in range(20)} - {None}
    assert text not in changed
    assert any((expected in c) != (edit is edits.number) for c in changed)


def test_a_form_is_filled_with_an_article_that_fits():
    assert slots.tidy("is it a apple or a unit or a hour?") == "Is it an apple or a unit or an hour?"
