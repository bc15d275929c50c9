"""What this package relies on of others' private names, and where: a release of theirs may drop any of them."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import flask_signal_observability

PACKAGE = Path(next(iter(flask_signal_observability.__path__)))

DROPPED_BY_FLASK = re.compile(
    r"_request_ctx_stack|_app_ctx_stack|_cv_app|_cv_request|RequestContext|AppContext\b|globals\._"
)
"""What held the contexts before Flask's main branch merged them, and what holds them since."""

HOLDERS = {
    "sinks/current_context.py": "of opentelemetry.context; without them it is asked by its functions",
    "sinks/server_span/starter.py": "of opentelemetry.sdk.trace's tracer, each in NEEDED",
    "sinks/server_span/deferral.py": "of its samplers and processors; without them a span is started at once",
    "sinks/server_span/span.py": "of its spans, as its own test holds",
    "checks/destination.py": "of OpenTelemetry's processors and exporters; without them it says less",
    "exposition.py": "of prometheus_client's registry, which does without them",
    "log_config.py": "of gunicorn's handlers, which it marks with it",
}
"""The rooms that hold private names of a library; a test of each room watches them."""

DOCUMENTED = {"_get_current_object", "_asdict", "_fields", "_replace"}
"""Private by their spelling alone: https://werkzeug.palletsprojects.com/en/stable/local/ and
https://docs.python.org/3/library/collections.html#collections.namedtuple"""


def rooms() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def code_of(room: Path) -> str:
    """The room without its docstrings and comments."""
    tree = ast.parse(room.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return ast.unparse(tree)


@pytest.mark.parametrize("room", rooms(), ids=lambda room: str(room.relative_to(PACKAGE)))
def test_a_room_uses_no_name_of_flasks_contexts(room: Path) -> None:
    assert DROPPED_BY_FLASK.findall(code_of(room)) == []


def foreign_private_names(room: Path) -> set[str]:
    """Private attributes that are read of something which is not this package's own."""
    read: set[str] = set()
    for node in ast.walk(ast.parse(room.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and not is_own(node.value):
            read.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            read.update(name.value for name in node.args[1:2] if isinstance(name, ast.Constant))
    return {name for name in read if re.match(r"_[a-z]", name)} - own_names() - DOCUMENTED


def is_own(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in {"self", "cls"}


@functools.cache
def own_names() -> set[str]:
    """Private names that this package itself gives: attributes that are set, functions and classes that are made."""
    names: set[str] = set()
    for room in rooms():
        for node in ast.walk(ast.parse(room.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


@pytest.mark.parametrize("room", rooms(), ids=lambda room: str(room.relative_to(PACKAGE)))
def test_private_names_of_others_are_held_in_a_few_rooms(room: Path) -> None:
    held = foreign_private_names(room)
    assert bool(held) == (str(room.relative_to(PACKAGE)) in HOLDERS), held


PRIVATE_MODULES = {"otlp_logs.py": "the SDK's side of logs, which is not stable yet"}
"""The rooms that import private modules of a library; a test of each room watches what is used of them."""


def foreign_private_modules(room: Path) -> set[str]:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(room.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    # _typeshed is the type checkers', and private to nobody.
    return {name for name in imported if re.search(r"(^|\.)_[a-z]", name) and not name.startswith("_typeshed")}


@pytest.mark.parametrize("room", rooms(), ids=lambda room: str(room.relative_to(PACKAGE)))
def test_private_modules_of_others_are_imported_in_one_room(room: Path) -> None:
    imported = foreign_private_modules(room)
    assert bool(imported) == (str(room.relative_to(PACKAGE)) in PRIVATE_MODULES), imported
