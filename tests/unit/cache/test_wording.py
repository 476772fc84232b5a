"""Which texts ask for something that an earlier answer cannot be."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.wording import REASONS, refuse_text

FINE = [
    "What is the capital of France?",
    "How do I reset my password?",
    "How can I activate my card?",
    "Can I use my card abroad?",
    "What should I do if my card is stolen?",
    "What happens when my card expires?",
    "Do I need to verify my identity?",
    "Is it possible to change my PIN at an ATM?",
    "Am I allowed to have two accounts?",
    "How long does it take for my transfer to arrive?",
    "What are the fees for sending money abroad?",
    "Is 17 a prime number?",
    "How do you cancel a subscription?",
    "How do I send money to another bank?",
    "Explain the difference between TCP and UDP.",
    "Order of operations in arithmetic, explained",
    "Transfer fees for a current account?",
    "Write a poem about the sea",
    "Who wrote Les Misérables?",
    "¿Cómo puedo cambiar mi contraseña?",
    "Wie kann ich mein Passwort ändern?",
    "Comment puis-je changer mon mot de passe ?",
    "Is knowledge power?",
    "Tell me about Roth IRAs",
    "Could you help me understand inflation?",
    "I would like to know what APR means",
    "I was wondering what APR means",
    "What is the difference between voltage and current?",
    "How does the stock market work generally?",
    "Can we turn back time?",
    "How do traffic lights work?",
    "What is the population of the US?",
    "How many states are in the EU?",
    "When did World War I begin?",
    "How long did Elizabeth I reign?",
    "Why do we dream?",
    "What is I/O in computing?",
    "How deep is the deepest gold mine?",
    "How far is 5 mi in kilometres?",
    "What does our solar system consist of?",
    "What does the know-how consist of?",
]
VOLATILE = [
    "What is the weather in Paris?",
    "What's the latest iPhone?",
    "Who is the current president of France?",
    "What is the price of bitcoin?",
    "What time is it in Tokyo?",
    "Any news about the election?",
    "What is the stock price of Apple?",
    "What happened yesterday?",
    "Which stocks should one hold?",
    "How is the traffic in Rome?",
    "What is the current rate?",
    "Is the shop open now?",
    "What's the exchange rate for EUR?",
    "Qué tiempo hace hoy",
    "Wie ist das Wetter in Berlin?",
    "Quelle est la météo à Paris ?",
    "Ｗｈａｔ ｉｓ ｔｈｅ ｗｅａｔｈｅｒ",
]
ACTS = [
    "Send an email to Bob",
    "Please delete all files",
    "Can you transfer $500 to savings?",
    "could you please just cancel order 17",
    "Hey, book a table for two",
    "I want you to buy 10 shares",
    "I need to cancel a transaction.",
    "I'd like to order a pizza",
    "Pay the invoice.",
    "Turn on the lights",
    "Remind me to call mum",
    "Subscribe me to the newsletter",
    "What is a tariff? Send the answer to Bob.",
    "Summarise this text and email it to Ann",
    "- Delete the account",
    "SEND MONEY TO BOB",
    "sende eine Mail an Bob",
    "Cancela la reserva",
]
PERSONAL = [
    "What is my balance?",
    "Why was my payment declined?",
    "Where is my order?",
    "When will my card arrive?",
    "How much do I owe?",
    "How many vacation days do I have left?",
    "I was charged twice",
    "My card has not arrived",
    "Can you check if my payment went through?",
    "Is my account blocked?",
    "Why can't I log in?",
    "Can you show me my last transactions?",
    "Who am I?",
    "I was wondering where my card is",
    "Tell me my account number",
    "WHERE IS MY ORDER",
    "What did our company earn?",
    "Is this card mine? The card is mine.",
    "In the US where is my order",
    "¿Dónde está mi pedido?",
    "Wo ist meine Bestellung?",
    "Où est mon colis ?",
    "I’m still waiting for the refund",
]


@pytest.mark.parametrize("text", FINE)
def test_questions_with_one_answer_for_everyone_are_not_refused(text):
    assert refuse_text(text) is None


@pytest.mark.parametrize(("texts", "reason"), [(VOLATILE, "volatile"), (ACTS, "side_effect"), (PERSONAL, "personal")])
def test_others_are_refused_by_name(texts, reason):
    assert {text: refuse_text(text) for text in texts} == dict.fromkeys(texts, reason)


def test_a_user_scope_lets_a_user_share_with_himself_but_not_orders_or_the_weather():
    assert refuse_text("Why was my payment declined?", user_scoped=True) is None
    assert refuse_text("Where is my order?", user_scoped=True) is None
    assert refuse_text("Send my order to Bob", user_scoped=True) == "side_effect"
    assert refuse_text("Is my order here today?", user_scoped=True) == "volatile"


def test_the_policy_may_refuse_or_allow_every_first_person():
    generic, own = "How do I reset my password?", "Where is my order?"
    assert [refuse_text(generic, personal=p) for p in ("refuse", "generic", "allow")] == ["personal", None, None]
    assert [refuse_text(own, personal=p) for p in ("refuse", "generic", "allow")] == ["personal", "personal", None]


@pytest.mark.parametrize("text", ["", " ", "?!", "\n", "👍", "..."])
def test_nothing_said_is_empty(text):
    assert refuse_text(text) == "empty"


@pytest.mark.parametrize("text", ["yes", "continue", "42", "ok?", "a b"])
def test_one_word_leans_on_what_was_before(text):
    assert refuse_text(text) == "short"


def test_a_text_that_cannot_fit_the_window_is_long():
    assert refuse_text("word " * 500) == "long"
    assert refuse_text("word " * 500, max_chars=10_000) is None


@pytest.mark.parametrize(
    "text",
    [
        "Fix this:\n```\nx = 1\n```",
        "What does this do?\n\n    for (i = 0; i < 3; i++) {\n",
        "Explain\ndef f(x):\n    return x\n",
        "int x = 5;\nint y = 6;",
        "why <script>alert(1)</script> here",
    ],
)
def test_code_is_not_compared(text):
    assert refuse_text(text) == "code"


@pytest.mark.parametrize(
    "text",
    [
        "What is Ｐ\u0430ypal fee",
        "p\u0430ypal fees please",
        "free\u200bzing point of water",
        "\u202ewhat is it",
        "Столица Франции, какая она",
    ],
)
def test_confusable_invisible_and_unknown_scripts_are_refused(text):
    assert refuse_text(text) == "script"


def test_an_encoder_of_many_languages_may_take_any_script():
    assert refuse_text("Столица Франции, какая она", any_script=True) is None
    assert refuse_text("法国的首都是哪里", any_script=True) is None
    assert refuse_text("今天天气怎么样", any_script=True) == "volatile"
    assert refuse_text("我的订单在哪里", any_script=True) == "personal"
    assert refuse_text("p\u0430ypal fees please", any_script=True) == "script"


@given(st.text(max_size=200))
def test_every_text_has_an_answer(text):
    assert refuse_text(text) in {None, *REASONS}


@pytest.mark.parametrize(
    "unit",
    [
        "please ",
        "can you please ",
        "i want to ",
        "hey, ",
        "how much ",
        "my ",
        "what ",
        "(",
        "\n    a",
        " ",
        ";\n ",
        "tell a to ",
        "and then ",
        "if i ",
        "x",
    ],
)
def test_no_text_takes_long(unit):
    """Backtracking would be exponential: 20 kB are judged in well under a second."""
    begun = time.process_time()
    refuse_text(unit * (20_000 // len(unit)) + "!", max_chars=30_000)
    assert time.process_time() - begun < 0.5
