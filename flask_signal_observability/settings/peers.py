"""Who is believed and who is let in: proxies and their networks, readers of the metrics."""

# What overrides Kind's methods is told by its class.
# ruff: noqa: D102

from __future__ import annotations

import difflib
import ipaddress
from typing import Any
from typing import TYPE_CHECKING

from .kind import Kind
from .values import Function
from .values import Integer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Access", "Proxies"]


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
                return f"networks:{','.join(network_text(each.strip()) for each in rest.split(','))}"
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
