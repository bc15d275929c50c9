"""The seed's audit signal: namespace, signal and receiver come with the package now."""

from __future__ import annotations

from flask_signal_observability import access_logged
from flask_signal_observability import event_bus

__all__ = ["access_logged", "event_bus"]
