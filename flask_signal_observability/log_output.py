"""What a log record goes to and in which form, as the settings say: one choice for the sink and the app's own lines."""

from __future__ import annotations

import logging
from typing import Any
from typing import Protocol
from typing import TYPE_CHECKING

from .audit.place import what_is_wrong_with
from .rendering import make_renderer
from .rendering import to_json_line
from .settings.places import NAMED_STREAMS
from .streams import LogStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config

    Dropped = Callable[[str, int], None]

__all__ = ["LineStream", "open_output", "warn_of_place"]

logger = logging.getLogger("flask_signal_observability")


class LineStream(Protocol):
    """What takes records as lines, from several threads, and after a fork."""

    def write(self, line: bytes, /) -> None:
        """Take one line, which ends with a newline."""

    def close(self) -> None:
        """Hand on what is kept back; a later line may open it again."""


def open_output(config: Config, dropped: Dropped | None = None) -> tuple[LineStream, Callable[[dict[str, Any]], bytes]]:
    """Return the stream that ``config`` names, and what makes its lines.

    Args:
        config: ``log_stream``, ``log_format`` and ``log_schema`` are read.
        dropped: Is told the reason and the number of records that no collector will see; on any thread.
    """
    target = config.log_stream
    if target == "otlp":
        # In here, since nobody else pays for the import.
        from .otlp_logs import open_otlp_stream  # noqa: PLC0415

        otlp = open_otlp_stream(config, dropped)
        if otlp is not None:
            return otlp, to_json_line
        target = "stdout"
    stream = LogStream(target)
    return stream, make_renderer(config.log_format, stream, config.log_schema)


def warn_of_place(config: Config) -> None:
    """Say at the start that no record can be written to the file that ``log_stream`` names, and what to do."""
    path = config.log_stream
    wrong = what_is_wrong_with(path) if isinstance(path, str) and path not in NAMED_STREAMS else None
    if wrong is not None:
        logger.warning("log_stream=%r cannot be written: %s; until then records are lost", path, wrong)
