"""Every setting with its value, where that comes from, and what it means."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any
from typing import TYPE_CHECKING

from ..config import Config

if TYPE_CHECKING:
    from ..settings import Kind

__all__ = ["DEFAULT", "Setting", "as_markdown", "settings_of"]

DEFAULT = "default"
UNGIVEN = (DEFAULT, "app.name")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of ``Config``, as it may be shown: no secrets."""

    name: str
    environment_variable: str
    value: Any
    """As it is, or as its kind shows it where that hides something."""
    default: Any
    source: str
    """``keyword``, ``app.config[…]``, ``environment variable …``, ``app.name`` or ``default``."""
    meaning: str

    @property
    def is_given(self) -> bool:
        """Whether somebody has set it."""
        return self.source not in UNGIVEN


def settings_of(config: Config) -> list[Setting]:
    """Return all settings, in the order of ``Config``."""
    plain = Config()
    return [
        Setting(
            field.name,
            f"OBSERVABILITY_{field.name.upper()}",
            _shown(field.metadata["kind"], getattr(config, field.name)),
            _shown(field.metadata["kind"], getattr(plain, field.name)),
            config.sources.get(field.name, DEFAULT),
            meanings().get(field.name, ""),
        )
        for field in dataclasses.fields(Config)
    ]


def _shown(kind: Kind[Any], value: object) -> Any:
    """What a kind shows in full hides nothing."""
    shown = kind.shown(value)
    return _plain(value) if shown == repr(value) else shown.removeprefix("'").removesuffix("'")


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)


@lru_cache(maxsize=1)
def meanings() -> Mapping[str, str]:
    """Return what the fields' docstrings say, each in one line; nothing where the package has no sources."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(Config))).body
    except OSError:
        return {}
    found = {}
    for statement, following in pairwise(getattr(definition, "body", ())):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = " ".join(text.split()).replace("``", "`")
    return found


def as_markdown() -> str:
    """Return the reference of all settings as a table in Markdown; it ends with a newline."""
    rows = [
        f"| `{setting.name}` | `{setting.environment_variable}` | `{_default_text(setting.default)}` "
        f"| {setting.meaning.replace('|', chr(92) + '|')} |"
        for setting in settings_of(Config())
    ]
    return "\n".join(["| Name | Environment variable | Default | Meaning |", "|---|---|---|---|", *rows]) + "\n"


def _default_text(default: Any) -> str:
    return default if isinstance(default, str) else repr(default).replace("[]", "()")
