"""Sentences made from a seeded grammar: text of the project's own for calibration, agreement checks and benchmarks."""

import random

_SLOTS = {
    "thing": "order|invoice|subscription|card|account|password|laptop|router|parcel|ticket|report|contract|flight|"
    "prescription|database|Kubernetes pod|spreadsheet|camera|bicycle|library book|mortgage|dashboard|pull request",
    "place": "Berlin|São Paulo|Nairobi|Osaka|the head office|Toronto|the airport|Warsaw|the warehouse|Melbourne|Leeds",
    "person": "my manager|Dr. Okafor|the landlord|Marie|our auditor|a new colleague|the supplier|"
    "Mr. Tanaka|my daughter",
    "when": "yesterday|on 14 March|last week|at 09:30|before noon|in 2019|next Tuesday|two hours ago|"
    "since Friday|tonight",
    "does": "cancel|renew|track|return|reset|export|share|print|upgrade|delete|verify|translate|schedule|"
    "repair|compare",
    "state": "is still pending|was declined|arrived broken|shows an error|has expired|is locked|costs more than agreed|"
    "cannot be opened|was charged twice|keeps restarting|does not match the receipt",
    "topic": "photosynthesis|compound interest|the French Revolution|garbage collection in Java|black holes|"
    "tectonic plates|the offside rule|vaccines|supply and demand|binary search|the water cycle|"
    "impressionist painting|tax brackets",
    "language": "Python|Rust|SQL|TypeScript|Go|bash|C++",
    "task": "reverses a linked list|parses ISO 8601 dates|removes duplicate rows|counts words in a file|"
    "retries a failed request with backoff|merges two sorted arrays|validates an e-mail address|computes a median",
    "tone": "politely|in one sentence|for a ten-year-old|as a bulleted list|with an example|briefly|step by step",
    "n": "2|3|5|7|12|17|19|24|48|100|365|1,500|20,000",
    "unit": "kilometres|euros|minutes|kilograms|degrees Celsius|pages|US dollars|litres|requests per second",
    "reason": "it was ordered by mistake|the address changed|I moved abroad|the price went up|nobody answered|"
    "the warranty is over|it was never delivered|the form did not load",
}
_SHAPES = (
    "How do I {does} my {thing}?",
    "My {thing} {state}, what should I do?",
    "Please {does} the {thing} that {person} sent {when}.",
    "What is the fastest way to get from {place} to {place}?",
    "Explain {topic} {tone}.",
    "Write a {language} function that {task}.",
    "Is {n} a prime number?",
    "Convert {n} {unit} to a unit used in {place}.",
    "Can {person} {does} a {thing} without {person}?",
    "I want to {does} the {thing} because {reason}.",
    "The {thing} from {place} {state} and {reason}; {person} asked about it {when}.",
    "What is the difference between {topic} and {topic}?",
    "Summarise the history of {place} {tone}.",
    "why can't i {does} my {thing}",
    "{thing} {state} {when} help",
    "Compare {language} and {language} for a program that {task}, {tone}.",
    "Who should I call in {place} if the {thing} {state}?",
    "Give me {n} reasons to {does} a {thing} {when}.",
    "Translate 'the {thing} {state}' into the language spoken in {place}.",
    (
        "Hello, {when} I asked {person} to {does} my {thing}, but it {state}. I paid {n} euros for it and {reason}. "
        "Could you {does} it, or tell me {tone} whom in {place} I should ask?"
    ),
)


def sentences(count: int, seed: int) -> list[str]:
    """`count` different sentences of 5 to 60 tokens, the same for the same `seed`."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    choices = {slot: words.split("|") for slot, words in _SLOTS.items()}
    made: dict[str, None] = {}
    while len(made) < count:
        text = dice.choice(_SHAPES)
        while "{" in text:
            slot = text[text.index("{") + 1 : text.index("}")]
            text = text.replace(f"{{{slot}}}", dice.choice(choices[slot]), 1)
        made[text] = None
    return list(made)
