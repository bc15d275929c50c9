"""What this package raises, and when: at set-up, never in a request.

ObservabilityError
└── ConfigurationError   (also a ValueError)
"""

from __future__ import annotations

__all__ = ["ConfigurationError", "ObservabilityError"]


class ObservabilityError(Exception):
    """The base of every error that this package raises itself."""


class ConfigurationError(ObservabilityError, ValueError):
    """A setting that cannot work; the message names the key, the value and the remedy. Raised at ``init_app``."""
