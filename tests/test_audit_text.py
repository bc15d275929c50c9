from __future__ import annotations

import sys
import unicodedata
from datetime import datetime
from datetime import timedelta
from datetime import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability.audit.line import error_text
from flask_signal_observability.audit.line import format_access
from flask_signal_observability.audit.line import format_journal
from flask_signal_observability.audit.reading import parse_audit_line
from flask_signal_observability.audit.record import AuditLineError
from flask_signal_observability.audit.record import JournalRecord
from flask_signal_observability.audit.record import moment
from flask_signal_observability.errors import ObservabilityError

NS = 1_795_342_140_123_456_789
SEED_LINE = "[2026-11-22T10:09:00.123456+00:00] alice@203.0.113.7 accessed /dashboard"

# What attacks a line more often than chance would.
FORGERY = "a1 @\\[]x…😀\n\r\x0b\x0c\x1b\x1c\x7f\x85\xa0\xad"
FORGERY += "\u061c\u200b\u200e\u2028\u202e\u2066\ufeff\ud83d\ude00\ufffd\U000e0041"
hostile = st.one_of(
    st.text(st.characters(codec=None, categories=None)),
    st.text(FORGERY),
    st.sampled_from(["", "-", "@", " accessed ", "a@b accessed /x", SEED_LINE, "\\x20", "\\\\x20", "\\u2028"]),
)
times_ns = st.integers(0, 4_102_444_800 * 10**9)


def access(user="alice", address="203.0.113.7", path="/dashboard", unix_ns=NS):
    return format_access(unix_ns, user, address, path).decode()


def raising(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def journal(error, app="<Flask 'shop'>"):
    return format_journal(JournalRecord(moment(NS), app, error_text(error))).decode()


def test_an_access_is_told_in_the_seeds_words():
    assert access() == SEED_LINE


def test_an_error_is_told_in_the_seeds_words():
    line = journal(raising(ZeroDivisionError("division by zero")))
    assert (
        line
        == "[2026-11-22T10:09:00.123456+00:00] Critical error in <Flask 'shop'>: ZeroDivisionError: division by zero"
    )


def test_a_whole_second_still_has_six_digits():
    assert access(unix_ns=0).startswith("[1970-01-01T00:00:00.000000+00:00] ")


def test_the_microsecond_is_not_rounded_through_a_float():
    ns = 1_795_428_540_123_456_789  # as a float of seconds this is ….123457
    assert datetime.fromtimestamp(ns / 1e9, timezone.utc).microsecond == 123457
    assert parse_audit_line(access(unix_ns=ns)).time.microsecond == 123456


@given(times_ns, hostile, hostile, hostile)
def test_parsing_gives_back_exactly_what_was_written(unix_ns, user, address, path):
    record = parse_audit_line(access(user, address, path, unix_ns))
    assert record[:4] == (
        datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=unix_ns // 1000),
        user,
        address,
        path,
    )


@given(hostile, hostile, hostile)
def test_an_access_is_one_line_that_utf_8_can_hold(user, address, path):
    line = access(user, address, path)
    assert line.splitlines() == [line]
    assert line.encode().decode() == line
    assert line.count(" ") == 3


@given(hostile, hostile)
def test_an_error_is_one_line_that_utf_8_can_hold(app, message):
    line = journal(raising(ValueError(message)), app)
    assert line.splitlines() == [line]
    assert line.encode().decode() == line


@given(hostile, hostile, hostile, hostile, hostile, hostile)
def test_two_different_accesses_are_two_different_lines(user, address, path, user2, address2, path2):
    same = (user, address, path) == (user2, address2, path2)
    assert (access(user, address, path) == access(user2, address2, path2)) == same


@given(
    st.one_of(
        hostile,
        st.text(SEED_LINE),
        st.builds(lambda a, b: SEED_LINE[:a] + b + SEED_LINE[a:], st.integers(0, 72), hostile),
    )
)
def test_what_parses_is_what_would_be_written_and_anything_else_is_an_audit_line_error(line):
    try:
        record = parse_audit_line(line)
    except AuditLineError:
        return
    unix_ns = round((record.time - datetime(1970, 1, 1, tzinfo=timezone.utc)) / timedelta(microseconds=1)) * 1000
    assert access(record.user, record.address, record.path, unix_ns) == line.removesuffix("\n")


def of_categories(*categories):
    return [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in categories]


def test_every_space_control_separator_and_surrogate_of_unicode_is_escaped():
    for character in of_categories("Cc", "Cs", "Zs", "Zl", "Zp"):
        written = access(path=character).rsplit(" ", 1)[1]
        assert written.isascii(), ascii(character)
        assert written.startswith("\\"), ascii(character)


def test_letters_digits_and_symbols_of_unicode_are_written_as_they_are():
    visible = [c for c in of_categories("Lu", "Ll", "Lt", "Nd", "Po", "Pd", "Sc", "Sm", "So") if c != "\\"]
    for start in range(0, len(visible), 2000):
        text = "".join(visible[start : start + 2000])
        assert access(path=text).endswith(f" accessed {text}")


@pytest.mark.parametrize("character", "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
def test_nothing_reorders_a_line_on_a_screen(character):
    assert access(user=f"a{character}b") == SEED_LINE.replace("alice", f"a\\u{ord(character):04x}b")
    assert character not in journal(ValueError(character))


@pytest.mark.parametrize("character", "\xad\u200b\u200c\u200d\u2060\u3164\ufe0f\ufeff\U000e0041")
def test_nothing_hides_in_a_line(character):
    assert character not in access(user=f"a{character}b")


@pytest.mark.parametrize(
    ("user", "written"),
    [
        ("Alice Smith", r"Alice\x20Smith"),
        ("corp\\alice", r"corp\\alice"),
        ("alice@example.org", "alice@example.org"),
        ("zoë", "zoë"),
        ("a\nb", r"a\x0ab"),
        ("a\u2028b", r"a\u2028b"),
        ("a\U000e0041b", r"a\U000e0041b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escapes_can_be_read_by_people(user, written):
    assert access(user=user) == SEED_LINE.replace("alice", written)


def test_a_forged_second_line_stays_inside_the_path():
    path = "/x\n" + SEED_LINE.replace("alice", "root")
    assert parse_audit_line(access(path=path)).path == path


def test_an_at_sign_in_an_address_is_escaped_so_that_the_last_one_is_ours():
    record = parse_audit_line(access(user="a@b", address="c@d"))
    assert (record.user, record.address) == ("a@b", "c@d")


@pytest.mark.parametrize("character", ["a", " ", "\n", "\\", "😀"])
def test_a_long_field_is_cut_before_it_is_escaped_and_parses_to_the_cut_value(character):
    record = parse_audit_line(access(user=character * 2049, address=character * 5000, path=character * 2048))
    assert record.user == record.address == character * 2047 + "…"
    assert record.path == character * 2048


def test_a_long_error_is_cut():
    line = journal(ValueError("x" * 100_000))
    assert line.endswith("x…")
    assert len(line.partition(">: ")[2]) == 2048


def test_an_error_message_keeps_its_spaces_and_loses_its_lines():
    assert journal(ValueError("two\nlines of\ttext\x1b[31m")).endswith(r": ValueError: two\x0alines of\x09text\x1b[31m")


def test_an_error_without_a_message_is_its_class():
    assert journal(raising(KeyError())).endswith(": KeyError")


def test_a_syntax_error_of_several_lines_is_one_line():
    try:
        compile("a b", "f.py", "exec")
    except SyntaxError as error:
        line = journal(error)
    assert len(line.splitlines()) == 1
    assert "SyntaxError: invalid syntax" in line


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with Python 3.11")
def test_an_errors_notes_are_told():
    error = ValueError("bad")
    error.add_note("while paying")
    assert journal(error).endswith(r": ValueError: bad\x0awhile paying")


def test_an_error_whose_text_raises_is_told_by_its_class():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    assert "Mute: <" in journal(Mute())


def test_a_line_may_still_have_its_newline():
    assert parse_audit_line(SEED_LINE + "\n") == parse_audit_line(SEED_LINE)


def test_a_record_is_frozen_and_its_time_is_aware():
    record = parse_audit_line(SEED_LINE)
    assert record.time == datetime(2026, 11, 22, 10, 9, 0, 123456, tzinfo=timezone.utc)
    assert record.time.utcoffset() == timedelta(0)
    with pytest.raises(AttributeError):
        record.user = "root"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", "not an audit line: ''"),
        ("\n", "not an audit line"),
        (SEED_LINE + "\n\n", "path"),
        (SEED_LINE + "\r\n", "path"),
        (SEED_LINE + " ", "not an audit line"),
        (SEED_LINE + SEED_LINE, "not an audit line"),
        (SEED_LINE[:40], "not an audit line"),
        (journal(ValueError("x")), "not an audit line"),
        (SEED_LINE.replace("+00:00", "+01:00"), "time.*expected UTC as '1970-01-01T00:00:00.000000[+]00:00'"),
        (SEED_LINE.replace("+00:00", ""), "time"),
        (SEED_LINE.replace("123456", "123"), "time"),
        (SEED_LINE.replace("T10", " 10"), "not an audit line"),
        (SEED_LINE.replace("-11-", "-13-"), "time.*cannot be read.*2026-13-22.*month"),
        (SEED_LINE.replace("alice", "al\tice"), "user"),
        (SEED_LINE.replace("alice", "al\\ice"), "user"),
        (SEED_LINE.replace("alice", r"\x61lice"), "user"),
        (SEED_LINE.replace("alice", r"\x0A"), "user"),
        (SEED_LINE.replace("alice", r"\U0000000a"), "user"),
        (SEED_LINE.replace("alice", "a" * 2049), "user"),
        (SEED_LINE.replace("203.0", "203\u200b.0"), "address"),
        (SEED_LINE.replace("/dash", "/\u2028dash"), "path"),
    ],
)
def test_what_is_no_audit_line_is_refused_by_name(line, named):
    with pytest.raises(AuditLineError, match=named) as raised:
        parse_audit_line(line)
    assert isinstance(raised.value, ObservabilityError)
    assert isinstance(raised.value, ValueError)
