"""Where settings are looked for: keywords, ``app.config``, the environment."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .settings import Kind

    Kinds = Mapping[str, Kind[Any]]

__all__ = ["PREFIX", "Given", "given_settings", "service_name"]

PREFIX = "OBSERVABILITY_"

NEAR_MISS = 0.85
"""How like a field an environment variable must be to be taken for a typing error (difflib's ratio): a letter too many
or too few in any name, or a wrong one in seven. OBSERVABILITY_AUDIT_PORT, of a Kubernetes Service, has 0.8."""

SERVICE_LINK = r"(tcp|udp|sctp)://"
"""What Kubernetes puts into <SERVICE>_PORT: a Service ``observability-metrics`` sets OBSERVABILITY_METRICS_PORT.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""


class Given(NamedTuple):
    """A value, and its key as the user wrote it."""

    key: str
    value: Any
    source: str
    is_text: bool = False

    def read(self, kind: Kind[Any]) -> Any:
        """Return the checked value; raise a ``ConfigurationError`` that names the key."""
        return kind.read(self.key, self.value, is_text=self.is_text)


def given_settings(
    kinds: Kinds, app_config: Mapping[str, Any], keywords: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Given]:
    """Return what is given for each setting, unchecked: a keyword beats ``app.config``, which beats the environment.

    Raises:
        ConfigurationError: A key is unknown.
    """
    return {
        **_from_environment(kinds, environ),
        **_from_app_config(kinds, app_config),
        **_from_keywords(kinds, keywords),
    }


def service_name(environ: Mapping[str, str], app_name: str) -> Given:
    """Return the name that OpenTelemetry's variables give, in the order of its specification, else the app's."""
    resource = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    pairs = [pair.partition("=") for pair in resource.split(",")]
    attributes = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    for key, name in (
        ("OTEL_SERVICE_NAME", environ.get("OTEL_SERVICE_NAME")),
        ("OTEL_RESOURCE_ATTRIBUTES", attributes.get("service.name")),
    ):
        if name:
            written = f"environment variable {key}"
            return Given(written, name, written)
    return Given("app.name", app_name, "app.name")


def _from_keywords(kinds: Kinds, keywords: Mapping[str, Any]) -> dict[str, Given]:
    for key in keywords:
        if key not in kinds:
            raise _unknown(f"keyword {key}", get_close_matches(key, kinds, 1))
    return {key: Given(key, value, "keyword") for key, value in keywords.items()}


def _from_app_config(kinds: Kinds, app_config: Mapping[str, Any]) -> dict[str, Given]:
    given = {}
    for key, value in app_config.items():
        if key.startswith(PREFIX):
            written = f'app.config["{key}"]'
            name = key.removeprefix(PREFIX).lower()
            if name not in kinds or key != variable(name):
                raise _unknown(written, [variable(near) for near in get_close_matches(name, kinds, 1)])
            given[name] = Given(written, value, written)
    return given


def _from_environment(kinds: Kinds, environ: Mapping[str, str]) -> dict[str, Given]:
    given = {}
    for key, text in environ.items():
        if key.startswith(PREFIX) and not re.match(SERVICE_LINK, text):
            written = f"environment variable {key}"
            name = key.removeprefix(PREFIX).lower()
            if name in kinds and key == variable(name):
                given[name] = Given(written, text, written, is_text=True)
            elif near := get_close_matches(name, kinds, 1, NEAR_MISS):
                raise _unknown(written, [variable(near[0])])
    return given


def variable(name: str) -> str:
    """Return the key of ``app.config``, and the environment variable, of a setting."""
    return PREFIX + name.upper()


def _unknown(written: str, near: list[str]) -> ConfigurationError:
    """The value is not shown: nobody knows whether it is a secret."""
    remedy = f"did you mean {near[0]}?" if near else "help(flask_signal_observability.Config) lists them all"
    return ConfigurationError(f"{written} is no setting; {remedy}")
