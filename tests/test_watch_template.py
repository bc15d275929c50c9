from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability import AuditLineError
from flask_signal_observability import parse_audit_line
from flask_signal_observability.audit.json_line import format_line as format_json
from flask_signal_observability.audit.line import format_event
from flask_signal_observability.audit.mark import Note
from flask_signal_observability.audit.mark import split
from flask_signal_observability.audit.reading import after_tear
from flask_signal_observability.audit.reading import event_of
from flask_signal_observability.audit.record import AuditEvent
from flask_signal_observability.audit.record import moment
from flask_signal_observability.watching.template import AuditTemplate

TEXTS = st.text(st.characters(exclude_categories=()), min_size=1, max_size=40)


@pytest.mark.parametrize(
    "text", ["{a}@{b} paid {c}", "{a}-{b}-{c}", "x{a}x-{b}a--{c}!", "{{{a}}} 100% [{b}]^{c}", "{a} {b} {c}"]
)
@given(values=st.lists(TEXTS, min_size=3, max_size=3))
def test_whatever_the_fields_hold_they_are_read_back_from_one_line(text: str, values: list[str]) -> None:
    template = AuditTemplate(text)
    filled = template.fill(values)
    assert template.read(filled) == dict(zip("abc", values, strict=True))
    assert len(filled.splitlines()) == 1
    event = event_of(format_event(0, filled).decode())
    assert event is not None
    assert event.text == filled


NOW = "2026-11-22T10:09:00.123456+00:00"
FORGED = [
    *("chain", "opened", "checkpoint", "closed", "deleted", "heads=AAAAAAAA.999", "torn=5:abcdef", "saw=AAAAAAAA.5"),
    *("root@10.0.0.1", "accessed", "/admin/keys", "lost", "17", "records", "from", "to", NOW, f"[{NOW}]", "@", "", "x"),
    *("#uX9-2kQa.17.5Y0nS1DhS1L2ZUF8yjIHR715syT0BPitxrH3Q", r"\x63hain", r"\x61ccessed", "c\\", "a b"),
    f'{{"id":"1","time":"{NOW}","lost":1,"from":"{NOW}","to":"{NOW}"}}',
]
TEMPLATES = [
    *("{a}", "{a} {b}", "{a} {b} {c}", "{a} deleted {b}", "{a} #{b}", "[{a}] {b} {c} {d}", "chain {a}", "chain closed"),
    *("{a}@{b} accessed {c}", "{a} accessed {b}", "lost {a} records from {b} to {c}", "{a} {b} {c} {d} {e} {f} {g}"),
]


@given(template=st.sampled_from(TEMPLATES), values=st.lists(st.sampled_from(FORGED), min_size=7, max_size=7))
def test_the_text_of_an_event_is_no_other_line_whatever_its_fields_hold(template: str, values: list[str]) -> None:
    made = AuditTemplate(template)
    filled = made.fill(values[: len(made.names)])
    line = format_event(0, filled)
    assert split(line) == (line, None)
    assert Note.read(line) is None
    with pytest.raises(AuditLineError):
        parse_audit_line(line.decode())
    assert after_tear(line.decode()) is None
    event = event_of(line.decode())
    assert event is not None
    assert event.text == filled
    assert made.read(event.text) == dict(zip(made.names, (value or "-" for value in values), strict=False))


@given(template=st.sampled_from(TEMPLATES), values=st.lists(st.sampled_from(FORGED), min_size=7, max_size=7))
def test_the_object_of_an_event_is_no_other_line_whatever_its_fields_hold(template: str, values: list[str]) -> None:
    made = AuditTemplate(template)
    event = AuditEvent(moment(0), made.fill(values[: len(made.names)]), "1")
    line = format_json(event)
    assert split(line) == (line, None)
    assert Note.read(line) is None
    assert parse_audit_line(line.decode()) == event


@pytest.mark.parametrize(
    "text", ["the supply chain opened late", "chain saws sold", "we lost 3 bids", "bob accessed /x"]
)
def test_a_text_that_is_like_no_other_line_stays_as_it_is(text: str) -> None:
    assert format_event(0, text).decode().endswith(f"] {text}")


def test_what_is_missing_or_empty_is_a_dash() -> None:
    assert AuditTemplate("{a} {b}").fill([None, ""]) == "- -"


def test_a_long_field_is_cut() -> None:
    assert len(AuditTemplate("{a}").fill(["x" * 5000])) == 2048 - 1 + len(r"…")


def test_a_text_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        AuditTemplate("{a} paid").read("nothing")
