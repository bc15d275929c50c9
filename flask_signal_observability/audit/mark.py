r"""What a chained audit line ends with, and the lines that tell of the chain itself.

    […] alice@203.0.113.7 accessed /dashboard #uX9-2kQa.17.5Y0n…
    {"time":"…","path":"/dashboard","chain":"uX9-2kQa.17.5Y0n…"}
    […] chain opened version=1 algorithm=blake2b-240 key=3f9a01c2 after=- saw=- #uX9-2kQa.0.Pq1…

writer, sequence number, digest. A suffix and no sidecar: it goes wherever the line is copied, shipped or rotated to,
and what stands before it is the line as it is without a chain. A field of a text line holds no space, and a JSON
object's last member is ours, so that nothing a client sends can look like one.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import NamedTuple

from ..timestamps import utc_text

__all__ = ["Mark", "Note", "split", "torn_mark", "without_mark"]

_MARK = r"([\w-]{8})\.(0|[1-9]\d{0,18})\.([\w+/]{40})"
_TEXT = re.compile(rf"(.*) #{_MARK}".encode(), re.DOTALL)
_JSON = re.compile(rf'(.*),"chain":"{_MARK}"\}}'.encode(), re.DOTALL)
_TORN = re.compile(rb'.*(?: #|,"chain":")([\w-]{8})\.(0|[1-9]\d{0,18})\.([\w+/]{8,40})', re.DOTALL)
"""With fewer than 48 bits of its digest nothing is proved."""
_NOTE = re.compile(rb"\[([^] ]*)\] chain (opened|checkpoint|closed)((?: \w+=[^ ]*)*)")
_KINDS = ("opened", "checkpoint", "closed")

JSON_NOTE = b'{"chain_note":"'
JSON_END = b'"}'


class Mark(NamedTuple):
    """The mark of one line."""

    writer: bytes
    """Eight characters, made anew by every process."""
    sequence: int
    """Counted from 0, on through rotations."""
    mac: bytes
    """Digest of the writer's last ``mac`` (nothing at first) and ``signed``."""
    signed: bytes
    """The line up to the digest."""


def split(line: bytes) -> tuple[bytes, Mark | None]:
    """Return a line, without its newline, as the record and its mark, None where it has none."""
    closing = JSON_END if line.endswith(JSON_END) else b""
    match = (_JSON if closing else _TEXT).fullmatch(line)
    if match is None:
        return line, None
    record, writer, sequence, mac = match.groups()
    return record + closing[1:], Mark(writer, int(sequence), mac, line[: match.start(4)])


def torn_mark(fragment: bytes) -> Mark | None:
    """Return the mark of a line that ends within its digest, as far as it is there; None where there is too little."""
    match = _TORN.fullmatch(fragment)
    if match is None:
        return None
    writer, sequence, mac = match.groups()
    return Mark(writer, int(sequence), mac, fragment[: match.start(3)])


def without_mark(line: str) -> str:
    """Return the record part of a line, as it is without a chain."""
    return split(line.encode("utf-8", "surrogatepass"))[0].decode("utf-8", "surrogatepass")


@dataclasses.dataclass(frozen=True)
class Note:
    """A line that tells of the chain: ``opened``, ``checkpoint`` or ``closed``."""

    kind: str
    time: str
    """As in a record: ``2026-11-22T10:09:00.123456+00:00``."""
    fields: dict[str, str]
    """Values hold no space."""

    @classmethod
    def at(cls, unix_ns: int, kind: str, fields: dict[str, str]) -> Note:
        """Return the note of a moment."""
        return cls(kind, f"{utc_text(unix_ns)}+00:00", fields)

    def line(self, *, as_json: bool) -> bytes:
        """Return it in the style of the records around it, without a newline."""
        if as_json:
            return json.dumps(
                {"chain_note": self.kind, "time": self.time, **self.fields}, separators=(",", ":")
            ).encode()
        fields = "".join(f" {name}={value}" for name, value in self.fields.items())
        return f"[{self.time}] chain {self.kind}{fields}".encode()

    @classmethod
    def read(cls, record: bytes) -> Note | None:
        """Return the note that a line without its mark is, None where it is none."""
        if record.startswith(JSON_NOTE):
            return cls._read_json(record)
        match = _NOTE.fullmatch(record)
        if match is None:
            return None
        time, kind, fields = (part.decode("utf-8", "replace") for part in match.groups())
        return cls(kind, time, dict(field.split("=", 1) for field in fields.split(" ")[1:]))

    @classmethod
    def _read_json(cls, record: bytes) -> Note | None:
        try:
            fields = json.loads(record)
        except (ValueError, RecursionError):
            return None
        if fields["chain_note"] not in _KINDS:
            return None
        kind, time = fields.pop("chain_note"), fields.pop("time", "")
        return cls(str(kind), str(time), {name: str(value) for name, value in fields.items()})
