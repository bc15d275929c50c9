"""Every setting: its name, default, range and meaning."""

# A setting's default is immutable: setting() does what dataclasses.field() does.
# ruff: noqa: RUF009

from __future__ import annotations

import os
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import FrozenInstanceError
from dataclasses import MISSING
from types import MappingProxyType
from typing import Any
from typing import ClassVar
from typing import Literal
from typing import TYPE_CHECKING

from .given import given_settings
from .given import service_name
from .settings import Access
from .settings import Boolean
from .settings import Choice
from .settings import FilePath
from .settings import Function
from .settings import Integer
from .settings import Labels
from .settings import Level
from .settings import Matching
from .settings import Names
from .settings import Number
from .settings import OrNone
from .settings import Printable
from .settings import Proxies
from .settings import Secret
from .settings import setting
from .settings import Shared
from .settings import Stream
from .settings import WatchTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from .settings import Kind
    from .settings import TextStream

__all__ = ["Config"]

LogFormat = Literal["auto", "json", "console"]

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, 5.6.2
OWN_HEADERS = "connection|content-.*|date|location|server|set-cookie|transfer-encoding|vary|www-authenticate"
ID_HEADER = Matching(
    rf"(?i:(?!({OWN_HEADERS})$){TOKEN})",
    "give the name of a header: letters, digits and -, and none that HTTP gives a meaning of its own",
)
HEADERS = Names(Matching(TOKEN, "give names of headers: letters, digits and -", lower=True))
SERVICE = Printable()
KEYS = Names(Matching(r".+", "give names of keys, none of them empty"))
EXCLUSIONS = Names(Matching(r"/.*|endpoint:.+", "begin each with / (a path, * as in fnmatch) or write endpoint:<name>"))
URL_PATH = Matching(
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+",
    "give a path of ASCII letters, digits and ._~!$&'()*+,;=:@- that begins with / and does not end with it, "
    "such as /metrics",
)
METRIC_NAMES = Choice[Literal["own", "flask_exporter"]]("own", "flask_exporter")
DURABILITY = Choice[Literal["os", "interval", "group", "each"]]("os", "interval", "group", "each")
ON_ERROR = Choice[Literal["open", "closed", "stderr"]]("open", "closed", "stderr")


# For who reads types a frozen dataclass; what dataclass() compiles for fifty fields took longer than the import of any
# other room, and is written out below.
@dataclass(init=TYPE_CHECKING, frozen=TYPE_CHECKING, repr=False, eq=False)  # type: ignore[literal-required]
class Config:
    """The settings of one app, checked and never changed.

    A field is a keyword of ``Observability``, the key ``OBSERVABILITY_<NAME>`` of ``app.config`` and an environment
    variable of that name; the first that is given counts. Safe to share between threads.

    Raises:
        ConfigurationError: A value cannot work; the message names the key, the value and the remedy.
    """

    service_name: str | None = setting(OrNone(SERVICE), default=None)
    """Who we are, in resources and records; None: ``OTEL_SERVICE_NAME``, else the ``service.name`` of
    ``OTEL_RESOURCE_ATTRIBUTES``, else the app's name."""

    tracing: bool = setting(Boolean(), default=True)
    """Makes spans."""

    metrics: bool = setting(Boolean(), default=True)
    """Counts and times for Prometheus."""

    logs: bool = setting(Boolean(), default=True)
    """Writes structured records."""

    audit: bool = setting(Boolean(), default=True)
    """Writes the audit file and the error journal."""

    exclude: tuple[str, ...] = setting(EXCLUSIONS, default=())
    """What no sink sees: paths with their mount prefix (``/static/*``, as in fnmatch) and ``endpoint:<name>``."""

    request_id_header: str = setting(ID_HEADER, default="X-Request-ID")
    """The header that brings a request id and takes it back on every response."""

    trusted_proxies: int | tuple[str, ...] = setting(Proxies(), default=0)
    """How many of the rightmost X-Forwarded-For (else Forwarded) hops to believe, from 0: the peer's address alone; or
    the networks of the proxies: each hop is believed while the one that told it is in them."""

    user: Callable[[], object] | None = setting(OrNone(Function(arguments=0)), default=None)
    """Returns the current user's id, and never touches ``session``; None: ``g.current_user``, else Flask-Login's."""

    capture_request_headers: tuple[str, ...] = setting(HEADERS, default=())
    """Request headers that spans and records carry, lower-case."""

    capture_response_headers: tuple[str, ...] = setting(HEADERS, default=())
    """Response headers that spans and records carry, lower-case."""

    redact: tuple[str, ...] = setting(KEYS, default=())
    """Keys masked in headers, query strings and fields, besides those that always are."""

    capture_query: bool = setting(Boolean(), default=False)
    """Carries ``url.query``, redacted."""

    record_handled_exceptions: bool = setting(Boolean(), default=False)
    """Records the errors, too, that an errorhandler of the app answered."""

    exception_message: bool = setting(Boolean(), default=True)
    """Carries ``exception.message``; False where messages may hold what must not leave the process."""

    log_level: str = setting(Level(), default="INFO")
    """The least level that is written: DEBUG, INFO, WARNING, ERROR or CRITICAL."""

    log_format: LogFormat = setting(Choice[LogFormat]("auto", "json", "console"), default="auto")
    """``auto`` is ``console`` on a terminal and ``json`` elsewhere."""

    log_stream: str | TextStream = setting(Stream(), default="stdout")
    """``stdout``, ``stderr``, the path of a file, an open text stream (not in the environment), or ``otlp``: to the
    collector, through OpenTelemetry's SDK."""

    log_schema: Literal["otel", "ecs"] = setting(Choice[Literal["otel", "ecs"]]("otel", "ecs"), default="otel")
    """The names of the fields in JSON: OpenTelemetry's, or those of the Elastic Common Schema."""

    log_sample_rate: float = setting(Number(0, 1), default=1.0)
    """The share, 0 to 1, of requests whose records are written though their trace is not sampled; errors and slow
    requests always are."""

    slow_request_seconds: float = setting(Number(0), default=1.0)
    """From how many seconds on, from 0, a request is slow: its record is written whatever ``log_sample_rate`` says."""

    trace_response: bool = setting(Boolean(), default=False)
    """Answers with ``traceresponse`` and ``Server-Timing``, so that the client can name the trace."""

    sql_comments: bool = setting(Boolean(), default=False)
    """Tells the database instrumentations framework, endpoint and route, for the comments that they write."""

    flush_timeout_seconds: int = setting(Integer(1, 3600), default=5)
    """How long, 1 to 3600 s, a process that ends waits for the collector to take its last spans, and once more for its
    metrics with ``metrics_push``; less than the server's patience, which is 30 s in gunicorn (``graceful_timeout``)."""

    metrics_path: str | None = setting(OrNone(URL_PATH), default="/metrics")
    """Where the app answers with its metrics, after the mount prefix; None: nowhere."""

    metrics_access: str | Callable[[Any], object] = setting(Access(), default="private")
    """Who may read them: ``private``, ``open``, ``token:<secret>``, ``networks:<cidr,cidr>``, or a callable that takes
    the request and returns True."""

    metrics_port: int | None = setting(OrNone(Integer(1, 65535)), default=None)
    """A TCP port, 1 to 65535, that serves the metrics, too, on all interfaces; with the hooks for gunicorn, apart from
    the workers."""

    metrics_shared: str = setting(Shared(), default="auto")
    """Whose metrics a scrape adds up: ``auto``, all workers of the gunicorn or uWSGI server that this process belongs
    to; ``off``, this process's own; or a directory of this user's alone, all processes that name it."""

    metrics_push: bool = setting(Boolean(), default=False)
    """Sends the metrics of each process over OTLP, too: as the ``OTEL_*`` variables say, and when the process ends."""

    metric_names: Literal["own", "flask_exporter"] = setting(METRIC_NAMES, default="own")
    """``flask_exporter``: tells the durations under prometheus-flask-exporter's names, too, made at a scrape."""

    metric_labels: Mapping[str, tuple[str, ...]] = setting(Labels(), default=MappingProxyType({}))
    """The annotations that become metric labels, each with its allowed values (not in the environment)."""

    max_routes: int = setting(Integer(1), default=1000)
    """How many routes an app's metrics tell apart, from 1; the others are ``_OTHER``."""

    max_label_values: int = setting(Integer(1), default=100)
    """How many templates, categories and error types the metrics tell apart, each, from 1."""

    max_series: int = setting(Integer(1), default=10_000)
    """How many series a metric family may have, from 1, whatever its labels."""

    context_signals: bool = setting(Boolean(), default=True)
    """Observes the four context and teardown signals, too."""

    watch: Mapping[str, Mapping[str, Any]] = setting(WatchTable(), default=MappingProxyType({}))
    """The app's own signals that are watched, by where they are (``shop.signals:order_paid``; a namespace: all of its
    signals), each with the keywords of ``Observability.watch``; in the environment as JSON."""

    audit_path: str = setting(FilePath(), default="access_audit.log")
    """The audit file; made at the first record."""

    error_journal_path: str = setting(FilePath(), default="error_journal.log")
    """The journal of errors nobody handled; made at the first record."""

    audit_requests: bool = setting(Boolean(), default=False)
    """Writes an audit line for every request, not only for ``access_logged``."""

    audit_format: Literal["text", "json"] = setting(Choice[Literal["text", "json"]]("text", "json"), default="text")
    """How records of the audit file and of the error journal are written: as a line of text or one JSON object."""

    audit_durability: Literal["os", "interval", "group", "each"] = setting(DURABILITY, default="os")
    """When a record is safe from a power failure: ``os``, when the kernel likes; ``interval``, after
    ``audit_interval_seconds``; ``group``, when the request goes on, after an fdatasync shared with other threads;
    ``each``, then too, after one of its own. From the end of the process it is safe always."""

    audit_interval_seconds: float = setting(Number(0.001, 3600), default=1.0)
    """How long, 0.001 to 3600 s, a record waits for its fdatasync with ``audit_durability="interval"``."""

    audit_on_error: Literal["open", "closed", "stderr"] = setting(ON_ERROR, default="open")
    """What becomes of a request whose record cannot be written: ``open``, it goes on and the record is counted as lost;
    ``closed``, it is answered with a 503, and ``access_logged.send`` raises ServiceUnavailable; ``stderr``, it goes on
    and the record goes to standard error."""

    audit_rotate_bytes: int | None = setting(OrNone(Integer(4096)), default=None)
    """From how many bytes on, from 4096, the audit file and the error journal are, each, renamed and packed; None:
    never."""

    audit_rotate_seconds: int | None = setting(OrNone(Integer(1)), default=None)
    """They are, too, at each multiple of so many seconds since 1970: 86400 is midnight in UTC; None: never."""

    audit_keep: int | None = setting(OrNone(Integer(1)), default=None)
    """How many renamed files of each stay, from 1; None: all of them."""

    audit_chain: bool = setting(Boolean(), default=False)
    """Seals the audit file's lines, each with a digest of itself and of those before it."""

    audit_key: str | None = setting(OrNone(Secret(16)), default=None)
    """What the digests are keyed with, at least 16 bytes: who does not know it cannot make them."""

    audit_key_file: str | None = setting(OrNone(FilePath()), default=None)
    """The file that holds it, which others than its owner and group may not read."""

    sources: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Where :meth:`resolve` found each value that is no default, in words."""

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            if not values.keys() <= _KINDS.keys():
                raise TypeError(f"Config() takes no {', '.join(sorted(values.keys() - _KINDS.keys()))}")
            for name, default in _DEFAULTS.items():
                value = values.get(name, default)
                if value is not default:  # which is as it should be: checking them was half of a resolve
                    value = _KINDS[name].read(name, value)
                object.__setattr__(self, name, value)
            self._check_audit_key()

        def __setattr__(self, name: str, value: object) -> None:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name: str) -> None:
            raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _check_audit_key(self) -> None:
        if self.audit_key is not None or self.audit_key_file is not None:
            from .prerequisites import check_audit_key  # noqa: PLC0415 - most starts have no use for it

            check_audit_key(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _KINDS)

    def __hash__(self) -> int:
        values = [getattr(self, name) for name in _KINDS]
        return hash(tuple(value for value in values if not isinstance(value, MappingProxyType)))

    def __repr__(self) -> str:
        """Name what differs from the defaults, secrets masked."""
        plain = Config()
        changed = {name: getattr(self, name) for name in _KINDS if getattr(self, name) != getattr(plain, name)}
        return f"Config({', '.join(f'{name}={_KINDS[name].shown(value)}' for name, value in changed.items())})"

    @classmethod
    def resolve(
        cls,
        app_name: str,
        app_config: Mapping[str, Any],
        keywords: Mapping[str, Any],
        environ: Mapping[str, str] = os.environ,
    ) -> Config:
        """Return an app's settings: a keyword beats ``app.config``, which beats the environment.

        Args:
            app_name: The service's name where nothing else names it.
            app_config: ``app.config``; only ``OBSERVABILITY_*`` keys are read, and each must be a field's.
            keywords: Fields by name.
            environ: Environment variables; of those that are no field's only a near miss of one is an error, since
                Kubernetes makes up names such as ``OBSERVABILITY_PORT_4318_TCP``.

        Raises:
            ConfigurationError: A key is unknown, or a value cannot work.
        """
        given = given_settings(_KINDS, app_config, keywords, environ)
        values = {name: each.read(_KINDS[name]) for name, each in given.items()}
        if values.get("service_name") is None:
            given["service_name"] = service_name(environ, app_name)
            values["service_name"] = given["service_name"].read(SERVICE)
        config = cls.__new__(cls)
        # First: a key of the environment, which verify reads too, is not refused.
        object.__setattr__(config, "sources", {name: each.source for name, each in given.items()})
        cls.__init__(config, **values)
        return config

    @staticmethod
    def origins(
        app_config: Mapping[str, Any], keywords: Mapping[str, Any], environ: Mapping[str, str] = os.environ
    ) -> dict[str, str]:
        """Return where each setting that is given comes from: its key as the user wrote it, by the field's name.

        Raises:
            ConfigurationError: A key is unknown.
        """
        given = given_settings(_KINDS, app_config, keywords, environ)
        return {name: f"keyword {name}" if name in keywords else each.key for name, each in given.items()}

    def shown(self, name: str) -> str:
        """Return the value of a setting as it may be shown: no secrets, not too long."""
        return _KINDS[name].shown(getattr(self, name))


_KINDS: dict[str, Kind[Any]] = {field.name: field.metadata["kind"] for field in fields(Config)}
_DEFAULTS = {
    field.name: field.default if field.default_factory is MISSING else field.default_factory()
    for field in fields(Config)
}
