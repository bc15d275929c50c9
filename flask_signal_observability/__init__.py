"""Flask's signals as OpenTelemetry spans, Prometheus metrics, structlog JSON records and an audit file.

``Observability(app)`` is the whole set-up.
"""

from __future__ import annotations

from .audit_line import AuditRecord
from .audit_line import parse_audit_line
from .config import Config
from .errors import ConfigurationError
from .errors import ObservabilityError
from .exclusion import exempt
from .extension import Observability
from .log_config import add_request_context
from .log_config import configure_logging
from .propagation import carry_context
from .record import EventRecord
from .record import RequestRecord
from .record import Sink
from .signals import access_logged
from .signals import annotate
from .signals import event_bus

__all__ = [
    "AuditRecord",
    "Config",
    "ConfigurationError",
    "EventRecord",
    "Observability",
    "ObservabilityError",
    "RequestRecord",
    "Sink",
    "access_logged",
    "add_request_context",
    "annotate",
    "carry_context",
    "configure_logging",
    "event_bus",
    "exempt",
    "parse_audit_line",
]
