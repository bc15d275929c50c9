"""Whatever fails beside a request, it is answered as by the bare app, and the fault is counted where it was."""

from __future__ import annotations

import contextvars
import dataclasses
import gc
import itertools
import json
import logging
import re
import threading
from importlib import metadata
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import has_app_context
from flask import Response
from opentelemetry import propagate
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from werkzeug.test import create_environ

from flask_signal_observability import access_logged
from flask_signal_observability import annotate
from flask_signal_observability import parse_audit_line

from ..conftest import Observed
from .faults import Fault
from .faults import FAULTS
from .places import Place
from .places import PLACES
from .places import Trap
from .places import watch_all
from .site import Answer
from .site import answer
from .site import serve
from .site import SHAPES
from .site import Site
from .site import site

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

COMMAND, SCRAPE = "command", "scrape"
FEATURES: dict[str, Any] = {
    "exclude": ("endpoint:excluded",),
    "record_handled_exceptions": True,
    "capture_query": True,
    "capture_request_headers": ("host",),
    "capture_response_headers": ("content-type",),
    "log_sample_rate": 0.5,
    "sql_comments": True,
    "metric_labels": {"amount": ("3",), "currency": ("EUR",)},
    "metric_names": "flask_exporter",
}
VALUES_IN = ("watched", "audited", "annotated")
COMMAND_STAGES = ("stage signal", "stage context")
ONE_AT_A_TIME = ("log stream", "collector")
"""A stream takes one line after the other, whoever writes; a scrape waits for the one before it."""
WAIT_SECONDS = 60.0
TOLD = re.compile(r"\[[^]]+\] (anonymous|alice) [ -~]+ [ -~]+ [ -~]+$")
"""A line of the watch's own text."""
ERRORS = "observability_errors_total"
IN_FLIGHT = ("http_server_active_requests", "flask_app_contexts_active")


@dataclasses.dataclass
class Scene:
    """One place, its trap, and the app that stands behind it."""

    place: Place
    trap: Trap
    site: Site
    observed: Observed
    bare: Site
    """Hands over the same values."""
    exposition: str = ""
    errors: dict[tuple[str, ...], float] = dataclasses.field(default_factory=dict)

    def count(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return our own samples of the names that matter here, by their labels."""
        store = next(sink for sink in self.observed.pipeline.sinks if sink.name == "metrics").families.store
        found: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in (ERRORS, *IN_FLIGHT)}
        for sample in itertools.chain.from_iterable(metric.samples for metric in store.collect()):
            if sample.name in found:
                found[sample.name][tuple(sample.labels.values())] = sample.value
        return found

    def shapes(self, turn: int | None) -> tuple[str, ...]:
        """Return every shape that may come to the place, or an eighth of them, in turns."""
        every = (*(VALUES_IN if self.place.value else (*SHAPES, COMMAND)), SCRAPE)
        return every if turn is None else every[turn % 8 :: 8]

    def answers(self, turn: int | None) -> dict[str, Answer]:
        """Return the answer to each shape of request; what is in flight afterwards is nothing."""
        given = {shape: self._answer(shape) for shape in self.shapes(turn)}
        # Where a command is broken off amid its first or last signal, what it pushed stays on the books.
        checked = IN_FLIGHT[: 1 if self.place.name in COMMAND_STAGES else 2]
        counted = self.count()
        assert [name for name in checked if set(counted[name].values()) - {0}] == []
        self.errors = counted[ERRORS]
        return given

    def _answer(self, shape: str) -> Answer:
        if shape == COMMAND:
            # Flask leaves its context behind where a command is broken off: in a copy of this one.
            return contextvars.copy_context().run(self._command)
        return self._scrape() if shape == SCRAPE else answer(self.site.app, shape)

    def _command(self) -> Answer:
        try:
            with self.site.app.app_context():
                return ("done",)
        except BaseException as error:
            return (type(error),)

    def _scrape(self) -> Answer:
        environ = create_environ("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        environ["REMOTE_ADDR"] = "127.0.0.1"
        *told, body = serve(self.site.app, environ)
        if isinstance(body, bytes):
            self.exposition = body.decode()
            return (told[0],)
        return (body,)


def listen(sender: object, **payload: object) -> None:
    """Receive a signal, so that Blinker looks at its sender: Blinker 1.7 itself raises where the sender does."""


@pytest.fixture(scope="module")
def bare() -> dict[str, Answer]:
    app = site().app
    return {shape: answer(app, shape) for shape in SHAPES} | {COMMAND: ("done",), SCRAPE: ("200 OK",)}


@pytest.fixture(scope="module", params=PLACES, ids=str)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place: Place = request.param
    trap, made, bare = Trap(), site(), site()
    made.audited = lambda sender, payload: access_logged.send(sender, **payload)
    made.annotated = lambda payload: annotate(**payload)
    bare.audited = lambda sender, payload: bare.paid.send(sender)
    bare.paid.connect(listen)
    observed = Observed(
        tmp_path_factory.mktemp("abuse"), made.app, strict=False, **{**FEATURES, **place.settings(trap)}
    )
    propagator = propagate.get_global_textmap()
    place.install(trap, observed, made)
    if place.value is not None:
        watch_all(observed, made)
        for handing_over in (made, bare):
            place.value(trap, handing_over)
    yield Scene(place, trap, made, observed, bare)
    trap.fault = None
    propagate.set_global_textmap(propagator)
    observed.provider.shutdown()
    for sink in observed.pipeline.sinks:
        getattr(sink, "close", int)()


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """What is told of faults is another test's: here it is thousands of lines."""
    loggers = [logging.getLogger(name) for name in ("flask_signal_observability", "opentelemetry")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("kind", ["raises", "passes", "garbage"])
def test_a_fault_is_counted_and_changes_no_answer(scene: Scene, kind: str, bare: dict[str, Answer]) -> None:
    faults = [fault for fault in FAULTS if fault.kind == kind]
    if scene.place.value and kind != "garbage":
        pytest.skip("nothing is called here")
    for i, fault in enumerate(faults[:1] if scene.place.is_ignored and kind == "garbage" else faults):
        check(scene, fault, bare, turn=i if i else None)
        if kind == "passes" or not i:
            assert not differing(scene.answers(i), bare), fault.name
    assert list(text_string_to_metric_families(scene.exposition))
    assert all(json.loads(line) for line in scene.observed.stream.getvalue().splitlines())
    for line in scene.observed.audit_lines:
        assert TOLD.match(line) or parse_audit_line(line)


def test_whoever_hangs_holds_up_the_requests_that_call_it_and_no_other(scene: Scene, bare: dict[str, Answer]) -> None:
    if scene.place.value or scene.place.name.startswith(ONE_AT_A_TIME):
        pytest.skip("nothing is called here, or a lock of its own keeps all others waiting")
    hanging, release, hung = threading.Event(), threading.Event(), threading.Thread(target=scene.answers, args=(None,))

    def hang() -> None:
        if threading.current_thread() is hung:
            hanging.set()
            assert release.wait(WAIT_SECONDS)

    scene.trap.fault = hang
    hung.start()
    try:
        assert hanging.wait(WAIT_SECONDS)
        for shape in ("json", "watched", "broken"):
            assert answer(scene.site.app, shape) == bare[shape]
        assert hung.is_alive()
    finally:
        release.set()
        hung.join()
        scene.trap.fault = None


@pytest.mark.parametrize("kind", ["raises", "garbage"])
def test_a_rule_for_the_metrics_that_fails_lets_nobody_in(observe: Callable[..., Observed], kind: str) -> None:
    trap = Trap()
    app = observe(site().app, strict=False, metrics_access=lambda _: trap(lambda: True)).app
    environ = create_environ("/metrics") | {"REMOTE_ADDR": "127.0.0.1"}
    for fault in FAULTS:
        if fault.kind == kind:
            trap.fault = fault.act
            assert serve(app, dict(environ))[0].startswith("403"), fault.name
            assert answer(app, "json")[0] == "200 OK"
    trap.fault = None
    assert serve(app, dict(environ))[0] == "200 OK"


@pytest.mark.skipif(metadata.version("flask") >= "3.1", reason="a stream pushes its context when it is read")
def test_flask_itself_keeps_the_context_of_a_stream_whose_answer_an_error_takes_away() -> None:
    app = site().app

    @app.after_request
    def leave(response: Response) -> Response:
        raise SystemExit

    gc.disable()
    try:
        assert serve(app, create_environ("/stream"))[-1] is SystemExit
        assert has_app_context()
    finally:
        gc.enable()
        gc.collect()
    assert not has_app_context()


def check(scene: Scene, fault: Fault, bare: dict[str, Answer], *, turn: int | None) -> None:
    """Hold what is answered and counted under one fault against the bare app, and against its place."""
    before = scene.errors
    scene.trap.fault = fault.act
    try:
        given = scene.answers(turn)
        if scene.place.value:
            bare = {**bare, **{shape: answer(scene.bare.app, shape) for shape in VALUES_IN}}
    finally:
        scene.trap.fault = None
    counted = {labels for labels, value in scene.errors.items() if value > before.get(labels, 0)}
    differs = differing(given, bare)
    if fault.kind == "passes":
        for shape, answered in differs.items():
            # Where the app raises at a teardown, that is what the server sees of both.
            assert answered[-1] is bare[shape][-1] or answered[-1].__name__ == fault.name, shape
        assert differs or turn is not None or not scene.place.stages, fault.name
        assert counted == set(), fault.name
    else:
        assert not differs, fault.name
    if fault.kind == "raises" and scene.place.stages:
        assert counted or turn is not None, fault.name
        assert counted <= {(scene.place.sink, stage) for stage in scene.place.stages}, fault.name


def differing(given: dict[str, Answer], bare: dict[str, Answer]) -> dict[str, Answer]:
    return {shape: answered for shape, answered in given.items() if answered != bare[shape]}
