"""Kinds of settings: what each accepts, as a Python value and as text of the environment, and what to do otherwise."""

from __future__ import annotations

from .kind import Kind
from .kind import setting
from .labels import Labels
from .peers import Access
from .peers import Proxies
from .places import FilePath
from .places import Shared
from .places import Stream
from .places import TextStream
from .values import Boolean
from .values import Choice
from .values import Function
from .values import Integer
from .values import Level
from .values import Matching
from .values import Names
from .values import Number
from .values import OrNone
from .values import Printable
from .values import Secret
from .watches import WatchTable

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
    "Printable",
    "Proxies",
    "Secret",
    "Shared",
    "Stream",
    "TextStream",
    "WatchTable",
    "setting",
]
