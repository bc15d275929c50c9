"""Flask's signals as OpenTelemetry spans, Prometheus metrics, structlog JSON records and an audit file.

``Observability(app)`` is the whole set-up.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from .audit.reading import parse_audit_line
    from .audit.reading import parse_journal_line
    from .audit.record import AuditEvent
    from .audit.record import AuditGap
    from .audit.record import AuditLineError
    from .audit.record import AuditRecord
    from .audit.record import JournalRecord
    from .config import Config
    from .errors import ConfigurationError
    from .errors import ObservabilityError
    from .exclusion import exempt
    from .extension import Observability
    from .log_config import configure_logging
    from .log_formatter import add_request_context
    from .namespace import ObservedNamespace
    from .propagation import carry_context
    from .record import EventRecord
    from .record import RequestRecord
    from .record import Sink
    from .signals import access_logged
    from .signals import annotate
    from .signals import event_bus
    from .signals import reopen_files
    from .watching.namespaces import NamespaceWatch
    from .watching.watch import Watch

__all__ = [
    "AuditEvent",
    "AuditGap",
    "AuditLineError",
    "AuditRecord",
    "Config",
    "ConfigurationError",
    "EventRecord",
    "JournalRecord",
    "NamespaceWatch",
    "Observability",
    "ObservabilityError",
    "ObservedNamespace",
    "RequestRecord",
    "Sink",
    "Watch",
    "access_logged",
    "add_request_context",
    "annotate",
    "carry_context",
    "configure_logging",
    "event_bus",
    "exempt",
    "parse_audit_line",
    "parse_journal_line",
    "reopen_files",
]

__version__ = "0.1.0"

_room_of = {
    "AuditEvent": "audit.record",
    "AuditGap": "audit.record",
    "AuditLineError": "audit.record",
    "AuditRecord": "audit.record",
    "Config": "config",
    "ConfigurationError": "errors",
    "EventRecord": "record",
    "JournalRecord": "audit.record",
    "NamespaceWatch": "watching.namespaces",
    "Observability": "extension",
    "ObservabilityError": "errors",
    "ObservedNamespace": "namespace",
    "RequestRecord": "record",
    "Sink": "record",
    "Watch": "watching.watch",
    "access_logged": "signals",
    "add_request_context": "log_formatter",
    "annotate": "signals",
    "carry_context": "propagation",
    "configure_logging": "log_config",
    "event_bus": "signals",
    "exempt": "exclusion",
    "parse_audit_line": "audit.reading",
    "parse_journal_line": "audit.reading",
    "reopen_files": "signals",
}
"""Where each name lives. It is fetched when somebody asks for it: gunicorn's master, which takes the hooks from this
package, needs neither Flask nor the SDK, and gevent wants to patch what they import before they import it."""


def __getattr__(name: str) -> object:
    if name not in _room_of:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f".{_room_of[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
