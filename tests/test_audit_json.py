from __future__ import annotations

import json
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability import parse_audit_line
from flask_signal_observability import parse_journal_line
from flask_signal_observability.audit.json_line import format_journal
from flask_signal_observability.audit.json_line import format_line
from flask_signal_observability.audit.json_line import unique_id
from flask_signal_observability.audit.json_records import JsonRecords
from flask_signal_observability.audit.line import format_journal as format_text_journal
from flask_signal_observability.audit.line import format_line as format_text_line
from flask_signal_observability.audit.reading import after_tear
from flask_signal_observability.audit.record import AuditGap
from flask_signal_observability.audit.record import AuditLineError
from flask_signal_observability.audit.record import AuditRecord
from flask_signal_observability.audit.record import JournalRecord
from flask_signal_observability.forwarding import claimed_addresses
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.redaction import Redaction

WHEN = datetime(2026, 11, 22, 10, 9, 0, 123456, tzinfo=timezone.utc)
NS = 1_795_342_140_123_456_789

hostile = st.one_of(
    st.text(st.characters(codec=None, categories=None)),
    st.text('a"{}[]:,\\u… \n\r\x0b\x1b\x7f\x85\xa0\u2028\u202e\u2066\ufeff\ud83d\ude00😀\U000e0041'),
    st.sampled_from(['"}\n{"id":"', "\\ud83d\\ude00", "\\\\", "backslashed", "lost"]),
)
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))
maybe = st.none() | hostile
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=8,
)
records = st.builds(
    AuditRecord,
    time=times,
    user=hostile,
    address=hostile,
    path=hostile,
    id=maybe,
    peer_address=maybe,
    claimed_addresses=st.lists(hostile, max_size=3).map(tuple),
    method=maybe,
    action=hostile,
    object=maybe,
    outcome=maybe,
    status=st.none() | st.integers(100, 599),
    request_id=maybe,
    trace_id=maybe,
    changes=values,
)
gaps = st.builds(AuditGap, time=times, lost=st.integers(1, 10**18 - 1), since=times, until=times, id=maybe)
journal = st.builds(JournalRecord, time=times, app=hostile, error=hostile, id=maybe, request_id=maybe, trace_id=maybe)


def plain(**fields):
    return AuditRecord(**{"time": WHEN, "user": "alice", "address": "203.0.113.7", "path": "/x", **fields})


@given(records | gaps)
def test_parsing_a_json_line_gives_back_exactly_what_was_written(record):
    assert parse_audit_line(format_line(record).decode()) == record


@given(journal | gaps)
def test_the_journal_in_json_parses_to_exactly_what_was_written(record):
    assert parse_journal_line(format_journal(record).decode()) == record


@given(times, hostile, hostile)
def test_the_journal_in_text_parses_to_exactly_what_was_written(time, app, error):
    record = JournalRecord(time, app, error)
    assert parse_journal_line(format_text_journal(record).decode()) == record


@given(gaps)
def test_a_gap_in_text_parses_to_what_was_written_without_its_id(gap):
    parsed = parse_audit_line(format_text_line(gap).decode())
    assert (parsed.time, parsed.lost, parsed.since, parsed.until) == (gap.time, gap.lost, gap.since, gap.until)
    assert parse_journal_line(format_text_line(gap).decode()) == parsed


@given(records)
def test_a_json_record_is_one_line_of_json_that_every_reader_takes(record):
    data = format_line(record)
    line = data.decode()
    assert line.splitlines() == [line]
    assert line.isprintable() or not line.isascii()
    json.loads(line)
    json.loads(line)["time"].encode()
    json.dumps(json.loads(line), ensure_ascii=False).encode()  # no lone surrogates


@given(records, records)
def test_two_different_records_are_two_different_json_lines(one, other):
    assert (format_line(one) == format_line(other)) == (one == other)


@pytest.mark.parametrize("character", "\x7f\x85\xa0\xad\u061c\u200b\u2028\u202e\u2066\ufeff")
def test_nothing_hides_in_a_json_line_or_reorders_it(character):
    assert f'"user.id":"a\\u{ord(character):04x}b"'.encode() in format_line(plain(user=f"a{character}b"))


def test_a_character_beyond_the_first_plane_is_escaped_as_json_does_it():
    line = format_line(plain(user="\U000e0041"))
    assert rb'"\udb40\udc41"' in line
    assert json.loads(line)["user.id"] == "\U000e0041"


def test_a_lone_surrogate_is_told_in_a_way_that_readers_of_json_take():
    line = json.loads(format_line(plain(user="\ud800", path="a\\b")))
    assert (line["backslashed"], line["user.id"], line["url.path"]) == (True, r"\ud800", r"a\\b")


def test_long_fields_are_cut_and_changes_are_not():
    record = parse_audit_line(format_line(plain(user="u" * 5000, changes={"text": "c" * 5000})).decode())
    assert record.user == "u" * 2047 + "…"
    assert record.changes == {"text": "c" * 5000}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        "[]",
        '{"time":7}',
        "{" * 100_000,
        '{"a":' * 50_000,
        format_line(plain()).decode() + " ",
        format_line(plain()).decode().replace(",", ", "),
        format_line(plain()).decode().replace("alice", "al\\u0069ce"),
        format_line(plain()).decode().replace('"action"', '"more":1,"action"'),
        format_line(plain()).decode().replace("+00:00", "+01:00"),
        format_line(plain()).decode().replace("alice", "a\u2028b"),
        format_line(plain(status=200)).decode().replace("200", "200.0"),
        format_line(plain(changes=1)).decode().replace('"changes":1', '"changes":NaN'),
        '{"user.id":"x","user.id":"y"}',
    ],
)
def test_what_is_no_json_line_of_ours_is_refused(line):
    with pytest.raises(AuditLineError):
        parse_audit_line(line)
    with pytest.raises(AuditLineError):
        parse_journal_line(line)


def test_ids_are_uuids_of_version_7_that_sort_as_their_times_do():
    import uuid

    ids = [unique_id(NS + step * 250) for step in range(2000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 2000
    assert len({unique_id(NS) for _ in range(2000)}) == 2000
    for each in ids[:50]:
        parsed = uuid.UUID(each)
        assert (parsed.variant, (parsed.int >> 76) & 0xF) == (uuid.RFC_4122, 7)
        assert datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=parsed.int >> 80) == WHEN.replace(
            microsecond=123000
        )


@given(records, records, st.integers(0, 10_000), st.sampled_from([format_line, format_text_line]))
def test_a_record_that_follows_a_tear_is_found(torn, whole, length, form):
    before = form(torn).decode()
    before = before[: length % len(before)]
    line = form(whole).decode()
    expected = line if before else None
    assert after_tear(before + line) == expected


requests = st.builds(
    lambda peer, forwarded, request_id, trace_id, status: SimpleNamespace(
        environ={} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded},
        method="GET",
        method_original=None,
        peer_address=peer,
        request_id=request_id,
        trace_id=trace_id,
        status=status,
        error_type=None,
        errors=(),
    ),
    maybe,
    st.none() | hostile | st.ip_addresses().map(str),
    maybe | st.just("c6afe1ce" * 4),
    st.none() | st.just("7e981054" * 4),
    st.none() | st.integers(200, 599),
)


@given(hostile | st.text(st.characters(max_codepoint=127), max_size=2100), hostile, requests)
def test_the_line_of_a_request_parses_to_exactly_what_was_told(path, user, request):
    told = JsonRecords(Redaction(())).access(NS, user, "203.0.113.7", path, request, None)
    record = parse_audit_line(told.decode())
    assert record.user == user
    assert record.path == record.object == (path if len(path) <= 2048 else path[:2047] + "…")
    assert (record.peer_address, record.request_id) == (request.peer_address, request.request_id)
    assert (record.trace_id, record.status) == (request.trace_id, request.status)
    assert record.claimed_addresses == claimed_addresses(request.environ)


def test_the_line_of_a_plain_request_is_the_one_that_a_dict_would_be():
    request = RequestRecord(None, "shop", {"HTTP_X_FORWARDED_FOR": "192.0.2.1"}, "GET", NS, 0, lambda record: None)
    request.peer_address, request.status, request.request_id = "127.0.0.1", 404, "c6afe1ce" * 4
    records = JsonRecords(Redaction(()))
    plain_line = records.access(NS, 'a"b', "203.0.113.7", "/x\t\x7f", request, None)
    beyond_ascii = records.access(NS, 'a"b', "203.0.113.7", "/x\t\x7fé", request, None)
    assert without_id(plain_line) == without_id(beyond_ascii).replace("é".encode(), b"")


def without_id(line):
    return line[len('{"id":"01234567-0123-0123-0123-0123456789ab"') :]
