"""An HTTP status, or a class of them, on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

__all__ = ["Status"]


class Status(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A status such as 404, or a class such as 5xx."""

    name = "code"
    FORM = re.compile(r"[1-5](\d\d|xx)", re.IGNORECASE)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it in lower case."""
        if self.FORM.fullmatch(str(value)) is None:
            self.fail(f"{value!r} is no status: give one such as 404, or a class: 5xx.", param, ctx)
        return str(value).lower()
