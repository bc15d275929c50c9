"""Kinds of settings: what each accepts, as a Python value and as text of the environment, and what to do otherwise."""

# What overrides Kind's methods is told by its class.
# ruff: noqa: D102

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import io
import ipaddress
import logging
import math
import os
import re
import sys
from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from typing import Generic
from typing import Protocol
from typing import TypeVar

from .errors import ConfigurationError

__all__ = [
    "Access",
    "Boolean",
    "Choice",
    "FilePath",
    "Function",
    "Integer",
    "Kind",
    "Labels",
    "Level",
    "Matching",
    "Names",
    "Number",
    "OrNone",
    "Proxies",
    "Secret",
    "Shared",
    "Stream",
    "TextStream",
    "setting",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", bound=str)

SHOWN_CHARACTERS = 200
"""An error shows this much of a value at most."""

NOT_IN_ENVIRONMENT = "the environment cannot hold it; pass it as a keyword or set it in app.config"


class TextStream(Protocol):
    """What log lines can be written to."""

    def write(self, text: str, /) -> object:
        """Write ``text``."""


class Kind(Generic[T_co]):
    """What one setting accepts. A refusal is a ``ValueError`` whose message is the remedy.

    ``check`` gives the same answer for what it returned before, so that a value may be checked twice. No kind is a
    dataclass: making five of them took a tenth of the package's import.
    """

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
        return dataclasses.field(default_factory=lambda: default, hash=False, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Boolean(Kind[bool]):
    """True or False; in the environment true/false, 1/0, yes/no, on/off in any case."""

    def check(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError("give True or False")

    def from_text(self, text: str) -> bool:
        word = text.strip().lower()
        if word in ("true", "1", "yes", "on"):
            return True
        if word in ("false", "0", "no", "off"):
            return False
        raise ValueError("write true or false (1 or 0, yes or no, on or off)")


class Integer(Kind[int]):
    """A whole number between two bounds, both included."""

    def __init__(self, minimum: int, maximum: float = math.inf) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def check(self, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return int(value)
        upper = "up" if self.maximum == math.inf else f"to {self.maximum}"
        raise ValueError(f"give a whole number from {self.minimum} {upper}")

    def from_text(self, text: str) -> int:
        with contextlib.suppress(ValueError):
            return self.check(int(text))
        return self.check(text)


@dataclasses.dataclass(frozen=True)
class Number(Kind[float]):
    """A number between two bounds, both included."""

    minimum: float
    maximum: float = math.inf

    def check(self, value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and self.minimum <= value <= min(self.maximum, sys.float_info.max):
            return float(value)
        upper = "up" if self.maximum == math.inf else f"to {self.maximum:g}"
        raise ValueError(f"give a number from {self.minimum:g} {upper}")

    def from_text(self, text: str) -> float:
        with contextlib.suppress(ValueError):
            return self.check(float(text))
        return self.check(text)


class Choice(Kind[S]):
    """One of a few words, in any case."""

    def __init__(self, *words: S) -> None:
        self.words = words

    def check(self, value: Any) -> S:
        for word in self.words:
            if isinstance(value, str) and value.strip().lower() == word.lower():
                return word
        raise ValueError(f"give one of {', '.join(map(repr, self.words))}")


class Level(Choice[str]):
    """The name of one of the standard library's log levels, or its number."""

    def __init__(self) -> None:
        super().__init__("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

    def check(self, value: Any) -> str:
        numbered = {getattr(logging, word): word for word in self.words}
        return super().check(numbered.get(value) if isinstance(value, int) else value)


class Matching(Kind[str]):
    """A string of a given form; ``lower`` where case does not count."""

    def __init__(self, pattern: str, remedy: str, *, lower: bool = False) -> None:
        self.pattern = pattern
        self.remedy = remedy
        self.lower = lower

    def check(self, value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(self.pattern, value, re.DOTALL):
            return value.lower() if self.lower else value
        raise ValueError(self.remedy)


class Names(Kind[tuple[str, ...]]):
    """Several strings of one kind, each once: a tuple, list or set, or one bare string; in the environment by comma."""

    def __init__(self, item: Kind[str]) -> None:
        self.item = item

    def check(self, value: Any) -> tuple[str, ...]:
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, (tuple, list, set, frozenset)):
            raise ValueError("give a tuple of strings")  # noqa: TRY004 - every refusal is a ValueError
        names = tuple(dict.fromkeys(self.item.check(each) for each in values))
        return tuple(sorted(names)) if isinstance(value, (set, frozenset)) else names

    def from_text(self, text: str) -> tuple[str, ...]:
        return self.check([part.strip() for part in text.split(",") if part.strip()])


class OrNone(Kind[T | None]):
    """Another kind, or None; in the environment ``none`` or nothing at all."""

    def __init__(self, kind: Kind[T]) -> None:
        self.kind = kind

    def check(self, value: Any) -> T | None:
        return None if value is None else self.kind.check(value)

    def from_text(self, text: str) -> T | None:
        return None if text.strip().lower() in ("", "none") else self.kind.from_text(text)

    def shown(self, value: object) -> str:
        return "None" if value is None else self.kind.shown(value)


class Function(Kind[Callable[..., Any]]):
    """A callable that takes so many positional arguments."""

    def __init__(self, *, arguments: int) -> None:
        self.arguments = arguments

    def check(self, value: Any) -> Callable[..., Any]:
        if callable(value) and self._takes_them(value):
            return value  # type: ignore[no-any-return]
        raise ValueError(f"give a callable that takes {self.arguments or 'no'} argument{'s' * (self.arguments != 1)}")

    def _takes_them(self, value: Callable[..., Any]) -> bool:
        try:
            inspect.signature(value).bind(*range(self.arguments))
        except TypeError:
            return False
        except ValueError:  # a builtin may not tell
            return True
        return True

    def from_text(self, text: str) -> Callable[..., Any]:
        raise ValueError(NOT_IN_ENVIRONMENT)


class FilePath(Kind[str]):
    """The path of a file, as a string or an ``os.PathLike``."""

    def check(self, value: Any) -> str:
        path = os.fsdecode(value) if isinstance(value, os.PathLike) else value
        if isinstance(path, str) and path and "\0" not in path:
            return path
        raise ValueError("give the path of a file")


class Secret(Kind[str]):
    """A string that is never shown, of so many bytes at least."""

    def __init__(self, minimum_bytes: int) -> None:
        self.minimum_bytes = minimum_bytes

    def check(self, value: Any) -> str:
        if isinstance(value, str) and len(value.strip().encode("utf-8", "replace")) >= self.minimum_bytes:
            return value.strip()
        raise ValueError(f"give a secret string of at least {self.minimum_bytes} bytes: openssl rand -base64 32")

    def shown(self, value: object) -> str:
        return f"<{type(value).__name__}, not shown>"


class Shared(Kind[str]):
    """``auto``, ``off``, or the absolute path of a directory."""

    def check(self, value: Any) -> str:
        if value in ("auto", "off"):
            return str(value)
        with contextlib.suppress(ValueError):
            path = FilePath().check(value)
            if os.path.isabs(path):  # noqa: PTH117 - a string, which it stays
                return path
        raise ValueError("give 'auto', 'off' or the absolute path of a directory")


class Stream(Kind["str | TextStream"]):
    """``stdout``, ``stderr``, ``otlp``, the path of a file, or an open text stream."""

    def check(self, value: Any) -> str | TextStream:
        remedy = "give 'stdout', 'stderr', 'otlp', the path of a file or an open text stream"
        if isinstance(value, (io.RawIOBase, io.BufferedIOBase)):
            raise ValueError("it takes bytes; open it in text mode")  # noqa: TRY004
        if hasattr(value, "write"):
            return value  # type: ignore[no-any-return]
        try:
            return FilePath().check(value)
        except ValueError:
            raise ValueError(remedy) from None


class Labels(Kind[Mapping[str, tuple[str, ...]]]):
    """Metric labels, each with the values that it may take; read-only.

    Names as in https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels.
    """

    NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
    OURS = ("flask_app", "http_request_method", "url_scheme", "http_route", "http_response_status_code", "error_type")
    PROMETHEUS = ("le", "quantile")
    VALUES = Names(Matching(r"[^\ud800-\udfff]+", "give each label its allowed values, none of them empty"))

    def check(self, value: Any) -> Mapping[str, tuple[str, ...]]:
        if not isinstance(value, Mapping):
            raise ValueError("give a mapping of label names to allowed values")  # noqa: TRY004
        return MappingProxyType({self._name(name): self._values(name, values) for name, values in value.items()})

    def from_text(self, text: str) -> Mapping[str, tuple[str, ...]]:
        raise ValueError(NOT_IN_ENVIRONMENT)

    def _name(self, name: Any) -> str:
        if not isinstance(name, str) or not self.NAME.fullmatch(name):
            raise ValueError(f"{self.shown(name)} is no label name; use letters, digits and _, not __ or a digit first")
        if name in self.OURS + self.PROMETHEUS:
            raise ValueError(f"the label {name!r} is taken; choose another name")
        return name

    def _values(self, name: Any, values: Any) -> tuple[str, ...]:
        checked = self.VALUES.check(values)
        if not checked:
            raise ValueError(f"give the label {name!r} at least one allowed value")
        return checked


class Access(Kind["str | Callable[[Any], object]"]):
    """Who may read the metrics: ``private``, ``open``, ``token:<secret>``, ``networks:<cidr,cidr>`` or a callable."""

    FORMS = ("private", "open", "token", "networks")
    REMEDY = "give 'private', 'open', 'token:<secret>', 'networks:<cidr,cidr>' or a callable"

    def check(self, value: Any) -> str | Callable[[Any], object]:
        if callable(value):
            return Function(arguments=1).check(value)
        if isinstance(value, str):
            form, colon, rest = value.partition(":")
            if value in ("private", "open"):
                return value
            if colon and form == "token":
                return f"token:{self._token(rest)}"
            if colon and form == "networks":
                return f"networks:{','.join(self._network(each.strip()) for each in rest.split(','))}"
        raise ValueError(self.REMEDY)

    def shown(self, value: object) -> str:
        """Hide whatever may be a secret: one with a mistyped or forgotten ``token:`` before it, too."""
        if not isinstance(value, str):
            return f"<{type(value).__name__}>"
        form, colon, _ = value.partition(":")
        if form == "networks":
            return super().shown(value)
        is_form = difflib.get_close_matches(form.strip().lower(), self.FORMS, 1, 0.8)
        return repr(f"{form if is_form else '…'}{':…' if colon else ''}")

    @staticmethod
    def _token(text: str) -> str:
        secret = text.strip()
        if not secret or not secret.isprintable():
            raise ValueError("give a token that is not empty and can be printed")
        return secret

    @staticmethod
    def _network(text: str) -> str:
        return network_text(text)


class Proxies(Kind["int | tuple[str, ...]"]):
    """How many proxies to believe, or the networks that they are in: a tuple, or text with commas."""

    def check(self, value: Any) -> int | tuple[str, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.removeprefix("networks:").split(",") if part.strip()]
        if isinstance(value, (tuple, list, set, frozenset)) and all(isinstance(each, str) for each in value):
            networks = tuple(dict.fromkeys(map(network_text, value)))
            return networks or 0
        try:
            return Integer(0).check(value)
        except ValueError as refusal:
            raise ValueError(f"{refusal}, or the networks of the proxies, such as ('10.0.0.0/8',)") from None

    def from_text(self, text: str) -> int | tuple[str, ...]:
        return self.check(int(text) if text.strip().isdecimal() else text)


def network_text(text: str) -> str:
    """Return a network in CIDR form as ``ipaddress`` writes it; a refusal is a ``ValueError``."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network; write networks in CIDR form, such as 10.0.0.0/8") from None
    if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"{text} has host bits set; write {network}")
    return str(network)
