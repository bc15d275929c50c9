"""What a forked child must not share with its parent: locks that a thread held which was not forked with it."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Renewable", "renew_in_children"]


class Renewable(Protocol):
    """Something with locks."""

    def renew(self) -> None:
        """Be as if made anew in this process; called in a child before any other thread of it runs."""


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(renewable: Renewable) -> None:
    """Call its ``renew`` in every forked child, for as long as somebody has it."""
    _renewables.add(renewable)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew()


os.register_at_fork(after_in_child=_renew_all)
