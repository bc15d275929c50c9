from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.guard import Guard
from flask_signal_observability.redaction import MASK
from flask_signal_observability.redaction import mask_patterns
from flask_signal_observability.redaction import Redaction
from flask_signal_observability.watching.fields import is_word
from flask_signal_observability.watching.fields import make_extract
from flask_signal_observability.watching.fields import MISSING
from flask_signal_observability.watching.fields import scalar

REDACTION = Redaction(("card",))
extract = make_extract(None, REDACTION, Guard())

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
SUSPECTS = st.text(st.sampled_from("basicBEARr :/@\t\n4111-.eyJ"), max_size=20)
VALUES = (
    TEXTS
    | SUSPECTS
    | st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.none()
    | st.binary()
    | st.just(Decimal("1.2"))
)
KEYS = st.sampled_from(["amount", "note", "card", "authToken", "", "a b"]) | TEXTS


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_goes_on_as_it_is_equals_what_a_look_at_each_value_leaves(payload: dict[str, Any]) -> None:
    looked_at = {key: MASK if REDACTION.hides(key) else scalar(value) for key, value in payload.items()}
    assert extract(dict(payload)) == {key: value for key, value in looked_at.items() if value is not MISSING}


@settings(max_examples=500, deadline=None)
@given(TEXTS | SUSPECTS)
@example("basic a1")
@example("basic\ta1")
@example("://u:secret@h")
def test_no_word_holds_a_credential(text: str) -> None:
    if is_word(text):
        assert mask_patterns(text) == text


@pytest.mark.parametrize("text", ["EUR", "o-1234", "shipped!", "1.5"])
def test_short_texts_of_one_piece_are_words(text: str) -> None:
    assert is_word(text)


def test_a_payload_that_is_plain_is_not_copied() -> None:
    payload = {"order_id": "o-1234", "amount": 12.5, "currency": "EUR", "note": "nothing that anybody would hide"}
    assert extract(payload) is payload
