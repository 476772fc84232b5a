"""Builds one text that a simple regular expression matches; never runs one, so a hostile pattern costs nothing.

Covers literals, classes, escapes, groups, alternation (the first branch), anchors and quantifiers. Look-around and
back-references are skipped as if they matched nothing.
"""

import string

_CLASSES = {"d": "0123456789", "w": "abcdefghij0123456789_", "s": " ", "D": "a", "W": "-", "S": "a"}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_PRINTABLE = string.ascii_letters + string.digits + "_- ."
_LONGEST = 1000
_DEEPEST = 50


def example(pattern: str, min_length: int = 0) -> str:
    """A short text that `pattern` finds; open-ended repeats grow until it has `min_length` characters."""
    for repeat in range(_DEEPEST + 1):
        text = _Reader(pattern, repeat).branches(0)[:_LONGEST]
        if len(text) >= min_length:
            break
    return text


class _Reader:
    """Recursive descent over the pattern; `repeat` is how often an unbounded quantifier repeats, at least."""

    def __init__(self, pattern: str, repeat: int) -> None:
        self._pattern = pattern[:_LONGEST]
        self._at = 0
        self._repeat = repeat

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def branches(self, depth: int) -> str:
        """Alternatives up to `)` or the end; the first one is the text."""
        first = self._sequence(depth)
        while self._peek() == "|":
            self._at += 1
            self._sequence(depth)
        return first

    def _sequence(self, depth: int) -> str:
        out: list[str] = []
        while self._peek() and self._peek() not in "|)":
            atom = self._atom(depth)
            low, high = self._quantifier()
            times = max(low, min(self._repeat, high))
            out.append((atom * min(times, _LONGEST))[:_LONGEST])
        return "".join(out)

    def _atom(self, depth: int) -> str:
        char = self._take()
        if char in "^$":
            return ""
        if char == ".":
            return "a"
        if char == "[":
            return self._set()
        if char == "(":
            return self._group(depth)
        if char == "\\":
            return self._escape()
        return char

    def _escape(self) -> str:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char][0]
        if char in "bBAZz" or char.isdigit():
            return ""
        return _CONTROLS.get(char, char)

    def _group(self, depth: int) -> str:
        silent = False
        if self._peek() == "?":
            self._at += 1
            head = self._take()
            named = head == "P" or (head == "<" and self._peek() not in ("=", "!"))
            silent = head in "=!" or (head == "<" and not named)
            if named:
                while self._peek() and self._take() != ">":
                    pass
            elif silent and head == "<":
                self._at += 1
        if depth >= _DEEPEST:
            self._at = len(self._pattern)
            return ""
        text = self.branches(depth + 1)
        self._at += 1  # the closing parenthesis
        return "" if silent else text

    def _set(self) -> str:
        negated = self._peek() == "^"
        self._at += negated
        chars: list[str] = []
        first = True
        while self._peek() and (first or self._peek() != "]"):
            first = False
            char = self._take()
            if char == "\\":
                char = self._take()
                chars += _CLASSES.get(char, _CONTROLS.get(char, char))
            elif self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                last = self._take()
                chars += [chr(code) for code in range(ord(char), min(ord(last), ord(char) + 127) + 1)]
            else:
                chars.append(char)
        self._at += 1  # the closing bracket
        if not negated:
            return chars[0] if chars else ""
        return next((char for char in _PRINTABLE if char not in chars), "\u00e9")

    def _quantifier(self) -> tuple[int, int]:
        low, high = 1, 1
        char = self._peek()
        if char and char in "*+?":
            self._at += 1
            low, high = (1 if char == "+" else 0), (1 if char == "?" else _LONGEST)
        elif char == "{":
            end = self._pattern.find("}", self._at)
            body = self._pattern[self._at + 1 : end].split(",") if end > 0 else []
            if body and body[0].isdigit() and (len(body) == 1 or not body[1] or body[1].isdigit()):
                self._at = end + 1
                low = int(body[0][:6])
                high = low if len(body) == 1 else int(body[1][:6] or _LONGEST)
        if (low, high) != (1, 1) and self._peek() == "?":
            self._at += 1  # a lazy quantifier matches the same texts
        return low, high
