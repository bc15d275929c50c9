from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability.audit.line import format_event
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
    assert format_event(0, filled) == f"[1970-01-01T00:00:00.000000+00:00] {filled}".encode()


def test_what_is_missing_or_empty_is_a_dash() -> None:
    assert AuditTemplate("{a} {b}").fill([None, ""]) == "- -"


def test_a_long_field_is_cut() -> None:
    assert len(AuditTemplate("{a}").fill(["x" * 5000])) == 2048 - 1 + len(r"…")


def test_a_text_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        AuditTemplate("{a} paid").read("nothing")
