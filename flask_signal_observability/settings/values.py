"""Values of any setting: truth, numbers, words, texts, callables."""

# What overrides Kind's methods is told by its class.
# ruff: noqa: D102

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import re
import sys
from collections.abc import Callable
from typing import Any
from typing import TypeVar

from .kind import Kind
from .kind import NOT_IN_ENVIRONMENT

__all__ = [
    "Boolean",
    "Choice",
    "Function",
    "Integer",
    "Level",
    "Matching",
    "Names",
    "Number",
    "OrNone",
    "Printable",
    "Secret",
]

T = TypeVar("T")
S = TypeVar("S", bound=str)


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


class Number(Kind[float]):
    """A number between two bounds, both included."""

    def __init__(self, minimum: float, maximum: float = math.inf) -> None:
        self.minimum = minimum
        self.maximum = maximum

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


class Printable(Matching):
    """A name without controls, not of spaces alone."""

    def __init__(self) -> None:
        super().__init__(r"(?=.*\S)[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+", "give a name that can be printed")

    def check(self, value: Any) -> str:
        # Nearly every name, and every start has one: to compile the pattern took a tenth of init_app.
        if isinstance(value, str) and value.isprintable() and value.strip():
            return value
        return super().check(value)


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
