from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability import Config
from flask_signal_observability import ConfigurationError
from flask_signal_observability.forwarding import claimed_addresses
from flask_signal_observability.forwarding import client_behind

NETWORKS = ("10.0.0.0/8", "2001:db8:1::/48")


def client(peer, networks=NETWORKS, **headers):
    return client_behind(networks)({f"HTTP_{name.upper()}": value for name, value in headers.items()}, peer)


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("2001:db8:1::5", "2001:db8:2::9", "2001:db8:2::9"),
        ("::ffff:10.0.0.1", "198.51.100.1", "::ffff:10.0.0.1"),
        (None, "198.51.100.1", None),
    ],
)
def test_a_hop_is_believed_while_the_one_that_told_it_is_in_the_networks(peer, said, expected):
    assert client(peer, x_forwarded_for=said) == expected


def test_forwarded_counts_where_x_forwarded_for_is_absent():
    said = 'for=192.0.2.60;proto=http;by=203.0.113.43, For="[2001:db8:1::17]:4711"'
    assert client("10.0.0.1", forwarded=said) == "192.0.2.60"
    assert client("10.0.0.1", forwarded=said, x_forwarded_for="192.0.2.1") == "192.0.2.1"
    assert client("10.0.0.1", forwarded="proto=http") == "10.0.0.1"


def test_without_a_header_the_client_is_the_peer():
    assert client("10.0.0.1") == "10.0.0.1"


def test_claims_are_kept_as_they_were_made_whoever_made_them():
    environ = {"HTTP_X_FORWARDED_FOR": "6.6.6.6, unknown, [2001:DB8::1]:80,10.0.0.1:4711"}
    assert claimed_addresses(environ) == ("6.6.6.6", "unknown", "2001:db8::1", "10.0.0.1")
    assert claimed_addresses({"HTTP_FORWARDED": "for=_hidden, for=192.0.2.1;by=x, proto=http"}) == (
        "_hidden",
        "192.0.2.1",
    )
    assert claimed_addresses({}) == ()


@given(st.text(st.characters(max_codepoint=255), max_size=400), st.sampled_from(["X_FORWARDED_FOR", "FORWARDED"]))
def test_no_header_raises_or_makes_more_than_32_claims_of_100_characters(header, name):
    environ = {f"HTTP_{name}": header}
    claims = claimed_addresses(environ)
    assert len(claims) <= 32
    assert all(len(claim) <= 100 for claim in claims)
    client_behind(NETWORKS)(environ, "10.0.0.1")
    client_behind(2)(environ, "10.0.0.1")


def test_only_the_newest_hops_of_very_many_are_looked_at():
    said = ", ".join(["6.6.6.6"] * 10_000 + ["198.51.100.1"])
    assert len(claimed_addresses({"HTTP_X_FORWARDED_FOR": said})) == 32
    assert client("10.0.0.1", x_forwarded_for=said) == "198.51.100.1"


def test_networks_are_a_tuple_or_text():
    assert Config(trusted_proxies=["10.0.0.0/8", "10.0.0.0/8"]).trusted_proxies == ("10.0.0.0/8",)
    assert Config(trusted_proxies="networks:10.0.0.0/8,::1").trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert Config(trusted_proxies=()).trusted_proxies == 0
    from_environment = Config.resolve("a", {}, {}, {"OBSERVABILITY_TRUSTED_PROXIES": "10.0.0.0/8, 192.168.0.0/16"})
    assert from_environment.trusted_proxies == ("10.0.0.0/8", "192.168.0.0/16")
    assert Config.resolve("a", {}, {}, {"OBSERVABILITY_TRUSTED_PROXIES": "2"}).trusted_proxies == 2


@pytest.mark.parametrize(
    ("value", "remedy"),
    [(("10.0.0.1/8",), "host bits"), ("proxy", "no network"), ((1,), "networks of the proxies"), (-1, "from 0 up")],
)
def test_what_is_neither_a_number_nor_networks_is_refused(value, remedy):
    with pytest.raises(ConfigurationError, match=remedy):
        Config(trusted_proxies=value)


def test_a_request_behind_trusted_networks_has_its_client(observe):
    observed = observe(trusted_proxies=("127.0.0.0/8",))
    observed.app.add_url_rule("/", "home", lambda: "hello")
    observed.client().get("/", headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.1"})
    assert observed.audit_lines[0].endswith("anonymous@198.51.100.1 accessed /")
