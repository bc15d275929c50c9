from __future__ import annotations

import logging

import pytest

from flask_signal_observability.guard import Guard


def fail(error: BaseException) -> None:
    raise error


def test_a_call_that_fails_is_counted_and_does_not_stop_the_next() -> None:
    guard, counted, reached = Guard(), [], []
    guard.count = lambda sink, stage: counted.append((sink, stage))
    guard.each("finish", [("a", lambda _: fail(OSError())), ("b", reached.append)], "record")
    assert counted == [("a", "finish")]
    assert reached == ["record"]


def test_what_is_no_exception_passes() -> None:
    guard = Guard()
    with pytest.raises(SystemExit):
        guard.each("finish", [("a", lambda: fail(SystemExit()))])
    with pytest.raises(KeyboardInterrupt):
        guard.call("a", "finish", fail, KeyboardInterrupt())


def test_what_passes_does_so_when_all_others_were_told() -> None:
    guard, reached = Guard(), []
    calls = [("a", reached.append), ("b", lambda _: fail(SystemExit())), ("c", reached.append)]
    with pytest.raises(SystemExit):
        guard.each("finish", calls, "record")
    assert reached == ["record", "record"]


def test_a_call_gives_its_result_or_the_default() -> None:
    guard = Guard()
    assert guard.call("a", "user", lambda: "alice") == "alice"
    assert guard.call("a", "user", fail, ValueError(), default="nobody") == "nobody"


def test_a_place_that_keeps_failing_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard()
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for _ in range(3):
        guard.failed("audit", "finish", OSError("disk full"))
    guard.failed("audit", "event", OSError("disk full"))
    now[0] += 61
    guard.failed("audit", "finish", OSError("disk full"))
    assert [record.args[:2] for record in caplog.records] == [
        ("audit", "finish"),
        ("audit", "event"),
        ("audit", "finish"),
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert "disk full" in caplog.text


def test_a_counter_that_fails_is_survived() -> None:
    guard = Guard()
    guard.count = lambda sink, stage: fail(RuntimeError())
    guard.failed("audit", "finish", OSError())


def test_a_stage_counts_what_fails_and_tells_the_next() -> None:
    guard, counted, reached = Guard(), [], []
    guard.count = lambda sink, stage: counted.append((sink, stage))
    guard.stage("finish", [("a", lambda _: fail(OSError())), ("b", reached.append)])("record")
    assert counted == [("a", "finish")]
    assert reached == ["record"]


def test_a_stage_lets_pass_what_is_no_exception_when_all_others_were_told() -> None:
    guard, reached = Guard(), []
    calls = [("a", reached.append), ("b", lambda _: fail(SystemExit())), ("c", reached.append)]
    with pytest.raises(SystemExit):
        guard.stage("finish", calls)("record")
    assert reached == ["record", "record"]
