import pytest

from gateway.core.errors import PolicyError
from gateway.policy.secrets import MAX_BYTES, Secrets, weak_secret


def test_a_secret_comes_from_the_environment_that_is_handed_in(tmp_path):
    assert Secrets({"K": "value"}, tmp_path)("env:K") == "value"


def test_a_secret_file_is_read_beside_the_policy_without_its_line_end(tmp_path):
    (tmp_path / "key.txt").write_text("value\r\n")
    secrets = Secrets({}, tmp_path)
    assert secrets("file:key.txt") == "value"
    assert secrets(f"file:{tmp_path}/key.txt") == "value"
    assert secrets.files == {tmp_path / "key.txt"}


@pytest.mark.parametrize(
    "reference", ["env:NONE", "env:EMPTY", "file:none", "file:empty", "file:.", "file:big", "file:raw", "file:\0"]
)
def test_a_secret_that_is_not_there_is_a_policy_error(tmp_path, reference):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "big").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "raw").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError):
        Secrets({"EMPTY": " "}, tmp_path)(reference)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-1234",
        "",
        "fifteen-chars-x",
        "CHANGEMECHANGEME",
        "your-api-key-here",
        "abababababababababab",
        "0" * 40,
        "changeme-changeme-now",
        "sk-1234567890abcdefgh",
        "your_key_goes_in_here",
        "put-your-api-key-here!",
        "<secret-goes-here>",
        "sk-farthing-xxxxxxxxxxxxxxxx",
        "sk-farthing-admin-...",
        "please-change-me-now-1",
        "sk-example-0123456789",
    ],
)
def test_a_secret_that_is_guessed_first_is_weak(secret):
    why = weak_secret(secret)
    assert why
    assert not secret or secret not in why


def test_a_generated_secret_is_not_weak():
    assert weak_secret("sk-9fK2mQ7xW1zR4tY8") is None
