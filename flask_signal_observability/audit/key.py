"""The secret that an audit chain is made with, and the digest that it gives.

BLAKE2b in its keyed mode (RFC 7693, 2.5), 240 bits, with a key and without: half the time of an HMAC-SHA-256 whose
padded key is hashed once, a quarter of ``hmac.digest`` (tests/benchmarks/audit_chain.py prints it).
"""

from __future__ import annotations

import binascii
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AuditKey"]

MINIMUM_BYTES = 16
"""A shorter key can be guessed: NIST SP 800-131A asks 112 bits of a MAC's key."""

MAXIMUM_BYTES = 4096
"""A longer file is another one, given by mistake."""

DIGEST_BYTES = 30
"""A multiple of three, so that its base64 has no padding to cut off."""

MAC_CHARACTERS = 40

FORBIDDEN = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


class AuditKey:
    """A key, or with ``None`` the lack of one. Neither its repr nor an error tells it.

    Args:
        secret: At least 16 bytes that cannot be guessed, such as ``openssl rand -base64 32`` prints; None: the chain
            is a plain hash, which anybody can make anew.

    Raises:
        ConfigurationError: The secret is too short.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        if secret is not None and len(secret) < MINIMUM_BYTES:
            raise ConfigurationError(
                f"the audit key has {len(secret)} bytes; give at least {MINIMUM_BYTES}: openssl rand -base64 32"
            )
        key = b"" if secret is None else hashlib.blake2b(secret, person=b"audit key").digest()
        self.start = hashlib.blake2b(key=key, digest_size=DIGEST_BYTES, person=b"audit chain")
        """A state to copy: the key is in it."""
        self.id = "-" if secret is None else hashlib.blake2b(key=key, digest_size=4, person=b"audit key id").hexdigest()
        """Names the key and does not tell it; ``-`` without one."""

    def __repr__(self) -> str:
        return f"AuditKey(id={self.id!r})"

    def mac(self, message: bytes) -> bytes:
        """Return the digest of ``message`` as 40 characters of base64."""
        state = self.start.copy()
        state.update(message)
        return binascii.b2a_base64(state.digest(), newline=False)

    @classmethod
    def of(cls, secret: str | None, path: str | None) -> AuditKey:
        """Return the key that the settings name, or the lack of one.

        Raises:
            ConfigurationError: The file of the key cannot be used.
        """
        if path is not None:
            return cls.from_file(path)
        return cls(None if secret is None else secret.encode())

    @classmethod
    def from_file(cls, path: str | Path) -> AuditKey:
        """Return the key in a file, white space around it left out.

        Raises:
            ConfigurationError: The file cannot be read, or others can read or write it, or it holds no key.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                mode = os.fstat(descriptor).st_mode
                secret = os.read(descriptor, MAXIMUM_BYTES + 1)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigurationError(f"the audit key file cannot be read: {error}") from None
        if mode & FORBIDDEN:
            raise ConfigurationError(
                f"the audit key file {str(path)!r} has mode {stat.S_IMODE(mode):04o}: others than its owner and group "
                "can read it, or others than its owner can change it; chmod 640, and make the key anew"
            )
        if len(secret) > MAXIMUM_BYTES:
            raise ConfigurationError(f"{str(path)!r} is no audit key file: it is longer than {MAXIMUM_BYTES} bytes")
        return cls(secret.strip())
