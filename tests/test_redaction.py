from __future__ import annotations

import copy
import dataclasses
import json
import time
import types
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from flask_signal_observability.redaction import HIDDEN_NAMES
from flask_signal_observability.redaction import mask_message
from flask_signal_observability.redaction import mask_patterns
from flask_signal_observability.redaction import mask_repr
from flask_signal_observability.redaction import MAX_CACHED_KEYS
from flask_signal_observability.redaction import Redaction
from flask_signal_observability.rendering import to_json_line

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize("name", HIDDEN_NAMES)
def test_every_built_in_name_is_hidden_however_it_is_spelt(name: str) -> None:
    redaction = Redaction()
    for spelling in (name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("_", "-"), f"my.{name}"):
        assert redaction.hides(spelling), spelling


@pytest.mark.parametrize(
    "key",
    [
        "X-Access-Token",
        "accessToken",
        "accesstoken",
        "x-sig",
        "x-auth-token",
        "csrfToken",
        "APIKey",
        "apiKey",
        "user[password]",
        "pAssword",
        "%73ig",
        "api+key",
        "PASSWORD_HASH",
        "token2",
        "sessionId",
        "awsaccesskeyid",
    ],
)
def test_a_key_with_the_words_of_a_hidden_name_is_hidden(key: str) -> None:
    assert Redaction().hides(key)


@pytest.mark.parametrize(
    "key", ["design", "author", "monkey", "key", "access", "tokenizer", "api", "accessible", "secretary", "", "=", "%"]
)
def test_a_key_with_other_words_is_not(key: str) -> None:
    assert not Redaction().hides(key)


def test_names_of_the_user_add_to_the_built_in_ones() -> None:
    redaction = Redaction(["card-number", "contraseña"])
    assert [redaction.hides(key) for key in ("cardNumber", "CONTRASEÑA", "contrase%C3%B1a", "card", "token")] == [
        True,
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("name", ["", " ", "--"])
def test_a_name_without_a_word_hides_nothing(name: str) -> None:
    redaction = Redaction([name])
    assert not any(redaction.hides(key) for key in ("", "-", "a", "a--b"))


def test_the_keys_that_are_remembered_are_few_and_short() -> None:
    redaction = Redaction()
    for number in range(3 * MAX_CACHED_KEYS):
        redaction.hides(f"key{number}")
    assert redaction.hides("token" + "-x" * 100_000)
    cache = redaction._hides.cache_info()  # type: ignore[attr-defined]
    assert cache.currsize == MAX_CACHED_KEYS
    assert not redaction.hides("x" * 1000)
    assert not redaction.hides("x" * 2000)
    assert redaction._hides.cache_info().hits == cache.hits + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        ("a=1&sig=abc", "a=1&sig=REDACTED"),
        ("sig=abc&a=1", "sig=REDACTED&a=1"),
        ("sig=a=b;c", "sig=REDACTED"),
        ("sig=", "sig=REDACTED"),
        ("sig", "sig"),
        ("%73ig=abc", "%73ig=REDACTED"),
        ("api+key=abc", "api+key=REDACTED"),
        ("&&a=%20+b&&token=x&", "&&a=%20+b&&token=REDACTED&"),
        ("X-Amz-Signature=f00&X-Amz-Date=1", "X-Amz-Signature=REDACTED&X-Amz-Date=1"),
        ("design=1", "design=1"),
        ("", ""),
    ],
)
def test_a_query_string_keeps_everything_but_hidden_values(query: str, masked: str) -> None:
    assert Redaction().mask_query(query) == masked


@given(
    st.lists(st.tuples(st.text(st.characters(exclude_characters="&=")), st.text(st.characters(exclude_characters="&"))))
)
def test_any_query_string_keeps_its_keys_and_their_order(pairs: list[tuple[str, str]]) -> None:
    redaction = Redaction()
    masked = redaction.mask_query("&".join(f"{key}={value}" for key, value in pairs))
    expected = [f"{key}={'REDACTED' if redaction.hides(key) else value}" for key, value in pairs]
    assert masked == "&".join(expected)


def test_hidden_headers_keep_their_number_of_values() -> None:
    redaction = Redaction(["x-tenant"])
    assert redaction.mask_headers("Set-Cookie", ["a=1", "b=2"]) == ["REDACTED", "REDACTED"]
    assert redaction.mask_headers("x-tenant", ["acme"]) == ["REDACTED"]
    assert redaction.mask_headers("accept", ["*/*"]) == ["*/*"]


def test_a_mapping_is_masked_at_any_depth_and_left_alone_itself() -> None:
    payload = {"a": [{"token": 1}, ({"b": {"password": {"x": 1}}, 3: "y"},)], "secret": ["s"], "n": None}
    before = copy.deepcopy(payload)
    assert Redaction().mask_mapping(payload) == {
        "a": [{"token": "REDACTED"}, ({"b": {"password": "REDACTED"}, 3: "y"},)],
        "secret": "REDACTED",
        "n": None,
    }
    assert payload == before


def test_a_mapping_that_contains_itself_comes_to_an_end() -> None:
    payload: dict[str, Any] = {"a": 1}
    payload["self"] = [payload]
    assert Redaction().mask_mapping(payload) == {"a": 1, "self": ["REDACTED"]}


def test_what_is_shared_is_masked_wherever_it_appears_and_copied_once() -> None:
    shared = {"token": 1}
    assert Redaction().mask_mapping({"a": shared, "b": shared}) == {
        "a": {"token": "REDACTED"},
        "b": {"token": "REDACTED"},
    }
    laughs: Any = shared
    for _ in range(25):
        laughs = [laughs] * 10
    assert Redaction().mask_mapping({"a": laughs})


def test_what_lies_too_deep_is_masked_whole() -> None:
    deep: Any = "secret"
    for _ in range(5000):
        deep = [deep]
    assert "secret" not in repr(Redaction().mask_mapping({"a": deep}))


def test_what_is_shared_without_end_is_masked_in_bounded_time_and_rendered_too() -> None:
    laughs: Any = {"token": "s3cret"}
    for _ in range(25):
        laughs = [laughs] * 10
    masked = Redaction().mask_mapping({"a": laughs})
    line = to_json_line(masked)
    assert b"s3cret" not in line
    assert json.loads(line)["truncated"] is True


def test_strings_in_a_mapping_are_masked_by_pattern_too() -> None:
    payload = {"a": ["Bearer s3cret-1", ("Bearer s3cret-2", {"b": "Bearer s3cret-3"})]}
    assert "s3cret" not in repr(Redaction().mask_mapping(payload))


class Hostile(dict[Any, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")

    __iter__ = keys = values = items


class HostileText(str):
    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("no items")

    __str__ = lower = __contains__ = __getitem__  # type: ignore[assignment]


def test_a_subclass_that_raises_is_masked_all_the_same() -> None:
    payload = {"a": Hostile(token="s3cret", b=1), HostileText("token"): "s3cret", "c": HostileText("Bearer s3cret")}
    masked = Redaction().mask_mapping(payload)
    assert masked["a"] == {"token": "REDACTED", "b": 1}
    assert "s3cret" not in repr(list(masked.values()))


@dataclasses.dataclass
class Account:
    name: str
    password: str


@pytest.mark.parametrize(
    "value",
    [
        Account("alice", "s3cret"),
        Headers([("Cookie", "session=s3cret; a=1"), ("X-Api-Key", "s3cret")]),
        {"Bearer s3cret-1"},
        b"https://alice:s3cret@shop/",
        types.SimpleNamespace(token="s3cret", n=1),
        types.MappingProxyType({"client_secret": "s3cret"}),
        LookupError("password='s3cret'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_in_an_object_is_masked_in_its_repr(value: object) -> None:
    line = to_json_line(Redaction().mask_mapping({"value": value}))
    assert b"REDACTED" in line
    assert b"s3cret" not in line


@pytest.mark.parametrize("text", ["Point(x=1, y=2)", "{1, 2}", "Decimal('1.10')", "<Order 7: design=3>", "a: b, c = d"])
def test_a_repr_without_secrets_stays_as_it_is(text: str) -> None:
    assert mask_repr(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abc", "Authorization: Bearer REDACTED"),
        ("{'Authorization': 'basic abc'}", "{'Authorization': 'basic REDACTED'}"),
        ("sent bearer  s3cr3t-x.y/z== twice", "sent bearer  REDACTED twice"),
        ("Bearer abcdefghijk", "Bearer REDACTED"),
        ("Basic dXNlcjpwYXNz failed", "Basic REDACTED failed"),
        ("BASIC QWxhZGRpbg==", "BASIC REDACTED"),
        (f"jwt={JWT}, x", "jwt=REDACTED, x"),
        (f"next=%3D{JWT}&x=1", "next=%3DREDACTED&x=1"),
        (f"Bearer {JWT}", "Bearer REDACTED"),
        ("postgresql://shop:p@ss:w@db/shop", "postgresql://shop:REDACTED@db/shop"),
        ("redis://:hunter2@cache:6379/0", "redis://:REDACTED@cache:6379/0"),
        ("card 4111 1111 1111 1111.", "card REDACTED."),
        ("card 4111-1111-1111-1111", "card REDACTED"),
        ("card=4242424242424242&x", "card=REDACTED&x"),
        ("3782 822463 10005", "REDACTED"),
        ("378282246310005", "REDACTED"),
        ("5500000000000004 and 6011000990139424", "REDACTED and REDACTED"),
    ],
)
def test_a_credential_in_a_text_is_masked(text: str, masked: str) -> None:
    assert mask_patterns(text) == masked
    assert mask_patterns(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the bearer of bad news",
        "Bearer authentication is required",
        'WWW-Authenticate: Basic realm="shop"',
        "basic information",
        "basic - ",
        "http://shop:8080/a?mail=a@b.c",
        "mail a@b.c, see http://shop/a",
        "eyJ is no token, nor is eyJhbGciOi.",
        "4111 1111 1111 1112",
        "1700000000000000004",
        "0.4111111111111111",
        "4111111111111111.5",
        "x4111111111111111",
        "41111111111111114111111111111111",
        "0af7651916cd43dd-4111-1111-1111-1111x",
        "2026-11-22T10:09:00.123456+00:00",
    ],
)
def test_a_text_without_credentials_stays_as_it_is(text: str) -> None:
    assert mask_patterns(text) == text


@given(st.text())
def test_any_text_can_be_masked(text: str) -> None:
    assert isinstance(mask_patterns(text), str)
    assert isinstance(mask_message(text), str)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("refused: password=hunter2 api_key=AKIA123", "refused: password=REDACTED api_key=REDACTED"),
        ("DB_PASSWORD = 'a b', retried", "DB_PASSWORD = REDACTED, retried"),
        ("{'client_secret': 'x', \"n\": 1}", "{'client_secret': REDACTED, \"n\": 1}"),
        ("password: hunter2", "password: REDACTED"),
        ("password: correct-horse", "password: REDACTED"),
        ("X-Api-Key: s3cret\nHost: shop", "X-Api-Key: REDACTED\nHost: shop"),
        ("no answer, url: /v1?page=1&token=abc (timed out)", "no answer, url: /v1?page=1&token=REDACTED (timed out)"),
        ("Authorization: Bearer abc", "Authorization: Bearer REDACTED"),
    ],
)
def test_the_value_of_a_hidden_name_is_masked_in_what_an_error_says(text: str, masked: str) -> None:
    assert mask_message(text) == masked
    assert mask_message(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "division by zero",
        "token: bad",
        "invalid token: expected ','",
        "password: This field is required.",
        "KeyError: 'password'",
        "jwt.exceptions.InvalidTokenError: 3 segments",
        "token == other, token => other",
        "Session::begin, design=3, sessions=3",
        "password, token, secret",
    ],
)
def test_a_sentence_with_a_hidden_name_stays_as_it_is(text: str) -> None:
    assert mask_message(text) == text


@given(
    st.text(st.characters(codec="ascii")),
    st.sampled_from(["password", "api_key", "DB_PASSWORD", "x-auth-token"]),
    st.from_regex(r"[A-Za-z0-9._-]{6,40}[0-9]", fullmatch=True),
)
def test_the_value_of_a_hidden_name_never_survives(before: str, name: str, secret: str) -> None:
    assert secret not in mask_message(f"{before} {name}={secret}")[len(before) :]


@given(st.text(st.characters(codec="ascii")), st.from_regex(r"[A-Za-z0-9._-]{6,40}[0-9]", fullmatch=True))
def test_a_bearers_token_never_survives(before: str, token: str) -> None:
    assert token not in mask_patterns(f"{before} Bearer {token}")[len(before) :]


@given(st.from_regex(r"[2-6][0-9]{11,17}", fullmatch=True))
def test_every_number_that_passes_luhn_is_masked_and_no_other(body: str) -> None:
    texts = [f"paid with {body}{check} today" for check in range(10)]
    masked = [text for text in texts if mask_patterns(text) == "paid with REDACTED today"]
    assert len(masked) == 1
    assert [text for text in texts if mask_patterns(text) == text] == [text for text in texts if text not in masked]


FRAGMENTS = [
    "eyJ",
    "eyJabcdefgh",
    "-",
    ".",
    "://",
    ":",
    "@",
    "/",
    "bearer",
    "Basic ",
    " ",
    "4111",
    "4",
    "a",
    "%3D",
    "=",
    '"',
]


@example(["eyJ"])
@example(["eyJ", "-"])
@example(["eyJabcdefgh", "."])
@example(["://", ":"])
@example(["bearer", "-"])
@example(["4111", "-"])
@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6))
def test_the_time_is_linear_in_the_text(fragments: list[str]) -> None:
    repeated = "".join(fragments)
    text = repeated * (200_000 // len(repeated))
    started = time.thread_time()
    mask_message(text)
    assert time.thread_time() - started < 2  # 0.1 s here; a quadratic pattern takes minutes


HOSTILE = [
    "4111 ",
    "4111-1111-1111-111-",
    "bearer ",
    "basic\t\t\t\t\t\t\t\t\t",
    "authorization: bearer ",
    "eyJabcdefgh..",
    "://a:b",
    "://a:@",
    "eyJabcdefgh.a.",
    "a='",
    '"a"=',
    "password=",
    "password: ",
    "password='\"",
    "token:a",
    "a-Error:",
    "token:a.",
    "token:a,,,,",
    "TokenError",
]


@pytest.mark.parametrize("fragment", HOSTILE)
def test_a_megabyte_of_hostile_text_is_masked_in_less_than_a_moment(fragment: str) -> None:
    text = fragment * (1_000_000 // len(fragment))
    started = time.thread_time()
    mask_message(text)
    mask_repr(text)
    assert time.thread_time() - started < 5  # 0.4 s at most here; a quadratic pattern takes hours
