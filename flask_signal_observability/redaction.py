"""What must not leave the process: which keys are hidden, and the shapes of credentials in free text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

__all__ = ["HIDDEN_NAMES", "MASK", "Redaction", "mask_message", "mask_patterns", "mask_repr", "mask_strings"]

MASK = "REDACTED"

HIDDEN_NAMES = (
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api_key",
    "apikey",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "password",
    "passwd",
    "secret",
    "client_secret",
    "session",
)
"""Hidden always. The first seven, and the mask, are OpenTelemetry's: HTTP semantic conventions, ``url.query``."""

MAX_KEY_LENGTH = 256
MAX_CACHED_KEYS = 1024
MAX_DEPTH = 32
MAX_VALUES = 300_000
"""More than fit into a log record of 256 KiB, so that it says that it is truncated."""

_PARTS = re.compile(r"[^\W_]+")
_CASE_CHANGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[a-z])")


HEADERS_MODULE = "werkzeug.datastructures.headers"
"""Its classes are no dicts, and ``annotate(headers=request.headers)`` is soon written."""

PLAIN = frozenset({int, float, bool, type(None)})

URL_HEADERS = frozenset({"content-location", "location", "referer"})
"""Headers that hold a URL (RFC 9110)."""


class Redaction:
    """Masks the values of keys that name a secret; the keys stay.

    A key is hidden where its words contain the words of a hidden name next to each other, without regard to case:
    ``token`` hides ``x-auth-token`` and ``csrfToken``; ``sig`` does not hide ``design``. Words end at anything that
    is no letter or digit, at a change of case and at a digit. Safe to use from several threads.

    Args:
        extra: Names that are hidden beside ``HIDDEN_NAMES``.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        names = _always_hidden() | _words_of(extra)

        @lru_cache(maxsize=MAX_CACHED_KEYS)
        def hides(key: str) -> bool:
            key = unquote_plus(key)
            # With and without the changes of case: "csrfToken" needs them, "pAssword" must not have them.
            words = _spaced(key) + _spaced(key.lower())
            return any(name in words for name in names)

        self._hides = hides

    def hides(self, key: str) -> bool:
        """Tell whether the value of ``key`` (percent-encoded or not) is masked; its first 256 characters count."""
        return self._hides(key[:MAX_KEY_LENGTH])

    def mask_query(self, query: str) -> str:
        """Return the query string with hidden and encoded credentials masked, and every other byte as it was."""
        if "=" not in query:
            return query
        return "&".join([self._mask_pair(pair) for pair in query.split("&")])

    def mask_headers(self, name: str, values: list[str]) -> list[str]:
        """Return ``values``, or as many masks where the header ``name`` is hidden.

        In the query of a URL the values of hidden keys are masked, elsewhere what looks like a credential.
        """
        if self.hides(name):
            return [MASK] * len(values)
        if name.lower() in URL_HEADERS:
            values = [self._mask_url(value) for value in values]
        return [mask_patterns(value) for value in values]

    def _mask_url(self, url: str) -> str:
        address, mark, query = url.partition("?")
        return address + mark + self.mask_query(query)

    def mask_mapping(self, mapping: dict[Any, Any]) -> dict[Any, Any]:
        """Return a copy masked at any depth of dicts, lists, tuples and headers, by key and by pattern.

        What contains itself, lies deeper than 32 levels or comes after 300 000 values is replaced by the mask. A string
        is kept as far as any output writes it.
        """
        masked: dict[Any, Any] = _MaskedCopy(self.hides).of(mapping, MAX_DEPTH)
        return masked

    def _mask_pair(self, pair: str) -> str:
        key, equals, value = pair.partition("=")
        if not equals:
            return pair
        if self.hides(key):
            return f"{key}={MASK}"
        if "%" in value or "+" in value:
            # Encoded, a credential has another shape.
            decoded = unquote_plus(value)
            if mask_patterns(decoded) != decoded:
                return f"{key}={MASK}"
        return pair


class _MaskedCopy:
    """Makes one copy, in bounded time: what is shared is copied wherever it appears, and could come to billions.

    Built-in methods are called on their class: a subclass may do anything.
    """

    def __init__(self, hides: Callable[[str], bool]) -> None:
        self._hides = hides
        self._room = MAX_VALUES
        self._inside: set[int] = set()

    def of(self, value: Any, depth: int) -> Any:
        self._room -= 1
        if type(value) in PLAIN:
            return value
        if isinstance(value, str):
            return mask_patterns(str.__getitem__(value, slice(MAX_LOOKED_AT)))
        if type(value).__module__ == HEADERS_MODULE:
            value = dict(value.items())
        elif not isinstance(value, (dict, list, tuple)):
            return value
        if depth == 0 or self._room < 0 or id(value) in self._inside:
            return MASK
        self._inside.add(id(value))
        copy: Any
        if isinstance(value, dict):
            copy = {key: self._of_item(key, item, depth - 1) for key, item in dict.items(value)}
        elif isinstance(value, list):
            copy = [self.of(item, depth - 1) for item in list.__iter__(value)]
        else:
            copy = tuple(self.of(item, depth - 1) for item in tuple.__iter__(value))
        self._inside.remove(id(value))
        return copy

    def _of_item(self, key: Any, item: Any, depth: int) -> Any:
        return MASK if isinstance(key, str) and self._hides(str.__str__(key)) else self.of(item, depth)


@lru_cache(maxsize=1)
def _always_hidden() -> frozenset[str]:
    return _words_of(HIDDEN_NAMES)


def _words_of(names: Iterable[str]) -> frozenset[str]:
    spaced = {_spaced(name) for name in names if _PARTS.search(name)}
    # "accesstoken" and "awsaccesskeyid" show no seam to split at.
    return frozenset(spaced | {f" {name.replace(' ', '')} " for name in spaced})


def _spaced(key: str) -> str:
    """Return the lowercase words of ``key``, each with a space before and after the whole."""
    return f" {' '.join(_CASE_CHANGE.sub(' ', part) for part in _PARTS.findall(key))} ".lower()


# Each pattern begins where its run of characters begins, and none is searched for twice in the same run: the time is
# linear in the text whatever the text is. Text, which re compiles, and keeps, where one is first needed: most
# apps write nothing of the kind.
_TOKEN = r"(?a:(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2}))eyJ[\w-]{8,}(?:\.[\w-]*){2,4})"  # noqa: S105 - a pattern
_CREDENTIALS = r"(?ai:\b(bearer|basic)(\s{1,8})([\w.~+/=-]+))"
_URL_PASSWORD = r'(://[^\s/?#:@"<>]*:)[^\s/?#"<>]*@'  # noqa: S105 - as above
# 13 to 19 digits, in one piece or grouped as they are printed on cards (4-4-4-4-3, 4-6-5). The first digit is a card
# network's, so that times in nanoseconds are left alone; the digits of a longer number or of a fraction are no card.
_CARD = (
    r"(?a:[2-6](?<!\w.)(?<!\d\..)\d{3}"
    r"(?:([ -]?)\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|([ -])\d{6}\2\d{4,5})"
    r"(?!\w)(?!\.\d))"
)

# How each of them begins, but for what stands before it: most text has no such place, and a look costs a third.
_CARD_BEGINS = re.compile(r"[2-6]\d{3}[ -]?\d{4}", re.ASCII)

MAX_LOOKED_AT = 16 * 1024
"""Characters of a string that :func:`mask_strings` keeps: twice what a log field holds, so that the cut is seen."""

_FEWEST_CARD_DIGITS = 13
_SHORTEST_PLAIN_TOKEN = 8
_ORDINARY_WORDS = frozenset({"authentication", "authorization", "credential", "credentials"})


def mask_patterns(text: str) -> str:
    """Return ``text`` with what looks like a credential masked, whatever key it stands under.

    Bearer and basic credentials (RFC 6750, RFC 7617), JSON web tokens (RFC 7519), the password in
    ``scheme://user:password@`` and card numbers that pass Luhn's check. The time is linear in the length of the text.
    """
    # In every request, for its path: a look for fixed text takes a hundredth of what a regular expression takes.
    if "eyJ" in text:
        text = re.sub(_TOKEN, MASK, text)
    if "://" in text and "@" in text:
        text = re.sub(_URL_PASSWORD, rf"\1{MASK}@", text)
    lowercase = text.lower()
    if "bearer" in lowercase or "basic" in lowercase:
        text = re.sub(_CREDENTIALS, _mask_credentials, text)
    if len(text) >= _FEWEST_CARD_DIGITS and _CARD_BEGINS.search(text):
        text = re.sub(_CARD, _mask_card, text)
    return text


def _mask_credentials(match: re.Match[str]) -> str:
    scheme, space, token = match.groups()
    before = match.string[max(0, match.start() - 20) : match.start()].lower()
    if "authorization" in before or _is_credential(scheme.lower(), token.strip(".=-")):
        return f"{scheme}{space}{MASK}"
    return match[0]


def _is_credential(scheme: str, token: str) -> bool:
    """Tell "Basic dXNlcjpwYXNz" from "basic income", and a bearer's token from "bearer of good news"."""
    if not token.isalpha() or (token[1:] != token[1:].lower() and not token.isupper()):
        return token != ""
    return scheme == "bearer" and len(token) >= _SHORTEST_PLAIN_TOKEN and token.lower() not in _ORDINARY_WORDS


def _mask_card(match: re.Match[str]) -> str:
    digits = [int(digit) for digit in match[0] if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return MASK if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match[0]


# A key and what stands between it and its value in a repr: password='x', 'Cookie': 'x', ('Cookie', 'x').
_KEY_IN_REPR = r"""(?<![\w-])([\w-]{1,64})['"]?\s?[=:,]\s?"""
# In a sentence a comma is a comma, and so may be a colon: "invalid token: expected a name", "TokenError: 3 segments".
_KEY_IN_TEXT = (
    r"""(?<![\w-])([\w-]{1,64})"""
    r"""(?:['"]?\s?=(?![=>])|['"]\s?:|(?<!Error)(?<!Exception):(?!:|\s?[A-Za-z][a-z]*[.,;:!?)]*(?:\s|$)))\s?"""
)
_VALUE = r"""'[^']*'|"[^"]*"|[^\s,)}\]]+"""


def mask_repr(text: str) -> str:
    """Return the ``repr`` of an object of no known kind, masked by pattern, and by key where it looks like a pair.

    The names are the built-in ones. The time is linear in the length of the text, of which 16 Ki characters are kept.
    """
    return _mask_values(mask_patterns(text[:MAX_LOOKED_AT]), _KEY_IN_REPR)


def mask_message(text: str) -> str:
    """Return what an error says, masked by pattern, and by key in ``password=x`` and ``password: x1``.

    The names are the built-in ones. After a colon a plain word stays, since it may be a sentence's. The time is linear
    in the length of the text.
    """
    text = mask_patterns(text)
    return _mask_values(text, _KEY_IN_TEXT) if "=" in text or ":" in text else text


def _mask_values(text: str, key_pattern: str) -> str:
    """Return ``text`` with the values of hidden keys masked; what is no such value is looked at again for keys."""
    keys, values = re.compile(key_pattern), re.compile(_VALUE)
    parts, kept_to = [], 0
    key = keys.search(text)
    while key:
        end = key.end()
        value = values.match(text, end) if _built_in.hides(key[1]) else None
        if value and MASK not in value[0]:
            parts += [text[kept_to:end], MASK]
            kept_to = end = value.end()
        key = keys.search(text, end)
    return "".join([*parts, text[kept_to:]])


_built_in = Redaction()


def mask_strings(value: Any, mask: Callable[[str], str] = mask_patterns) -> Any:
    """Return a copy with what looks like a credential masked in every string, at any depth of dicts, lists and tuples.

    A string is kept as far as any output writes it; ``value`` must not contain itself. ``mask`` masks one.
    """
    kind = type(value)
    if issubclass(kind, str):
        return mask(str.__getitem__(value, slice(MAX_LOOKED_AT)))
    if issubclass(kind, dict):
        return {key: mask_strings(item, mask) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [mask_strings(item, mask) for item in value]
    return value
