"""Characters that could break a line, hide in it or reorder it on a screen.

White space, controls, lone surrogates, and the invisible characters that Unicode calls Default_Ignorable_Code_Point
(https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt), among them the bidirectional controls.
"""

from __future__ import annotations

import re

__all__ = ["CONTROL", "HIDDEN", "SURROGATE", "backslashed", "cut_and_escaped", "unbackslashed"]

CONTROL = r"\x00-\x1f\x7f"
SURROGATE = r"\ud800-\udfff"
HIDDEN = (
    r"\x7f-\xa0"
    r"\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # white space beyond ASCII
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)

_ESCAPE = r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}))"


def cut_and_escaped(text: str, unsafe: str, characters: int) -> str:
    """Return at most so many characters of ``text``, the ``unsafe`` ones with a backslash; a cut ends with ``…``."""
    if len(text) > characters:
        text = text[: characters - 1] + "…"
    return backslashed(text, unsafe)


def backslashed(text: str, unsafe: str) -> str:
    r"""Return ``text`` with each character that the pattern ``unsafe`` matches as ``\xNN``, ``\uNNNN`` … or ``\\``."""
    return re.sub(unsafe, _escape, text)


def unbackslashed(text: str) -> str:
    """Return what ``text`` was before; what is no escape stays as it is."""
    return re.sub(_ESCAPE, _character, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == ord("\\"):
        return r"\\"
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def _character(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    return chr(int(digits, 16)) if digits else "\\"
