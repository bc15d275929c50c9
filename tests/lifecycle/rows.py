"""What Flask really does: every scenario of a request, and what must come of it.

P appcontext_pushed, S request_started, F request_finished, E got_request_exception, R request_tearing_down,
A appcontext_tearing_down, O appcontext_popped, T0 before_render_template, T1 template_rendered. A row is what Flask
3.1.2 and 3.1.3 do; ``before_3_1_2`` is the sequence of signals in 3.0 to 3.1.1 and ``from_3_2`` what 3.2 does, where
they differ.
"""

from __future__ import annotations

import dataclasses
from importlib import metadata
from typing import Any

from . import apps
from . import serving

FLASK = tuple(int(part) for part in metadata.version("flask").split(".")[:3] if part.isdecimal())


@dataclasses.dataclass(frozen=True)
class Row:
    """One scenario. What is None was never sent, is not known, or does not happen."""

    name: str
    build: apps.Build
    signals: str
    status: int | None = 200
    route: str | None = "/"
    error_type: str | None = None
    raises: str | None = None
    """The class of the error that the server gets, from the call or from the body."""
    path: str = "/"
    method: str = "GET"
    serve: serving.Serve = serving.as_a_server
    before_3_1_2: str | None = None
    from_3_2: dict[str, Any] = dataclasses.field(default_factory=dict)

    def here(self) -> Row:
        """Return the row as it is with the Flask that is installed."""
        if FLASK >= (3, 2):
            return dataclasses.replace(self, **self.from_3_2)
        if FLASK < (3, 1, 2) and self.before_3_1_2 is not None:
            return dataclasses.replace(self, signals=self.before_3_1_2)
        return self


def named(error: type[BaseException]) -> str:
    return f"{error.__module__}.{error.__qualname__}"


LATE = named(apps.Late)
ZERO = "ZeroDivisionError"

ANSWERED = [
    Row("200", apps.answers, "P S F[200] R A O"),
    Row("abort()", apps.aborts, "P S F[403] R A O", status=403),
    Row("404", apps.answers, "P S F[404] R A O", path="/missing", status=404, route=None),
    Row("405", apps.answers, "P S F[405] R A O", method="POST", status=405, route=None),
    Row("308", apps.redirects_to_the_slash, "P S F[308] R A O", path="/folder", status=308, route=None),
    Row("HEAD", apps.answers, "P S F[200] R A O", method="HEAD"),
    Row("OPTIONS", apps.answers, "P S F[200] R A O", method="OPTIONS"),
    Row(
        "static file",
        apps.has_a_static_file,
        "P S F[200] R A O",
        path="/static/rows.py",
        route="/static/<path:filename>",
    ),
    Row("before_request that answers", apps.answers_before_the_view, "P S F[200] R A O"),
    Row("handled error", apps.handles_its_error, "P S F[409] R A O", status=409),
    Row("errorhandler(Exception)", apps.handles_every_error, "P S F[503] R A O", status=503, error_type="503"),
]

UNHANDLED = [
    ("unhandled error", apps.divides, ZERO, ZERO),
    ("before_request raises", apps.fails_before_the_view, "Late", LATE),
    ("url_value_preprocessor raises", apps.fails_at_the_url_values, "Late", LATE),
    ("view returns None", apps.gives_none, "TypeError", "TypeError"),
]

ANSWERED_WITH_500 = [
    Row(name, build, f"P S E[{error}] F[500] R[{error}] A[{error}] O", status=500, error_type=error_type)
    for name, build, error, error_type in UNHANDLED
]

PROPAGATED = [
    Row(
        f"{name}, with {setting}",
        apps.both(apps.configured(**{setting: True}), build),
        f"P S E[{error}] R[{error}] A[{error}] O",
        status=None,
        error_type=error_type,
        raises=error,
    )
    for name, build, error, error_type in UNHANDLED
    for setting in ("TESTING", "DEBUG", "PROPAGATE_EXCEPTIONS")
]

FAILED = [
    Row(
        "after_request raises",
        apps.fails_after_the_view,
        "P S E[Late] R[Late] A[Late] O",
        status=500,
        error_type=LATE,
    ),
    Row(
        "errorhandler(500) itself raises",
        apps.fails_in_its_error_handler,
        f"P S E[{ZERO}] R[{ZERO}] A[{ZERO}] O",
        status=None,
        error_type=ZERO,
        raises="Late",
    ),
    *(
        Row(
            f"{error.__name__} in a view",
            apps.exits(error),
            f"P S R[{error.__name__}] A[{error.__name__}] O",
            status=None,
            error_type=error.__name__,
            raises=error.__name__,
        )
        for error in (SystemExit, KeyboardInterrupt)
    ),
    Row(
        "session interface's open_session raises",
        apps.cannot_open_sessions,
        "P E[Late] R[Late] A[Late] O",
        status=500,
        route=None,
        error_type=LATE,
    ),
    Row(
        "teardown_request raises",
        apps.fails_at_request_teardown,
        "P S F[200] A O",
        status=None,
        error_type=LATE,
        raises="Late",
        from_3_2={"signals": "P S F[200] R A O", "error_type": "ExceptionGroup", "raises": "ExceptionGroup"},
    ),
    Row(
        "teardown_appcontext raises",
        apps.fails_at_context_teardown,
        "P S F[200] R",
        status=None,
        error_type=LATE,
        raises="Late",
        from_3_2={"signals": "P S F[200] R A O", "error_type": "ExceptionGroup", "raises": "ExceptionGroup"},
    ),
    Row(
        "TRAP_HTTP_EXCEPTIONS and a 404",
        apps.configured(TRAP_HTTP_EXCEPTIONS=True),
        "P S E[NotFound] F[500] R[NotFound] A[NotFound] O",
        path="/missing",
        status=500,
        route=None,
        error_type="werkzeug.exceptions.NotFound",
    ),
]

RENDERED = [
    Row("template renders", apps.renders, "P S T0 T1 F[200] R A O"),
    Row(
        "template raises",
        apps.fails_in_a_template,
        f"P S T0 E[{ZERO}] F[500] R[{ZERO}] A[{ZERO}] O",
        status=500,
        error_type=ZERO,
    ),
    Row(
        "stream_template",
        apps.streams_a_template,
        "P S T0 F[200] R A O P chunks T1 R A O",
        before_3_1_2="P S T0 F[200] chunks T1 R A O",
        from_3_2={"signals": "P S T0 F[200] chunks T1 R A O"},
    ),
]

STREAMED = [
    Row("generator body, no context", apps.streams, "P S F[200] R A O chunks"),
    Row(
        "generator body raises half-way",
        apps.streams_and_fails,
        "P S F[200] R A O chunks",
        error_type=LATE,
        raises="Late",
    ),
    Row(
        "stream_with_context",
        apps.streams_in_its_context,
        "P S F[200] R A O P chunks R A O",
        before_3_1_2="P S F[200] chunks R A O",
        from_3_2={"signals": "P S F[200] chunks R A O"},
    ),
    Row(
        "stream_with_context: its generator raises",
        apps.streams_in_its_context_and_fails,
        "P S F[200] R A O P chunks R[Late] A[Late] O",
        error_type=LATE,
        raises="Late",
        before_3_1_2="P S F[200] chunks R[Late] A[Late] O",
        from_3_2={"signals": "P S F[200] chunks R[Late] A[Late] O"},
    ),
    Row(
        "stream_with_context: the client goes away",
        apps.streams_in_its_context,
        "P S F[200] R A O P chunks R[GeneratorExit] A[GeneratorExit] O",
        serve=serving.for_a_client_that_leaves,
        before_3_1_2="P S F[200] chunks R[GeneratorExit] A[GeneratorExit] O",
        from_3_2={"signals": "P S F[200] chunks R[GeneratorExit] A[GeneratorExit] O"},
    ),
    Row(
        "stream_with_context: closed without one chunk read",
        apps.streams_in_its_context,
        "P S F[200] R A O",
        serve=serving.without_reading,
        before_3_1_2="P S F[200] R[GeneratorExit] A[GeneratorExit] O",
        from_3_2={"signals": "P S F[200] R[GeneratorExit] A[GeneratorExit] O"},
    ),
]

NESTED = [
    Row(
        "copy_current_request_context in a view",
        apps.copies_its_context,
        "P S R F[200] R A O",
        from_3_2={"signals": "P S P R A O F[200] R A O"},
    ),
    Row(
        "copy_current_request_context in a thread of a view",
        apps.copies_its_context_to_a_thread,
        "P S P R A O F[200] R A O",
    ),
    Row(
        "nested test_request_context in a view",
        apps.nests_a_request_context,
        "P S R F[200] R A O",
        from_3_2={"signals": "P S P R A O F[200] R A O"},
    ),
    Row("nested app_context() in a view", apps.nests_an_app_context, "P S P A O F[200] R A O"),
    Row(
        "request made inside app_context()",
        apps.answers,
        "P ( S F[200] R ) A O",
        serve=serving.inside_an_app_context,
        from_3_2={"signals": "P ( P S F[200] R A O ) A O"},
    ),
    Row(
        "with app.test_client()",
        apps.answers,
        "P S F[200] R A O P R A O",
        serve=serving.with_the_test_client,
        before_3_1_2="P S F[200] R A O P P A O R A O",
    ),
]

ROWS = [*ANSWERED, *ANSWERED_WITH_500, *PROPAGATED, *FAILED, *RENDERED, *STREAMED, *NESTED]
