"""Text that every output can write."""

from __future__ import annotations

__all__ = ["counted", "cut", "printable", "utf8"]

ELLIPSIS = "…"


def utf8(text: str) -> str:
    r"""Return ``text`` with lone surrogates as ``\udc80``: they have no UTF-8, and one would take down what it is in.

    JSON bodies and badly decoded bytes bring them; a collector drops the whole batch, an exposition the whole family.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def counted(number: int, noun: str) -> str:
    """Return ``1 server``, ``2 servers``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def cut(text: str, characters: int) -> str:
    """Return ``text``, at most so many characters of it; what is cut ends with ``…``."""
    return text if len(text) <= characters else text[: characters - 1] + ELLIPSIS


def printable(text: str) -> str:
    r"""Return ``text`` with what cannot be printed as ``\x1b``: it can neither forge a line nor touch a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
