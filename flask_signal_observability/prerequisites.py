"""What settings need of one another: one that is given in vain is told at the start, and refused where it deceives."""

from __future__ import annotations

import logging
from typing import NamedTuple
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config

__all__ = ["Vain", "check_audit_key", "given_in_vain", "warn_of_vain"]

logger = logging.getLogger("flask_signal_observability")

AUDIT_KEYS = ("audit_key", "audit_key_file")
OF_AUDIT_FILE = (
    *("audit_path", "error_journal_path", "audit_requests", "audit_format", "audit_durability", "audit_on_error"),
    *("audit_interval_seconds", "audit_rotate_bytes", "audit_rotate_seconds", "audit_keep", "audit_chain"),
    *AUDIT_KEYS,
)
OF_METRICS = (
    *("metrics_path", "metrics_access", "metrics_port", "metrics_shared", "metrics_push", "metric_names"),
    *("metric_labels", "max_routes", "max_label_values", "max_series"),
)


PREREQUISITES: tuple[tuple[tuple[str, ...], Callable[[Config], object], str, str], ...] = (
    (OF_METRICS, lambda config: config.metrics, "metrics is off", "set metrics=True"),
    (
        ("metrics_access",),
        lambda config: config.metrics_path or config.metrics_port,
        "nothing answers with the metrics",
        "set metrics_path or metrics_port",
    ),
    (
        ("trace_response", "sql_comments", "capture_response_headers"),
        lambda config: config.tracing,
        "tracing is off",
        "set tracing=True",
    ),
    (
        ("flush_timeout_seconds",),
        lambda config: config.tracing or (config.metrics and config.metrics_push) or config.log_stream == "otlp",
        "no output of this app is sent to a collector",
        'set tracing=True, metrics_push=True or log_stream="otlp"',
    ),
    (("log_sample_rate", "slow_request_seconds"), lambda config: config.logs, "logs is off", "set logs=True"),
    (
        ("slow_request_seconds",),
        lambda config: config.log_sample_rate < 1,
        "every request is logged",
        "set log_sample_rate below 1",
    ),
    (
        ("log_schema",),
        lambda config: config.log_format != "console",
        'log_format="console" has no names',
        'set log_format="json" or "auto"',
    ),
    (OF_AUDIT_FILE, lambda config: config.audit, "audit is off", "set audit=True"),
    (AUDIT_KEYS, lambda config: config.audit_chain, "audit_chain is off", "set audit_chain=True"),
    (
        ("audit_interval_seconds",),
        lambda config: config.audit_durability == "interval",
        'audit_durability is not "interval"',
        'set audit_durability="interval"',
    ),
    (
        ("audit_keep",),
        lambda config: config.audit_rotate_bytes or config.audit_rotate_seconds,
        "nothing rotates the files",
        "set audit_rotate_bytes or audit_rotate_seconds",
    ),
)
"""Settings, what must hold for them to have an effect, what is told where it does not, and the remedy.

In the order in which they are told; the first that does not hold stands for those after it. What a sink of one's own
or ``configure_logging`` may still use is not among them, nor what counts where records for a collector go
to stdout."""


class Vain(NamedTuple):
    """A setting that somebody has given, and that has no effect."""

    name: str
    cause: str
    remedy: str


def given_in_vain(config: Config) -> list[Vain]:
    """Return the settings that have no effect, of those that somebody has given and that ask for something.

    A default that is written out asks for nothing, nor does ``None``, ``False`` or 0.
    """
    asked = {name for name in config.sources if _asks(config, name)}
    found: dict[str, Vain] = {}
    for settings, holds, cause, remedy in PREREQUISITES:
        concerned = [name for name in settings if name in asked and name not in found]
        if concerned and not holds(config):
            found.update((name, Vain(name, cause, remedy)) for name in concerned)
    return list(found.values())


def _asks(config: Config, name: str) -> bool:
    value = getattr(config, name)
    return bool(value) and value != getattr(type(config), name, None)  # a dataclass keeps its defaults there


def warn_of_vain(config: Config) -> None:
    """Say in one line which settings have no effect, and why; nothing where all have one."""
    vain: dict[tuple[str, str], list[str]] = {}
    for name, cause, remedy in given_in_vain(config):
        vain.setdefault((cause, remedy), []).append(name)
    if vain:
        told = (f"{', '.join(names)} ({cause}: {remedy})" for (cause, remedy), names in vain.items())
        logger.warning("settings without effect: %s; or take them out", "; ".join(told))


def check_audit_key(config: Config) -> None:
    """Refuse what would be a false comfort: a key that seals nothing.

    One from the environment may be there for ``audit verify`` in the same shell: it is told as given in vain.

    Raises:
        ConfigurationError: A key is given without a chain, or twice.
    """
    given = [name for name in AUDIT_KEYS if getattr(config, name) is not None]
    if not config.audit_chain:
        given = [name for name in given if not config.sources.get(name, "").startswith("environment")]
        if given:
            raise ConfigurationError(
                f"{given[0]} is given and audit_chain is off: set audit_chain=True, or take the key out"
            )
    if len(given) > 1:
        raise ConfigurationError("audit_key and audit_key_file are both given; give one of them")
