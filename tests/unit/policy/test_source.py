import pytest

from gateway.policy.source import MAX_BYTES, parse


def read(text):
    source, problems = parse(text.encode(), "p.yaml")
    assert problems == []
    return source


def problem(text):
    _, problems = parse(text.encode() if isinstance(text, str) else text, "p.yaml")
    assert len(problems) == 1
    return problems[0]


def test_every_key_and_item_knows_its_line():
    source = read("a:\n  b: 1\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n")
    assert source.line(("a",)) == 1
    assert source.line(("a", "b")) == 2
    assert source.line(("a", "c", 0)) == 4
    assert source.line(("a", "c", 1, "e")) == 6
    assert source.line(("a", "c", 1, "missing")) == 5


def test_words_that_yaml_1_1_converts_stay_as_they_look():
    source = read("a: no\nb: on\nc: 2024-10-21\nd: 1:30\ne: 0x10\nf: 1_000\ng: .inf\nh: 1e999\n")
    expected = {
        "a": "no",
        "b": "on",
        "c": "2024-10-21",
        "d": "1:30",
        "e": "0x10",
        "f": "1_000",
        "g": ".inf",
        "h": "1e999",
    }
    assert source.doc == expected


def test_core_scalars_are_typed_unless_quoted():
    source = read("a: true\nb: null\nc: 12\nd: 0.5\ne: '12'\nf: \"true\"\ng:\nh: |\n  12\n")
    assert source.doc == {"a": True, "b": None, "c": 12, "d": 0.5, "e": "12", "f": "true", "g": None, "h": "12\n"}


def test_keys_are_always_text():
    assert read("1: a\ntrue: b\nnull: c\n").doc == {"1": "a", "true": "b", "null": "c"}


@pytest.mark.parametrize(
    ("text", "line", "key", "what"),
    [
        ("a: 1\nb: &x 2\n", 2, "b", "anchor"),
        ("a: 1\nb: *x\n", 2, "b", "alias"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "b", "tag"),
        ("a: 1\nb: 2\na: {c: [3]}\n", 3, "a", "twice"),
        ("x:\n  a: 1\n  a: 2\n", 3, "x.a", "twice"),
        ("a: 1\n---\nb: 2\n", 2, "", "second document"),
        ("a: 1\n? [x, y]\n: 2\n", 2, "", "key"),
        ("a: [1\nb: 2\n", 2, "", "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "", "not valid YAML"),
        ("a: \x00\n", 1, "", "character"),
    ],
)
def test_what_a_policy_must_not_use_is_named_with_its_line(text, line, key, what):
    found = problem(text)
    assert (found.file, found.line, found.key) == ("p.yaml", line, key)
    assert what in found.message
    assert found.fix


def test_bytes_that_are_not_utf8_are_named_with_their_line():
    found = problem(b"a: 1\nb: \xff\n")
    assert (found.line, found.message) == (2, "not UTF-8")


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert parse(b"\xef\xbb\xbfversion: 1\n", "p")[0].doc == {"version": 1}


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 60 + "]" * 60, "[" * 100_000, "{a: " * 60 + "1" + "}" * 60, "a: 1\na: " + "[" * 60]
)
def test_a_document_that_is_too_deep_is_refused(text):
    source, problems = parse(text.encode(), "p.yaml")
    assert source is None
    assert "levels deep" in problems[-1].message


def test_a_document_that_is_too_large_is_refused_unread():
    assert "MiB" in problem(b"#" * (MAX_BYTES + 1)).message


def test_all_problems_of_a_file_are_told_not_the_first():
    _, problems = parse(b"a: &x 1\nb: *x\nc: !t 1\nc: 2\n", "p.yaml")
    assert [p.line for p in problems] == [1, 2, 3, 4]
