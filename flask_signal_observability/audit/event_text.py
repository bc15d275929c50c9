r"""The text of a watched signal's line, told apart from every line that only this package writes.

    […] \x63hain closed
    […] root@10.0.0.1 \x61ccessed /admin/keys

Its fields are a user's, and a template may put them where a note of a chain, an access, a gap or a mark has its words.
The word that would make it one then has its first character escaped. No other escape stands there: a field escapes its
spaces, and neither letters nor ``#`` behind one.
"""

from __future__ import annotations

import re

__all__ = ["as_it_was", "kept_apart"]

# Each alternative ends with the character that is escaped. A bracket and a space: behind a time, where a reader looks
# for the record that follows a torn one.
_TAKEN = (
    r"^c(?=hain (?:opened|checkpoint|closed)(?: |$))"
    r"|(?:^|(?<=\] ))l(?=ost [0-9]+ records from )"
    r"|@[^ @]* a(?=ccessed [^ ]*$)"
    r"|(?:^|(?<= ))#(?=[\w-]{8}\.[0-9]+\.[\w+/]{40}$)"
)
_ESCAPED = r"(?<![^ ])\\x(23|61|63|6c)"


def kept_apart(text: str) -> str:
    """Return a text, whose fields are escaped already, as it may stand in a line."""
    # The hot path of a watched signal: few texts hold one of these.
    if "chain " in text or "lost " in text or " accessed " in text or "#" in text:
        return re.sub(_TAKEN, _escape, text)
    return text


def as_it_was(text: str) -> str:
    """Return what ``kept_apart`` was given."""
    return re.sub(_ESCAPED, lambda match: chr(int(match[1], 16)), text)


def _escape(match: re.Match[str]) -> str:
    return f"{match[0][:-1]}\\x{ord(match[0][-1]):02x}"
