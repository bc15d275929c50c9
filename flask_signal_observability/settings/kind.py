"""What a setting accepts, as a Python value and as text of the environment, and what it says of anything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import Generic
from typing import TYPE_CHECKING
from typing import TypeVar

from ..errors import ConfigurationError

__all__ = ["NOT_IN_ENVIRONMENT", "Kind", "setting"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

NOT_IN_ENVIRONMENT = "the environment cannot hold it; pass it as a keyword or set it in app.config"

SHOWN_CHARACTERS = 200
"""An error shows this much of a value at most."""


class Kind(Generic[T_co]):
    """What one setting accepts. A refusal is a ``ValueError`` whose message is the remedy.

    ``check`` gives the same answer for what it returned before, so that a value may be checked twice. No kind is a
    dataclass: making five of them took a tenth of the package's import.
    """

    if not TYPE_CHECKING:

        def __class_getitem__(cls, _: object) -> type[Kind]:
            """Return the class, as for who reads types alone: typing would compile each parameter that is text."""
            return cls

    def check(self, value: Any) -> T_co:
        """Return ``value`` in its one normal form."""
        raise NotImplementedError

    def from_text(self, text: str) -> T_co:
        """Return what ``text``, from the environment, stands for."""
        return self.check(text)

    def shown(self, value: object) -> str:
        """Return ``value`` as an error or a repr may show it: no secrets, not too long."""
        try:
            text = repr(value)
        except ValueError:  # an int of more than 4300 digits has no repr
            text = object.__repr__(value)
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"

    def read(self, key: str, value: Any, *, is_text: bool = False) -> T_co:
        """Return the checked value; raise a ``ConfigurationError`` that names ``key``, as the user wrote it."""
        try:
            return self.from_text(value) if is_text else self.check(value)
        except ValueError as refusal:
            remedy = str(refusal)
        raise ConfigurationError(f"{key}={self.shown(value)}: {remedy}")


def setting(kind: Kind[T], *, default: T) -> T:
    """Declare a dataclass field of this kind. Typed as its value, as ``dataclasses.field`` is."""
    metadata = {"kind": kind}
    if isinstance(default, Mapping):  # unhashable, which dataclasses take for mutable
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
