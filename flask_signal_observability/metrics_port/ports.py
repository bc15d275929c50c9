"""The ports that the workers have told of."""

from __future__ import annotations

import logging

from .answer import Port
from .offer import read

__all__ = ["Ports"]

logger = logging.getLogger("flask_signal_observability")


class Ports:
    """Usually one; the apps of a worker may each have their own."""

    def __init__(self) -> None:
        self._ports: dict[int, Port] = {}

    def serve(self, message: bytes | None) -> None:
        """Answer at the ports of these offers and no others; without a message, at those of the last one."""
        if message is not None:
            self._take(message)
        for port in self._ports.values():
            port.open()

    def _take(self, message: bytes) -> None:
        offers = read(message)
        numbers = dict.fromkeys(offer.port for offer in offers)
        for number in self._ports.keys() - numbers.keys():
            self._ports.pop(number).close()
        for number in numbers:
            port = self._ports.get(number) or Port(number)
            try:
                port.offer([offer for offer in offers if offer.port == number])
            except OSError as error:
                logger.warning("metrics_port %d cannot tell of the workers' metrics: %s", number, error)
            else:
                self._ports[number] = port
