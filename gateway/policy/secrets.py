"""Where secrets are read: `file:` from disk, `env:` from a mapping that is handed in; and which are too weak.

Nothing here puts a secret into a message.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.core.errors import PolicyError

MIN_CHARS = 16
MAX_BYTES = 64 << 10

_WELL_KNOWN = frozenset(
    {
        "sk-1234",
        "sk-1234567890abcdef",
        "sk-your-api-key-here",
        "your-api-key-here",
        "your-secret-key-here",
        "your_api_key_here",
        "replace-with-a-secret",
        "placeholder-secret",
        "changeme",
        "changemechangeme",
        "change-me-please",
        "change-this-secret",
        "0123456789abcdef",
        "1234567890123456",
        "passwordpassword",
        "password12345678",
        "supersecretpassword",
        "super-secret-key",
        "mysecretpassword",
    }
)


_DEFAULT = re.compile(
    r"change[-_.]?(me|this)|your[-_ ]?(\w+[-_ ])?(key|secret|token|password)|(replace|insert)[-_ ]?(me|this|with)"
    r"|^sk-(1234|xxxx|test$)|[<>]|placeholder|example|x{6}|\.{3}|\*{3}",
    re.IGNORECASE,
)
"""What documentation writes where a secret belongs. A random secret meets it less than once in a million."""


def weak_secret(secret: str) -> str | None:
    """Why a caller's key is too easy to guess, without repeating it; `None` when it is not."""
    if not secret.strip():
        return "the secret is empty"
    if secret.lower() in _WELL_KNOWN or _DEFAULT.search(secret):
        return "a well-known default secret"
    if len(secret) < MIN_CHARS:
        return f"the secret is shorter than {MIN_CHARS} characters"
    if len(set(secret.lower())) < 6:
        return "the secret repeats a few characters"
    return None


class Secrets:
    """A `resolve_secret`: environment from `env`, files relative to `base` (the policy's directory).

    `files` are the paths read so far, for a watch on them.
    """

    def __init__(self, env: Mapping[str, str], base: Path) -> None:
        self._env = env
        self._base = base
        self.files: set[Path] = set()

    def __call__(self, reference: str) -> str:
        """The secret without line ends around it; raises `PolicyError` when there is none."""
        kind, _, name = reference.partition(":")
        if kind == "file":
            return self._read(name)
        value = self._env.get(name) if kind == "env" else None
        if value is None:
            raise PolicyError(f"the environment variable {name} is not set")
        if not value.strip():
            raise PolicyError(f"the environment variable {name} is empty")
        return value.strip("\r\n")

    def _read(self, name: str) -> str:
        path = self._base / name
        self.files.add(path)
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "not a path"
            raise PolicyError(f"the secret file {path} cannot be read ({reason})") from exc
        if len(raw) > MAX_BYTES:
            raise PolicyError(f"the secret file {path} is larger than {MAX_BYTES >> 10} KiB")
        try:
            text = raw.decode().strip("\r\n")
        except UnicodeDecodeError as exc:
            raise PolicyError(f"the secret file {path} is not text") from exc
        if not text.strip():
            raise PolicyError(f"the secret file {path} is empty")
        return text
