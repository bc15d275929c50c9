"""The text of an audit line as it was asked for, of which a payload can write nothing but its own fields."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from ..audit.escaping import unbackslashed
from ..audit.line import escape_field
from ..audit.line import is_plain_text
from .fields import check_path

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AuditTemplate"]

MISSING = "-"

SHORT = 1024
"""Characters of which nothing is ever to be cut."""


class AuditTemplate:
    """``{user}@{ip} paid {amount}``: names in braces, with dots to look into an object.

    Space and controls are escaped in every field, and the sign that parts it from the field before, too: so the fields
    can be told apart again, whatever they hold. :meth:`read` does that.

    Raises:
        ValueError: No such template; the message is the remedy.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        self._format = ""
        self._before: list[str] = []
        pattern = []
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"close each brace and double those that are text ({error})") from None
        for literal, name, spec, conversion in parts:
            if not is_plain_text(literal):
                raise ValueError("write it in one line, without control characters or a backslash")
            self._format += literal.replace("%", "%%")
            pattern.append(re.escape(literal))
            if name is None:
                continue
            if spec or conversion:
                raise ValueError(f"name the field alone: {{{name}}}, without a conversion or a format")
            check_path(name)
            before = literal[-1:].strip() if self.names else ""
            if self.names and (not literal or before.isalnum()):  # an escape is made of letters and digits
                raise ValueError(f"put a space or a sign before {{{name}}}: else nobody can tell where it begins")
            self.names.append(name)
            self._format += "%s"
            self._before.append(before)
            pattern.append(f"([^ {re.escape(before)}]*)")
        if not text.strip():
            raise ValueError("give a text")
        self._pattern = re.compile("".join(pattern))
        self._escaped = tuple({" ", "\\", *self._before} - {""})

    def fill(self, values: Sequence[str | None]) -> str:
        """Return the text with its fields in their order, what is missing or empty as ``-``."""
        fields = [value or MISSING for value in values] if None in values or "" in values else values
        # The hot path: mostly nothing is to be escaped, and to see that at once costs less than a look at each field.
        if not self._is_plain("".join(fields)):  # type: ignore[arg-type]
            fields = [escape_field(value or "", before) for value, before in zip(fields, self._before)]  # noqa: B905
        return self._format % tuple(fields)

    def _is_plain(self, fields: str) -> bool:
        if len(fields) > SHORT or not fields.isascii() or not fields.isprintable():
            return False
        for sign in self._escaped:  # noqa: SIM110 - all() takes twice as long
            if sign in fields:
                return False
        return True

    def read(self, text: str) -> dict[str, str]:
        """Return the fields of a text that :meth:`fill` made.

        Raises:
            ValueError: It made no such text.
        """
        match = self._pattern.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not of the form {self.text!r}")
        return {name: unbackslashed(field) for name, field in zip(self.names, match.groups(), strict=True)}
