"""Labelled prompts out of CSV files, and their vectors out of a file that keeps them."""

import gzip

import numpy as np
import pytest

from gateway.core.errors import BadRequest
from gateway.encoder import open_model
from gateway.routing.table import excerpt, read_table, vectors_of

HEADER = "q,small,big,topic,contam\n"


def read(path, text, **columns):
    path.write_text(HEADER + text)
    return read_table(path, "q", "small", "big", **columns)


def test_qualities_are_words_or_numbers(tmp_path):
    found = read(tmp_path / "a.csv", 'x,True,1.0,a,\n"y, z",false,0.25,b,False\n')
    assert found.prompts == ["x", "y, z"]
    assert (found.rows.weak.tolist(), found.rows.strong.tolist()) == ([1, 0], [1, 0.25])
    assert found.groups is None


def test_contaminated_rows_are_dropped_and_counted(tmp_path):
    found = read(tmp_path / "a.csv", "x,1,1,a,True\ny,0,1,b,0\nz,0,1,b,1\n", group="topic")
    assert (found.prompts, found.groups, found.dropped) == (["y"], ["b"], 2)


def test_a_gzipped_file_is_read_and_named_by_its_bytes(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "x,0,1,a,\n").encode(), mtime=0))
    found = read_table(path, "q", "small", "big")
    assert found.prompts == ["x"]
    assert len(found.sha256) == 64


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no rows"), ("x,1,1,a,True\n", "no rows"), ("x,maybe,1,a,\n", "row 2: 'maybe'"), ("x,1,nan,a,\n", "row 2")],
)
def test_a_file_that_says_nothing_is_refused_with_a_fix(tmp_path, text, words):
    with pytest.raises(BadRequest, match=words) as caught:
        read(tmp_path / "a.csv", text)
    assert "fix:" in caught.value.message


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadRequest, match=r"no column 'nope'.*q, small, big"):
        read(tmp_path / "a.csv", "x,0,1,a,\n", group="nope")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "bad.csv.gz").write_bytes(b"not gzip")
    (tmp_path / "bad.csv").write_bytes(b"q,small,big\n\xff\xfe,0,1\n")
    for name in ("absent.csv", "bad.csv.gz", "bad.csv"):
        with pytest.raises(BadRequest, match="fix:"):
            read_table(tmp_path / name, "q", "small", "big")


def test_vectors_are_kept_and_not_taken_for_those_of_other_texts(tmp_path, capsys):
    model, kept = open_model(), tmp_path / "v.npz"
    first = vectors_of(model, ["one", "two"], kept)
    assert "encoded 2 of 2" in capsys.readouterr().err
    assert (vectors_of(model, ["one", "two"], kept) == first).all()
    assert capsys.readouterr().err == ""
    other = vectors_of(model, ["one", "three"], kept)
    assert (other[0] == first[0]).all()
    assert (other[1] != first[1]).any()


def test_a_file_that_holds_no_vectors_is_refused(tmp_path):
    (tmp_path / "v.npz").write_bytes(b"something else")
    with pytest.raises(BadRequest, match="--vectors"):
        vectors_of(open_model(), ["one"], tmp_path / "v.npz")


def test_every_text_has_a_vector():
    texts = ["", "x" * 20_000, "word " * 9_000, "\ud800", "漢字" * 4_000]
    vectors = vectors_of(open_model(), texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-3)


def test_an_excerpt_is_the_whole_text_where_it_fits_and_else_its_two_ends():
    model = open_model()
    assert excerpt(model, "short") == "short"
    found = excerpt(model, "first " + "middle " * 2_000 + "last")
    assert found.startswith("first")
    assert found.endswith("last")
