"""What can go wrong wherever somebody else's code is called: it raises, it passes, or it gives something useless."""

from __future__ import annotations

import dataclasses
import errno
import itertools
from typing import Any
from typing import NoReturn
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ERRNOS = ("ENOSPC", "EIO", "EMFILE", "EROFS", "EPIPE", "ENOENT", "EACCES")
DUNDERS = (
    *("__str__", "__repr__", "__eq__", "__hash__", "__bool__", "__len__", "__iter__", "__format__", "__getattr__"),
    *("__call__", "__int__", "__float__", "__index__", "__lt__", "__enter__", "__getitem__", "__contains__"),
)


class Timeout(BaseException):
    """As gevent's: it is meant for the app or its server, and no ``except Exception`` may stop it."""


class Broken(Exception):
    """Its own text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault; ``act`` is called in place of what belongs there."""

    name: str
    act: Callable[[], Any]
    kind: str
    """``raises``, ``passes`` (a BaseException) or ``garbage``."""


def raising(error: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def act() -> NoReturn:
        raise error()

    return act


def hostile(dunder: str) -> Any:
    """Return an object that raises from one special method."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(dunder)

    members: dict[str, Any] = {dunder: refuse}
    if dunder == "__eq__":
        members["__hash__"] = object.__hash__
    return type(f"Hostile{dunder}", (), members)()


def hostile_text() -> Any:
    """Return text that raises from whatever a subclass of ``str`` can replace."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("text")

    names = ("__str__", "__repr__", "__eq__", "__len__", "encode", "isascii", "__format__", "__getitem__", "lower")
    return type("Text", (str,), {**dict.fromkeys(names, refuse), "__hash__": str.__hash__})("told")


def liar() -> Any:
    """Return an object that claims to be text."""
    return type("Liar", (), {"__class__": property(lambda self: str)})()


def endless() -> list[Any]:
    """Return a list that holds itself."""
    items: list[Any] = [1]
    items.append(items)
    return items


GARBAGE: dict[str, Callable[[], Any]] = {
    **{dunder: (lambda dunder=dunder: hostile(dunder)) for dunder in DUNDERS},
    "text": hostile_text,
    "liar": liar,
    "endless": endless,
    "None": lambda: None,
    "object": object,
    "minus one": lambda: -1,
    "zero": lambda: 0,
    "huge": lambda: 10**400,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "surrogate": lambda: "\ud800\x00\n\x1b[31m",
    "bytes": lambda: b"\xff\n",
    "long": lambda: "x" * 100_000,
    "mapping": lambda: {1: {None: set()}, "b": (1, [2])},
    "generator": lambda: (n for n in itertools.count()),
    "class": lambda: int,
}

RAISES = [
    Fault("Exception", raising(Exception), "raises"),
    Fault("Broken", raising(Broken), "raises"),
    Fault("StopIteration", raising(StopIteration), "raises"),
    Fault("RecursionError", raising(RecursionError), "raises"),
    Fault("MemoryError", raising(MemoryError), "raises"),
    Fault("UnicodeEncodeError", raising(lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no")), "raises"),
    *(Fault(name, raising(lambda name=name: OSError(getattr(errno, name), name)), "raises") for name in ERRNOS),
]
PASSES = [
    Fault(error.__name__, raising(error), "passes") for error in (Timeout, SystemExit, KeyboardInterrupt, GeneratorExit)
]
USELESS = [Fault(f"gives {name}", act, "garbage") for name, act in GARBAGE.items()]
FAULTS = [*RAISES, *PASSES, *USELESS]
