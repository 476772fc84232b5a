"""How a replayed text is cut for a stream; knows nothing of events."""

_PIECES = 8
_LEAST = 32


def cut(text: str) -> list[str]:
    """`text` in at most eight pieces of at least 32 characters, but for the last; nothing for an empty text."""
    size = max(_LEAST, -(-len(text) // _PIECES))
    return [text[i : i + size] for i in range(0, len(text), size)]
