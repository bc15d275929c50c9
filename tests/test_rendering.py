from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import gc
import io
import json
import math
import sys
import threading
import uuid
from collections import OrderedDict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.redaction import mask_strings
from flask_signal_observability.rendering import make_renderer
from flask_signal_observability.rendering import timestamp_of
from flask_signal_observability.rendering import to_console_line
from flask_signal_observability.rendering import to_json_line
from flask_signal_observability.safe_copy import MAX_FIELD_BYTES
from flask_signal_observability.safe_copy import SafeCopy
from flask_signal_observability.streams import LogStream
from flask_signal_observability.tracebacks import exception_dicts


def record_of(event_dict):
    """The record as a strict reader sees it: one line, UTF-8, no NaN."""
    line = to_json_line(event_dict)
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1
    record = json.loads(line.decode("utf-8", "strict"), parse_constant=pytest.fail)
    assert isinstance(record, dict)
    return record


class BrokenRepr:
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


class BrokenClass(BrokenRepr):
    """Lies about its class, too, and its error has no text."""

    @property
    def __class__(self):
        raise BrokenError

    def __repr__(self):
        raise BrokenError


class BrokenError(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class SurrogateRepr:
    def __repr__(self):
        return "\udcff"


class BrokenDict(dict):
    def items(self):
        raise RuntimeError("no items")

    __iter__ = keys = values = items


class BrokenZone(dt.tzinfo):
    def utcoffset(self, moment):
        raise RuntimeError("no offset")


@dataclasses.dataclass
class Point:
    x: object
    y: object = None


class Unset:
    pass


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: object


def with_unset_slot():
    slotted = Slotted(1)
    del slotted.x
    return slotted


class Colour(enum.Enum):
    RED = "red"
    ODD = object()


# Not BrokenClass: Hypothesis itself trips over it.
NASTY = st.sampled_from(
    [
        BrokenRepr,
        SurrogateRepr,
        lambda: BrokenDict(a=1),
        lambda: Point(1, BrokenRepr()),
        with_unset_slot,
        lambda: dt.datetime(2026, 11, 22, tzinfo=BrokenZone()),
        lambda: dt.date(2026, 11, 22),
        lambda: dt.timedelta(1),
        lambda: Colour.RED,
        lambda: Colour.ODD,
        lambda: Decimal("1.10"),
        lambda: uuid.UUID(int=1),
        lambda: 2**64,
        lambda: -(2**63) - 1,
        lambda: 10**5000,
        lambda: object,
        lambda: len,
        lambda: ValueError("\ud800"),
    ]
).map(lambda make: make())
ANY_TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too, which st.text() alone leaves out
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.binary(max_size=20)
    | st.complex_numbers()
    | st.frozensets(st.integers(), max_size=3)
    | NASTY
)
KEYS = ANY_TEXT | st.integers() | st.binary(max_size=3) | st.none() | st.tuples(st.integers())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(Point, inner)
    ),
    max_leaves=12,
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_whatever_a_record_holds_it_is_one_line_of_json(event_dict):
    record = record_of(event_dict)
    assert len(record) <= len(event_dict)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_what_json_can_say_comes_back_as_it_was(event_dict):
    assert record_of(event_dict) == event_dict


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=5))
def test_the_copy_that_a_bad_value_forces_keeps_the_good_ones(event_dict):
    record = record_of({**event_dict, "beyond json": 2**64})
    assert record == {**event_dict, "beyond json": str(2**64)}


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5), ANY_TEXT)
def test_whatever_a_record_holds_the_console_gets_printable_lines(event_dict, event):
    text = to_console_line({**event_dict, "event": event, "level": "info"}).decode()
    lines = text.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    # What follows the first line belongs to it, and is set off.
    assert all(line.startswith("  ") or not line for line in lines[1:])


def test_bytes_sets_and_objects_become_their_repr():
    record = record_of({"bytes": b"\xff", "set": {1}, "type": int, "decimal": Decimal("1.10")})
    assert record == {"bytes": "b'\\xff'", "set": "{1}", "type": "<class 'int'>", "decimal": "Decimal('1.10')"}


def test_dates_are_iso_8601():
    moment = dt.datetime(2026, 11, 22, 10, 9, tzinfo=dt.timezone.utc)
    assert record_of({"at": moment, "on": moment.date()}) == {"at": "2026-11-22T10:09:00+00:00", "on": "2026-11-22"}


def test_not_a_number_is_null():
    assert record_of({"nan": math.nan, "infinity": math.inf}) == {"nan": None, "infinity": None}


def test_integers_beyond_64_bits_are_text():
    assert record_of({"a": 2**64, "b": 2**64 - 1}) == {"a": str(2**64), "b": 2**64 - 1}


def test_an_integer_too_long_for_text_is_still_a_record():
    assert record_of({"huge": 10**5000, "event": "x"})["event"] == "x"


def test_lone_surrogates_are_escaped():
    assert record_of({"path": "/\udcff"}) == {"path": "/\\udcff"}


@pytest.mark.parametrize("more", [{}, {"bad": 2**64}], ids=["plain", "copied"])
def test_what_readers_take_for_the_end_of_a_line_is_escaped(more):
    text = "a\x85b\u2028c\u2029d\\\u2028\x0b\x0c\x1c\x1e\r\n€"
    line = to_json_line({"path": text, **more})
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line)["path"] == text


def test_keys_that_are_no_strings_become_strings():
    assert record_of({1: "a", None: "b", b"c": "d"}) == {"1": "a", "None": "b", "b'c'": "d"}


def test_a_key_that_only_looks_like_another_does_not_replace_it():
    class Disguised:
        def __repr__(self):
            return "level"

    assert record_of({"level": "error", Disguised(): "debug"}) == {"level": "error"}


@pytest.mark.parametrize("broken", [BrokenRepr, BrokenClass])
def test_an_object_whose_repr_raises_is_named_by_its_class(broken):
    assert broken.__name__ in record_of({"object": broken()})["object"]


def test_one_bad_value_leaves_the_others_as_they_are():
    record = record_of({"event": "x", "n": 1, "nested": {"ok": [1.5, True, None], "bad": BrokenRepr()}})
    assert record["event"] == "x"
    assert record["n"] == 1
    assert record["nested"]["ok"] == [1.5, True, None]


def test_dict_subclasses_are_objects():
    assert record_of({"d": OrderedDict(a=1), "bad": 2**64})["d"] == {"a": 1}


def test_a_system_exit_during_a_repr_passes():
    class Leaving:
        def __repr__(self):
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        to_json_line({"object": Leaving()})
    with pytest.raises(SystemExit):
        to_json_line({"long": "x" * 10_000, "object": Leaving()})


def test_a_dict_that_contains_itself_ends():
    cycle = {"event": "x"}
    cycle["self"] = cycle
    record = record_of(cycle)
    assert record["event"] == record["self"]["self"]["event"] == "x"
    assert record["truncated"] is True


def test_a_bushy_cycle_ends_soon():
    cycle = {}
    cycle.update({str(i): cycle for i in range(10)})
    assert record_of(cycle)["truncated"] is True
    wordless = []
    wordless += [wordless] * 10
    assert record_of({"list": wordless})["truncated"] is True


def test_deep_nesting_is_cut():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    record = record_of({"deep": deep, "event": "x"})
    assert record["event"] == "x"
    assert record["truncated"] is True
    assert "…" in json.dumps(record, ensure_ascii=False)


def test_a_long_field_is_cut_at_8_kib_and_the_record_says_so():
    record = record_of({"event": "x", "long": "a" * 10_000_000})
    assert len(record["long"].encode()) == MAX_FIELD_BYTES == 8192
    assert record["long"].endswith("a…")
    assert record["truncated"] is True


def test_a_field_of_exactly_8_kib_is_whole():
    record = record_of({"long": "a" * 8192})
    assert record == {"long": "a" * 8192}


def test_a_field_is_measured_in_bytes_and_cut_between_characters():
    record = record_of({"long": "€" * 4000})
    assert 8188 <= len(record["long"].encode()) <= 8192
    assert set(record["long"]) == {"€", "…"}


def test_a_long_field_inside_another_is_cut():
    assert record_of({"a": [{"b": "x" * 9000}]})["truncated"] is True


def test_a_long_record_of_short_fields_is_whole():
    event_dict = {f"key{i}": "x" * 100 for i in range(200)}
    assert record_of(event_dict) == event_dict


def test_a_long_repr_is_cut():
    record = record_of({"blob": b"x" * 100_000})
    assert record["blob"].startswith("b'xxx")
    assert len(record["blob"].encode()) <= 8192
    assert record["truncated"] is True


def test_a_record_has_an_end_whatever_is_in_it():
    record = record_of({"event": "x", **{str(i): "y" * 8000 for i in range(1000)}})
    assert record["event"] == "x"
    assert record["truncated"] is True
    assert len(json.dumps(record)) < 300_000


def test_a_record_that_another_thread_adds_to_is_rendered():
    shared = {"bad": 2**64}
    stop = threading.Event()

    def add():
        n = 0
        while not stop.is_set():
            n += 1
            shared[str(n % 5000)] = n
            shared.pop(str((n * 7) % 5000), None)

    thread = threading.Thread(target=add)
    thread.start()
    try:
        for _ in range(200):
            record_of(shared)
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on no collection interrupts a built-in function")
@pytest.mark.parametrize("times", [1, 7])
def test_a_dict_that_changes_while_a_garbage_collection_interrupts_its_copy_is_copied_again(times):
    shared = {str(n): n for n in range(10_000)}  # more than the free list of tuples holds
    changes = list(range(times))

    def change(phase, info):
        if changes and phase == "stop" and sys._getframe(1).f_code.co_name in {"_items_of", "_of_dict"}:
            del shared[next(iter(shared))]
            shared[f"new {changes.pop()}"] = 0

    thresholds = gc.get_threshold()
    gc.callbacks.append(change)
    gc.set_threshold(1000)
    try:
        copy = SafeCopy().of_record(shared)
    finally:
        gc.callbacks.remove(change)
        gc.set_threshold(*thresholds)
    assert changes == []
    assert copy == shared


def test_a_dict_that_never_stands_still_is_left_out_and_the_record_says_so(monkeypatch):
    monkeypatch.setattr("flask_signal_observability.safe_copy.ATTEMPTS", 0)
    assert SafeCopy().of_record({"a": 1}) == {"truncated": True}


@given(st.integers(0, 4_102_444_800_000_000_000))
def test_a_timestamp_has_six_digits_and_names_the_microsecond(unix_ns):
    text = timestamp_of(unix_ns)
    assert len(text) == len("2026-11-22T10:09:00.123456Z")
    parsed = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    assert (parsed - epoch) // dt.timedelta(microseconds=1) == unix_ns // 1000


def test_a_timestamp_in_the_middle_of_a_second():
    assert timestamp_of(1_795_342_140_000_042_999) == "2026-11-22T10:09:00.000042Z"


def test_credentials_are_masked_at_any_depth():
    token = "Bearer abcdef0123456789"
    masked = mask_strings({"a": token, "b": [token, (token,)], "c": {"d": token}, "n": 5})
    assert "abcdef0123456789" not in repr(masked)
    assert masked["n"] == 5


def test_masking_a_long_string_keeps_it_too_long():
    record = record_of({"long": mask_strings("x " * 1_000_000)})
    assert record["truncated"] is True


# The console.

REQUEST = {
    "timestamp": "2026-11-22T10:09:00.123456Z",
    "level": "warning",
    "event": "request_finished",
    "service": "shop",
    "request_id": "r" * 32,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "http.request.method": "GET",
    "url.path": "/items/7",
    "http.route": "/items/<int:id>",
    "http.response.status_code": 404,
    "duration_seconds": 0.0123,
    "client.address": "203.0.113.7",
    "flask.endpoint": "item",
    "tenant": "acme",
}


def console(event_dict, **options):
    return to_console_line(event_dict, **options).decode()


def test_a_request_is_one_line_of_columns():
    assert console(REQUEST).split() == [
        "10:09:00.123Z",
        "[warning",
        "]",
        "GET",
        "/items/<int:id>",
        "404",
        "12.3",
        "ms",
        "4bf92f35",
        "tenant=acme",
    ]


def test_requests_line_up():
    other = {**REQUEST, "level": "info", "http.request.method": "DELETE", "http.route": "/", "duration_seconds": 1.5}
    assert console(REQUEST).index(" ms ") == console(other).index(" ms ")
    assert console(REQUEST).index("404") == console(other).index("404")


def test_a_request_without_a_route_shows_its_path():
    assert " /items/7 " in console({key: value for key, value in REQUEST.items() if key != "http.route"})


def test_a_request_without_a_status_has_a_dash():
    aborted = {key: value for key, value in REQUEST.items() if key != "http.response.status_code"}
    assert console({**aborted, "error.type": "SystemExit"}).split()[5] == "-"


def test_a_record_of_the_apps_own_with_the_same_name_is_shown_as_it_is():
    assert "colour=red" in console({"event": "request_finished", "level": "info", "colour": "red"})


def test_a_record_that_only_looks_like_a_request_is_a_line_too():
    odd = {key: ["\x1b", {}] for key in ("http.request.method", "http.route", "http.response.status_code", "trace_id")}
    line = console({"event": "x", "level": "info", "duration_seconds": 0.5, **odd})
    assert line[:-1].isprintable()


def test_any_other_event_is_its_name_and_its_fields():
    line = console(
        {"timestamp": REQUEST["timestamp"], "level": "info", "event": "paid", "amount": 5, "trace_id": "ab" * 16}
    )
    assert line.split() == ["10:09:00.123Z", "[info", "]", "paid", "amount=5", "trace=abababab"]


def test_a_request_that_starts_is_told_from_one_that_ends():
    assert "request_started" in console({**REQUEST, "event": "request_started"})
    assert "request_finished" not in console(REQUEST)


@pytest.mark.parametrize(("status", "colour"), [(200, 32), (304, 36), (404, 33), (500, 31), (None, 31)])
def test_a_status_has_the_colour_of_its_class(status, colour):
    line = console({**REQUEST, "http.response.status_code": status}, colors=True)
    assert f"\x1b[{colour}m{status or '  -'}\x1b[0;1m" in line


def test_colours_only_on_request():
    assert "\x1b[" in console(REQUEST, colors=True)
    assert "\x1b" not in console(REQUEST, colors=False)


def test_escapes_of_the_client_do_not_reach_the_terminal():
    hostile = "/\x1b[2J\r\n10:09:00.123Z [info     ] forged\u2028\u202e"
    line = console({**REQUEST, "http.route": None, "url.path": hostile, "tenant\x1b": hostile})
    assert line.count("\n") == 1
    assert line[:-1].isprintable()


def caught(function):
    try:
        function()
    except Exception as error:
        return error


def fail():
    try:
        int("x")
    except ValueError as error:
        raise KeyError("first\nsecond \x1b[31m") from error


def test_an_exception_is_a_readable_traceback():
    text = console({"event": "exception", "level": "error", "exception": exception_dicts(caught(fail), message=True)})
    assert text.index("ValueError: invalid literal") < text.index("direct cause") < text.index("KeyError:")
    assert ", in fail\n" in text
    assert "    raise KeyError(" in text
    # Nothing in a traceback, not even a message of several lines, can be taken for a record.
    assert all(line.startswith("  ") for line in text.splitlines()[1:])
    assert "\x1b" not in text


@pytest.mark.parametrize("own", ["a\nb", 5, [1], [{"frames": 5}], [{"frames": [{}]}], {"a": 1}, [[]]])
def test_an_exception_field_of_the_apps_own_is_shown_as_it_is(own):
    assert console({"event": "x", "level": "info", "exception": own}).startswith("Z [info     ] x")


# Which of the two.


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_auto_is_the_console_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[" in make_renderer("auto", LogStream(Terminal()))(REQUEST)


def test_auto_is_json_elsewhere(tmp_path):
    for target in (io.StringIO(), str(tmp_path / "log"), tmp_path / "log"):
        assert make_renderer("auto", LogStream(target)) is to_json_line


def test_json_is_json_on_a_terminal():
    assert make_renderer("json", LogStream(Terminal())) is to_json_line


def test_the_console_has_no_colours_elsewhere():
    assert b"\x1b" not in make_renderer("console", LogStream(io.StringIO()))(REQUEST)


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b" not in make_renderer("console", LogStream(Terminal()))(REQUEST)
