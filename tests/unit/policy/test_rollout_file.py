"""rollout.yaml: what it asks for, and what is said of one that is wrong."""

import pytest

from gateway.policy.problems import PolicyProblems
from gateway.policy.rollout_file import read_rollout


def read(folder, text):
    (folder / "rollout.yaml").write_text(text)
    return read_rollout(folder)


def test_without_the_file_nothing_is_asked_for(tmp_path):
    assert read_rollout(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [("mode: shadow", ("shadow", 1.0)), ("mode: shadow\nshare: 10%", ("shadow", 0.1)),
     ("mode: canary\nshare: 5%", ("canary", 0.05)), ("mode: off", (None, 1.0))],
)  # fmt: skip
def test_mode_and_share(tmp_path, text, found):
    declared = read(tmp_path, f"version: 1\ncandidate: next\n{text}\n")
    assert ((declared.mode, declared.share), declared.candidate) == (found, tmp_path / "next")


def test_its_id_changes_with_what_it_says_and_not_with_how(tmp_path):
    ids = [
        read(tmp_path, text).id
        for text in (
            "version: 1\ncandidate: next\nmode: canary\nshare: 5%\n",
            "# as agreed\nversion: 1\nshare: 0.05\nmode: canary\ncandidate: next\n",
            "version: 1\ncandidate: next\nmode: canary\nshare: 6%\n",
            "version: 1\ncandidate: other\nmode: canary\nshare: 5%\n",
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\ncandidate: c\nmode: canary\n", "rollout.yaml:3: mode: a canary without a share; fix: add `share: 5%`"),
        ("version: 1\ncandidate: c\nmode: canry\n", "rollout.yaml:3: mode: not a known value; fix: did you mean 'canary'?"),
        ("version: 1\ncandidate: c\nmode: off\nshare: 5\n", "rollout.yaml:4: share: 5 is not a percentage"),
        ("version: 1\ncandidate: c\nmode: off\nx: 1\n", "rollout.yaml:4: x: unknown key"),
        ("version: 1\nmode: off\n", "candidate: missing"),
        ("version: 2\ncandidate: c\nmode: off\n", "rollout.yaml:1: version"),
        ("- a\n", "not a mapping"),
        ("", "not a mapping"),
        ("a: [\n", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_names_place_and_fix(tmp_path, text, said):
    with pytest.raises(PolicyProblems) as caught:
        read(tmp_path, text)
    assert said in caught.value.message
