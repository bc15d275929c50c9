"""For the tests of apps that are observed: what a request left, as plain objects.

With pytest the fixture ``observed`` is there as soon as the package is installed; without it use :class:`Observed`, or
:class:`RecordingSink` alone. Nothing is imported before somebody asks for it: every run of pytest comes by here.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from .observed import Observed
    from .recording import ObservedRequest
    from .recording import RecordingSink
    from .samples import Sample

__all__ = ["Observed", "ObservedRequest", "RecordingSink", "Sample"]

_room_of = {
    "Observed": "observed",
    "ObservedRequest": "recording",
    "RecordingSink": "recording",
    "Sample": "samples",
}


def __getattr__(name: str) -> object:
    if name not in _room_of:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f".{_room_of[name]}", __name__), name)
    globals()[name] = value
    return value
