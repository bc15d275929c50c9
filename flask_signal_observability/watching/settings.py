"""What one watch is asked for, checked: whatever can be known to be wrong is an error before anything is connected."""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import TYPE_CHECKING

import blinker
from werkzeug.local import LocalProxy

from ..errors import ConfigurationError
from ..settings import Boolean
from .keywords import CALLABLE
from .keywords import FIELDS
from .keywords import KEYS
from .keywords import Keywords
from .keywords import Label
from .kinds import Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalogue import Metric
    from ..record import Outputs
    from .template import AuditTemplate

__all__ = ["WatchSettings", "check_sender", "disagreement"]


@dataclasses.dataclass(frozen=True, eq=False)
class WatchSettings:
    """One watch, checked."""

    signal: blinker.Signal
    name: str
    asynchronous: bool
    count: Metric | None
    measure: Metric | None
    labels: tuple[Label, ...]
    value: str | Callable[[Any, dict[str, Any]], Any] | None
    """None: the time between two signals."""
    started: blinker.Signal | None
    """What announces the start of a span; ``signal`` announces its end."""
    outputs: Outputs
    audit: AuditTemplate | None
    when: Callable[[Any, dict[str, Any]], object] | None
    fields: tuple[str, ...] | None
    redact: tuple[str, ...]

    @property
    def metrics(self) -> list[Metric]:
        """The families that it needs."""
        return [metric for metric in (self.count, self.measure) if metric is not None]

    @property
    def asked(self) -> tuple[Any, ...]:
        """What two watches have in common that were asked for in the same words; of a function that is its code."""
        outputs = self.outputs
        return (
            *(self.signal, self.started, self.name, self.asynchronous, self.fields, self.redact),
            *(self.count, self.measure, self.labels, _code_of(self.value), _code_of(self.when)),
            *(outputs.level, outputs.span_event, outputs.span, None if self.audit is None else self.audit.text),
        )

    @classmethod
    def of(
        cls,
        signal: Any,
        *,
        where: str = "",
        name: str | None = None,
        count: str | None = None,
        labels: Any = None,
        measure: str | None = None,
        value: Any = None,
        buckets: Any = None,
        span_event: Any = None,
        span: Any = False,
        log: Any = None,
        audit: Any = None,
        when: Any = None,
        fields: Any = None,
        redact: Any = (),
        asynchronous: Any = False,
        many: bool = False,
        told_anyhow: bool = False,
    ) -> WatchSettings:
        """Return the keywords of ``watch``, checked.

        ``where`` is what the errors name, ``many`` means one signal of a namespace, of which the metrics say the name,
        and with ``told_anyhow`` there is somebody to tell, whatever is asked for.

        Raises:
            ConfigurationError: For what cannot work.
        """
        ask = Keywords(where or "watch()")
        started = ask.span(span)
        name = ask.name(ask.signal(signal, "signal"), name)
        path_labels = ask.labels(labels)
        duration_is_known = started is not None
        checked = cls(
            signal=signal,
            name=name,
            asynchronous=ask.read(Boolean(), "asynchronous", asynchronous),
            count=ask.counter(count, name, path_labels, many=many),
            measure=ask.histogram(measure, name, path_labels, buckets, many=many),
            labels=path_labels,
            value=ask.value(value, measure, duration_is_known=duration_is_known),
            started=started,
            outputs=ask.outputs(name, span_event, log, is_span=bool(span), is_audited=audit is not None),
            audit=ask.optional(Template(), "audit", audit),
            when=ask.optional(CALLABLE, "when", when),
            fields=ask.optional(FIELDS, "fields", fields),
            redact=ask.read(KEYS, "redact", redact),
        )
        ask.agrees(checked, span=span, told_anyhow=told_anyhow)
        return checked


def _code_of(thing: Any) -> Any:
    return getattr(thing, "__code__", thing)


def check_sender(sender: Any, where: str = "watch()") -> Any:
    """Return whose signals are watched.

    Raises:
        ConfigurationError: Nothing is ever sent by it.
    """
    if type(sender) is LocalProxy:
        raise ConfigurationError(
            f"{where}: sender={sender!r}: a proxy is never the sender; give sender._get_current_object()"
        )
    if sender is not blinker.ANY and isinstance(sender, int) and not sender:
        raise ConfigurationError(f"{where}: sender={sender!r}: Blinker takes 0 and False for any sender")
    return sender


def disagreement(metric: Metric, other: Metric) -> str | None:
    """Return in what two metrics of one name differ; None where they do not."""
    for attribute in ("kind", "labels", "buckets"):
        own, others = getattr(metric, attribute), getattr(other, attribute)
        if own != others:
            return f"{attribute} {own!r} and {others!r}"
    return None
