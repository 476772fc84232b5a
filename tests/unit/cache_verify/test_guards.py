"""Guards: which rule forbids which pair, and which pairs none may forbid."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache.verify import guards
from gateway.cache.verify.reading import read

FORBIDDEN = [
    ("order", "Is Ann's cook married to Bob's tailor?", "Is Bob's cook married to Ann's tailor?"),
    ("number", "How do I invest 500 dollars?", "How do I invest 5,000 dollars?"),
    ("number", "What is 5% of 200?", "What is 15% of 200?"),
    ("number", "Is two enough?", "Is three enough?"),
    ("identifier", "Does it run on an rtx4090?", "Does it run on an rtx3080?"),
    ("identifier", "Is a@example.com taken?", "Is b@example.com taken?"),
    ("unit", "How far is it in miles?", "How far is it in km?"),
    ("unit", "250 miles is how many feet?", "What is 250 feet in miles?"),
    ("date", "Is the bank open on Monday?", "Is the bank open on Sunday?"),
    ("date", "What happens in May 2020?", "What happens in June 2020?"),
    ("negation", "Should I reply?", "Should I not reply?"),
    ("negation", "Can I travel with a visa?", "Can I travel without a visa?"),
    ("antonym", "How do I activate my card?", "How do I deactivate my card?"),
    ("antonym", "Why was my card activated?", "Why was my card deactivated?"),
    ("antonym", "What is the best gift you were given?", "What is the best gift you received?"),
    ("antonym", "How can I become tolerant?", "How can I become intolerant?"),
    ("antonym", "Is he hopeful?", "Is he hopeless?"),
    ("identifier", "What does 无语 mean?", "What does 装逼 mean?"),
    ("antonym", "Is it safe before surgery?", "Is it safe after surgery?"),
    ("antonym", "How can I become more patient?", "How can I become less patient?"),
    ("entity", "How old is Brad Pitt?", "How old is George Clooney?"),
    ("entity", "What is the capital of France?", "What is the capital of Spain?"),
    ("order", "How do I get from Oslo to Rome?", "How do I get from Rome to Oslo?"),
    ("order", "Is gold heavier than lead?", "Is lead heavier than gold?"),
    ("order", "Should I swim before eating?", "Should I eat before swimming?"),
    ("order", "Can I use a European plug in an American socket?", "Can I use an American plug in a European socket?"),
    ("order", "Why did he leave Apple and join Google?", "Why did he leave Google and join Apple?"),
    ("order", "Which is heavier, a red brick or a grey stone?", "Is a grey brick heavier than a red stone?"),
    (
        "order",
        "How far is it to the zoo by bus, and to the port by train?",
        "How far is it to the zoo by train, and to the port by bus?",
    ),
    (
        "reference",
        "If Alex and Kim were married, would his family mind?",
        "If Alex and Kim were married, would Kim's family mind?",
    ),
    ("voice", "Does Ann trust Bob?", "Is Ann trusted by Bob?"),
    ("voice", "Can a guest sue a host for a broken leg?", "For a broken leg, can a guest be sued by a host?"),
    ("operation", "What is 30 plus 7%?", "How much is 7% of 30?"),
    ("question", "How do I get to Rome?", "How far is it to Rome?"),
    ("question", "How can I cancel?", "Why can I cancel?"),
    ("question", "When was it built?", "Why was it built?"),
    ("scope", "Do all banks charge a fee?", "Do some banks charge a fee?"),
    ("symbol", "What is 7 + 3?", "What is 7 * 3?"),
]

ALLOWED = [
    ("Does a big cat in a small cage suffer?", "Is it in a small cage that a big cat suffers?"),
    ("When I pay abroad, why is there a fee?", "Why is there a fee when I pay abroad?"),
    ("Is it cold where they live?", "Where they live, is it cold?"),
    ("Do we see the flash before we hear the bang?", "Do we hear the bang after we see the flash?"),
    ("How much faster is a train than a bus?", "How much slower than a train is a bus?"),
    ("Why did sales rise while costs fell?", "Why did costs fall while sales rose?"),
    ("How many letters did Ann write to Bob?", "How many letters to Bob were written by Ann?"),
    ("In chess, does a rook beat a knight?", "In chess, is a knight beaten by a rook?"),
    ("Is my phone locked if I type the code 3 times?", "I typed the code three times: is my phone locked?"),
    ("How can I become more hopeful?", "How can I become less hopeless?"),
    ("How do I become a person who is not intolerant?", "How do I become a tolerant person?"),
    ("Where can I buy stamps?", "How can I buy stamps?"),
    ("When will my card arrive?", "How long does it take for my card to arrive?"),
    ("Which is healthier, coffee or tea?", "Which is healthier, tea or coffee?"),
    ("Was Shakespeare a poet or a playwright?", "Was Shakespeare a playwright or a poet?"),
    ("How far is Oslo from Rome?", "How far is Rome from Oslo?"),
    ("How do I get from Oslo to Rome?", "How do I get to Rome from Oslo?"),
    ("Is Ann married to Bob?", "Is Bob married to Ann?"),
    ("Where does the Elbe meet the Moldau?", "Where does the Moldau meet the Elbe?"),
    ("Is Ann's cook married to Bob's tailor?", "Is Bob's tailor married to Ann's cook?"),
    ("Is gold heavier than lead?", "Is lead lighter than gold?"),
    ("Does Ann trust Bob?", "Is Bob trusted by Ann?"),
    ("How can I become more humble?", "How can I become less arrogant?"),
    ("How can I become a kind person?", "How can I become a person who is not unkind?"),
    ("What is the population of the USA?", "What is the population of the United States?"),
    ("How much is $1,500?", "How much is $1500?"),
    ("Can I pay with two cards?", "Can I pay with 2 cards?"),
    ("Why isn't my card working?", "Why is my card not working?"),
    ("Hello, how do I reset my PIN?", "How do I reset my PIN?"),
    ("What is the interest rate in Poland", "what is the interest rate in poland"),
]


@pytest.mark.parametrize(("name", "stored", "asked"), FORBIDDEN)
def test_a_changed_meaning_is_forbidden_by_its_guard_in_both_directions(name, stored, asked):
    assert guards.veto(stored, asked) == name
    assert guards.veto(asked, stored) == name


@pytest.mark.parametrize(("stored", "asked"), ALLOWED)
def test_a_paraphrase_is_forbidden_by_no_guard(stored, asked):
    assert guards.veto(stored, asked) is None
    assert guards.veto(asked, stored) is None


def test_a_substituted_word_is_a_trait_and_a_synonym_a_misspelling_and_a_double_turn_are_not():
    slot = guards.TRAITS.index("slot")
    assert guards.traits("What is a call option?", "What is a call center?")[slot] == 1
    assert guards.traits("How can I become more brave?", "How can I become more courageous?")[slot] == 0
    assert guards.traits("What is the capital of it?", "What is the captial of it?")[slot] == 0
    assert guards.traits("How can I become more visible?", "How can I become less invisible?")[slot] == 0


def test_every_guard_has_a_pair_that_it_alone_is_named_for():
    assert {name for name, _, _ in FORBIDDEN} == set(guards.GUARDS)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_a_text_is_never_forbidden_for_itself_and_has_no_traits(text):
    assert guards.veto(text, text) is None
    assert not any(guards.traits(text, text))


WORD = st.sampled_from(
    [
        "is",
        "the",
        "Ann",
        "Bob",
        "not",
        "by",
        "5",
        "miles",
        "feet",
        "from",
        "to",
        "before",
        "card",
        "cards",
        "+",
        "never",
        "all",
        "some",
        "it's",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORD, max_size=12), st.lists(WORD, max_size=12))
def test_whether_a_pair_is_forbidden_does_not_depend_on_its_order(left, right):
    a, b = " ".join(left), " ".join(right)
    assert guards.veto(a, b) == guards.veto(b, a)
    assert guards.traits(a, b) == guards.traits(b, a)
    assert len(guards.traits(a, b)) == len(guards.TRAITS)


def test_guards_take_well_under_a_millisecond():
    pairs = [(a + f" {i}", b + f" {i}") for i in range(20) for _, a, b in FORBIDDEN]
    began = time.perf_counter()
    for a, b in pairs:
        guards.veto(a, b)
        guards.traits(a, b)
    assert (time.perf_counter() - began) / len(pairs) < 0.003


def test_a_very_long_text_is_read_up_to_its_limit():
    assert len(read("word " * 100_000).words) <= 400
