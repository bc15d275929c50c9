from __future__ import annotations

import errno
import os
import time
from datetime import datetime
from datetime import timezone
from functools import partial
from pathlib import Path

import pytest

from flask_signal_observability.audit.reading import parse_audit_line
from flask_signal_observability.config import Config
from flask_signal_observability.guard import Guard
from flask_signal_observability.record import EventRecord
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.sinks.audit import AuditSink

NS = 1_795_342_140_123_456_789


class Files:
    """An audit sink on real files, and what it counted."""

    def __init__(self, directory, **config):
        self.audit = directory / "access_audit.log"
        self.journal = directory / "error_journal.log"
        self.guard = Guard()
        self.failures = []
        self.guard.count = lambda sink, stage: self.failures.append(sink)
        config = {"audit_path": str(self.audit), "error_journal_path": str(self.journal), **config}
        self.sink = AuditSink(Config(**config), self.guard, "<Flask 'shop'>")
        self.outcomes = []
        self.sink.count = self.outcomes.append
        self.sink.count_written = partial(self.outcomes.append, "written")

    def lines(self):
        return self.audit.read_text().splitlines()


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**config):
        made.append(Files(tmp_path, **config))
        return made[-1]

    yield make
    for files in made:
        files.sink.close()


@pytest.fixture
def files(make):
    return make()


def access(user="alice", ip="203.0.113.7", path="/dashboard"):
    return EventRecord("access_logged", "shop", {"user": user, "ip": ip, "path": path}, NS)


def failure(error):
    return EventRecord("exception", "shop", {}, NS, error=error)


def request(**attributes):
    record = RequestRecord(None, "shop", {}, "GET", NS - 5_000_000, 0, lambda record: None)
    record.end(5_000_000)
    for name, value in attributes.items():
        setattr(record, name, value)
    return record


def test_the_sink_is_called_audit_and_sees_the_errors_of_excluded_requests(files):
    assert files.sink.name == "audit"
    assert files.sink.sees_excluded_errors is True


def test_nothing_is_on_disk_before_the_first_record(files, tmp_path):
    assert list(tmp_path.iterdir()) == []


def test_an_access_is_the_seeds_line(files):
    files.sink.event(access(), None)
    assert files.audit.read_bytes() == (b"[2026-11-22T10:09:00.123456+00:00] alice@203.0.113.7 accessed /dashboard\n")
    assert not files.journal.exists()
    assert files.outcomes == ["written"]


def test_an_access_by_nobody_from_nowhere_is_anonymous(files):
    files.sink.event(access(user=None, ip=None, path=None), None)
    files.sink.event(EventRecord("access_logged", "shop", {}, NS), None)
    files.sink.event(access(user="", ip="", path=""), None)
    assert [line.partition("] ")[2] for line in files.lines()] == ["anonymous@- accessed -"] * 3


def test_a_user_may_be_a_number_and_zero_is_one(files):
    files.sink.event(access(user=0), None)
    assert parse_audit_line(files.lines()[0]).user == "0"


def test_a_hostile_user_and_path_stay_on_one_line_and_parse_back(files):
    user, path = "al ice@evil\n\ud800", "/x\r\n[2026] root@- accessed /\u2028"
    files.sink.event(access(user=user, path=path), None)
    (line,) = files.lines()
    record = parse_audit_line(line)
    assert (record.user, record.address, record.path) == (user, "203.0.113.7", path)
    assert record.time == datetime(2026, 11, 22, 10, 9, 0, 123456, tzinfo=timezone.utc)


def test_an_unhandled_error_is_the_seeds_journal_line(files):
    try:
        10 / 0  # noqa: B018
    except ZeroDivisionError as error:
        files.sink.event(failure(error), request())
    assert files.journal.read_bytes() == (
        b"[2026-11-22T10:09:00.123456+00:00] Critical error in <Flask 'shop'>: ZeroDivisionError: division by zero\n"
    )
    assert not files.audit.exists()
    assert files.outcomes == []


def test_an_error_of_many_lines_is_one_line_of_the_journal(files):
    files.sink.event(failure(ValueError("a\nb\r\u2028c \ud800")), None)
    files.sink.event(failure(ValueError("next")), None)
    first, second = files.journal.read_text().splitlines()
    assert first.endswith(r": ValueError: a\x0ab\x0d\u2028c \ud800")
    assert second.endswith(": ValueError: next")


def test_an_error_whose_text_raises_is_still_in_the_journal(files):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    files.sink.event(failure(Mute()), None)
    assert "Mute" in files.journal.read_text()


@pytest.mark.parametrize("name", ["template_rendered", "message_flashed", "order_paid"])
def test_other_events_are_none_of_its_business(files, tmp_path, name):
    files.sink.event(EventRecord(name, "shop", {"user": "alice"}, NS, error=ValueError()), request())
    files.sink.event(failure(None), None)
    assert list(tmp_path.iterdir()) == []


def test_requests_are_not_audited_unless_asked_for(files):
    files.sink.finish(request(path="/x"))
    assert not files.audit.exists()
    assert files.outcomes == []


def test_an_audited_request_is_one_line_at_the_time_of_its_end(make):
    files = make(audit_requests=True)
    record = request(path="/api/x", user="alice", client_address="2001:db8::1")
    files.sink.finish(record)
    assert files.lines() == ["[2026-11-22T10:09:00.123456+00:00] alice@2001:db8::1 accessed /api/x"]
    assert record.audit_written is True
    assert files.outcomes == []


def test_an_audited_request_that_is_lost_is_none_that_was_written(make, tmp_path):
    files = make(audit_requests=True, audit_path=str(tmp_path / "logs" / "audit.log"))
    record = request(path="/x")
    with pytest.raises(FileNotFoundError):
        files.sink.finish(record)
    assert record.audit_written is False
    assert files.outcomes == ["lost"]


def test_an_audited_request_of_nobody_is_anonymous(make):
    files = make(audit_requests=True)
    files.sink.finish(request(path="/x"))
    assert files.lines() == ["[2026-11-22T10:09:00.123456+00:00] anonymous@- accessed /x"]


def test_a_request_that_logged_its_access_itself_is_not_written_again(make):
    files = make(audit_requests=True)
    record = request(path="/dashboard")
    files.sink.event(access(), record)
    files.sink.finish(record)
    assert record.audited is True
    assert len(files.lines()) == 1


def test_an_error_does_not_make_a_request_audited(make):
    files = make(audit_requests=True)
    record = request(path="/x")
    files.sink.event(failure(ValueError("x")), record)
    files.sink.finish(record)
    assert len(files.lines()) == 1


def test_a_line_that_cannot_be_written_is_lost_and_an_error_until_it_can_be(make, tmp_path):
    files = make(audit_path=str(tmp_path / "logs" / "audit.log"))
    with pytest.raises(FileNotFoundError):
        files.sink.event(access(), None)
    (tmp_path / "logs").mkdir()
    files.sink.event(access(), None)
    assert files.outcomes == ["lost", "written"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_loses_lines_and_counts_no_journal(make):
    files = make(audit_path="/dev/full", error_journal_path="/dev/full", audit_requests=True)
    for call in (lambda: files.sink.event(access(), None), lambda: files.sink.finish(request(path="/x"))):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            call()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        files.sink.event(failure(ValueError("x")), None)
    assert files.outcomes == ["lost", "lost"]


def test_a_user_that_cannot_be_told_is_a_lost_line(files):
    class Unspeakable:
        def __str__(self):
            raise RuntimeError("no name")

    with pytest.raises(RuntimeError, match="no name"):
        files.sink.event(access(user=Unspeakable()), None)
    assert files.outcomes == ["lost"]


def test_it_writes_without_anybody_who_counts(files):
    files.sink.count = files.sink.count_written = None
    files.sink.event(access(), None)
    assert len(files.lines()) == 1


def test_lines_that_went_away_with_a_deleted_file_are_lost_and_told(files, monkeypatch, caplog):
    files.sink.event(access(), None)
    files.sink.event(access(), None)
    files.sink.event(failure(ValueError("x")), None)
    files.audit.unlink()
    files.journal.unlink()
    later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    monkeypatch.setattr("flask_signal_observability.audit.writer.monotonic", lambda: later)
    files.sink.event(access(path="/next"), None)
    files.sink.event(failure(ValueError("next")), None)
    assert files.outcomes == ["written", "written", "lost", "lost", "written"]
    assert files.failures == ["audit", "audit"]
    assert f"{files.audit} was deleted, and up to 2 lines with it" in caplog.text
    gap, line = files.lines()
    assert " lost 2 records " in gap
    assert line.endswith(" /next")
    assert len(files.journal.read_text().splitlines()) == 1


def test_a_closed_sink_still_takes_a_late_record(files):
    files.sink.event(access(), None)
    files.sink.close()
    files.sink.event(access(), None)
    assert len(files.lines()) == 2
