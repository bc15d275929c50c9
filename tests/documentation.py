"""The fenced blocks of the documents, and the commands in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "GUIDES", "ROOT", "Block", "blocks", "commands"]

ROOT = Path(__file__).parent.parent
GUIDES = tuple(
    f"examples/guides/{name}.md"
    for name in ("audit", "cost", "own-output", "production", "security", "testing", "troubleshooting")
)
DOCUMENTS = ("README.md", *GUIDES, "examples/stack/README.md", "dashboards/RUNBOOK.md")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


def blocks(*languages: str) -> list[Block]:
    """Return the blocks in one of ``languages``, of all documents."""
    found = []
    for document in DOCUMENTS:
        text = (ROOT / document).read_text("utf-8")
        for fence in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            found.append(Block(document, fence[2], textwrap.dedent(fence[3])))
    return [block for block in found if not languages or block.language in languages]


def commands() -> list[str]:
    """Return every command of the ``sh`` blocks: comments left out, continued lines and loops in one piece."""
    found = []
    for block in blocks("sh"):
        text = re.sub(r"(?m)^\s*#.*\n", "", block.text).replace("\\\n", "")
        found += re.findall(r"(?ms)^for .*?^done.*?$|^\S.*?$", text)
    return found
