from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import create_environ
from werkzeug.wrappers import Request

from flask_signal_observability.access import make_rule
from flask_signal_observability.errors import ConfigurationError
from flask_signal_observability.guard import Guard

WAYS_TO_OPEN = ('metrics_access to "open"', '"token:', '"networks:')


def request_from(peer: str | None, **headers: str) -> dict[str, object]:
    environ = create_environ("/metrics", headers=[(name.replace("_", "-"), value) for name, value in headers.items()])
    environ.pop("REMOTE_ADDR", None)
    if peer is not None:
        environ["REMOTE_ADDR"] = peer
    return environ


def through_proxy_fix(environ: dict[str, object], **trusted: int) -> dict[str, object]:
    """What a rule sees behind ProxyFix."""
    ProxyFix(lambda environ, start_response: [], **trusted)(environ, lambda *arguments: lambda body: None)
    return environ


def answer(spec, environ) -> str:
    refusal = make_rule(spec, Guard())(environ)
    return "open" if refusal is None else refusal.status


@pytest.mark.parametrize(
    "peer",
    [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "fc00::1",
        "fd12:3456::1",
        "169.254.1.1",
        "fe80::1",
        "fe80::1%eth0",
        "100.64.0.1",
        "100.127.255.254",
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "::ffff:100.64.0.1",
        "",
        None,
        "localhost",
        "<local>",
    ],
)
def test_private_opens_to_a_direct_peer_nearby(peer):
    assert answer("private", request_from(peer)) == "open"


@pytest.mark.parametrize(
    "peer",
    [
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.0",
        "192.169.0.1",
        "100.63.255.255",
        "100.128.0.0",
        "203.0.113.7",
        "2001:4860::8888",
        "::",
        "::ffff:8.8.8.8",
        "64:ff9b::a00:1",
        "10.0.0.1:5000",
        "10.0.0.1, 8.8.8.8",
        "010.0.0.1",
        "unknown",
        "evil.example",
    ],
)
def test_private_refuses_every_other_peer(peer):
    assert answer("private", request_from(peer)) == "403 Forbidden"


@pytest.mark.parametrize("header", ["Forwarded", "X_Forwarded_For", "X_Real_IP", "Via"])
@pytest.mark.parametrize("value", ["127.0.0.1", "for=127.0.0.1", "", "nonsense"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "", "8.8.8.8"])
def test_private_refuses_what_came_through_a_proxy_whatever_the_header_says(header, value, peer):
    assert answer("private", request_from(peer, **{header: value})) == "403 Forbidden"


@pytest.mark.parametrize("environ", [request_from("8.8.8.8"), request_from("10.0.0.1", Via="1.1 proxy")])
def test_the_refusal_of_private_says_how_to_open(environ):
    refusal = make_rule("private", Guard())(environ)
    assert refusal is not None
    assert all(way in refusal.body for way in WAYS_TO_OPEN)


@pytest.mark.parametrize(("proxy", "client"), [("8.8.8.8", "10.0.0.1"), ("10.0.0.1", "8.8.8.8")])
def test_an_address_that_proxy_fix_changed_tells_of_a_proxy(proxy, client):
    environ = through_proxy_fix(request_from(proxy, X_Forwarded_For=client))
    assert environ["REMOTE_ADDR"] == client
    del environ["HTTP_X_FORWARDED_FOR"]
    assert answer("private", environ) == "403 Forbidden"


def test_a_scheme_that_proxy_fix_changed_tells_of_a_proxy():
    environ = through_proxy_fix(request_from("10.0.0.1", X_Forwarded_Proto="https"))
    assert answer("private", environ) == "403 Forbidden"


def test_a_direct_peer_is_let_in_past_a_proxy_fix_that_had_nothing_to_do():
    assert answer("private", through_proxy_fix(request_from("10.0.0.1"))) == "open"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("Bearer s3cret", "open"),
        ("bearer s3cret", "open"),
        ("BEARER  s3cret ", "open"),
        ("Bearer s3cre", "401 Unauthorized"),
        ("Bearer s3crett", "401 Unauthorized"),
        ("Bearer S3CRET", "401 Unauthorized"),
        ("Bearer", "401 Unauthorized"),
        ("Bearer ", "401 Unauthorized"),
        ("", "401 Unauthorized"),
        ("s3cret", "401 Unauthorized"),
        ("Basic s3cret", "401 Unauthorized"),
        (" s3cret", "401 Unauthorized"),
    ],
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "8.8.8.8", ""])
def test_a_token_opens_from_anywhere_and_nothing_else_does(sent, status, peer):
    assert answer("token:s3cret", request_from(peer, Authorization=sent)) == status


def test_a_token_opens_through_a_proxy():
    environ = request_from("127.0.0.1", Authorization="Bearer s3cret", X_Forwarded_For="8.8.8.8")
    assert answer("token:s3cret", environ) == "open"


def test_a_request_without_a_token_is_told_the_scheme():
    refusal = make_rule("token:s3cret", Guard())(request_from("127.0.0.1"))
    assert refusal is not None
    assert refusal.status == "401 Unauthorized"
    assert ("WWW-Authenticate", 'Bearer realm="metrics"') in refusal.headers
    assert "s3cret" not in refusal.body


@pytest.mark.parametrize("token", ["a:b:c", "a=b=", "pässwörd", "日本"])
def test_a_token_may_hold_colons_equals_signs_and_any_script(token):
    environ = {"HTTP_AUTHORIZATION": b"Bearer ".decode() + token.encode().decode("latin-1")}
    assert answer(f"token:{token}", environ) == "open"


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        ("10.9.9.9", "open"),
        ("::ffff:10.9.9.9", "open"),
        ("2001:db8::5", "open"),
        ("192.0.2.1", "open"),
        ("192.0.2.2", "403 Forbidden"),
        ("127.0.0.1", "403 Forbidden"),
        ("::1", "403 Forbidden"),
        ("", "403 Forbidden"),
        (None, "403 Forbidden"),
        ("localhost", "403 Forbidden"),
    ],
)
def test_networks_open_to_their_peers_alone(peer, status):
    assert answer("networks:10.0.0.0/8, 2001:db8::/32,192.0.2.1", request_from(peer)) == status


def test_a_network_with_host_bits_means_the_whole_network():
    assert answer("networks:10.1.2.3/8", request_from("10.9.9.9")) == "open"


def test_for_networks_the_proxy_is_the_peer():
    environ = through_proxy_fix(request_from("10.0.0.5", X_Forwarded_For="8.8.8.8"))
    assert environ["REMOTE_ADDR"] == "8.8.8.8"
    assert answer("networks:10.0.0.5/32", environ) == "open"


def test_a_client_cannot_claim_a_network_by_a_header():
    spoofed = request_from("8.8.8.8", X_Forwarded_For="10.0.0.5", X_Real_IP="10.0.0.5", Forwarded="for=10.0.0.5")
    assert answer("networks:10.0.0.5/32", through_proxy_fix(spoofed)) == "403 Forbidden"


@pytest.mark.parametrize("peer", ["127.0.0.1", "8.8.8.8", "nonsense", None])
def test_open_is_open_to_everyone(peer):
    assert answer("open", request_from(peer, X_Forwarded_For="8.8.8.8")) == "open"


@pytest.mark.parametrize("said", [1, "yes", [True], object(), False, None, 0])
def test_only_true_itself_opens_for_a_callable(said):
    assert answer(lambda request: said, request_from("127.0.0.1")) == "403 Forbidden"


def test_a_callable_is_asked_with_the_request():
    def has_header(request: Request) -> bool:
        return isinstance(request, Request) and request.headers["X-Ops"] == "yes"

    assert answer(has_header, request_from("8.8.8.8", X_Ops="yes")) == "open"
    assert answer(has_header, request_from("8.8.8.8", X_Ops="no")) == "403 Forbidden"


def test_a_callable_leaves_the_environ_as_it_was():
    environ = request_from("127.0.0.1")
    before = dict(environ)
    answer(lambda request: True, environ)
    assert environ == before


def test_a_callable_that_raises_refuses_and_is_counted():
    def broken(request: Request) -> bool:
        raise RuntimeError("no")

    guard = Guard()
    failures: list[tuple[str, str]] = []
    guard.count = lambda sink, stage: failures.append((sink, stage))
    refusal = make_rule(broken, guard)(request_from("127.0.0.1"))
    assert refusal is not None
    assert refusal.status == "403 Forbidden"
    assert failures == [("metrics", "access")]


@pytest.mark.parametrize("spec", ["", "Private", "privat", "tokne:hunter2", "token:", "token: ", "public"])
def test_a_rule_that_does_not_exist_is_an_error_that_keeps_its_secret(spec):
    with pytest.raises(ConfigurationError, match="metrics_access must be") as caught:
        make_rule(spec, Guard())
    assert "hunter2" not in str(caught.value)


hostile = st.text(st.characters(max_codepoint=0x2FF) | st.characters(), max_size=60)


@given(
    peer=st.none() | hostile | st.ip_addresses().map(str),
    headers=st.dictionaries(
        st.sampled_from(
            ["HTTP_AUTHORIZATION", "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_HOST", "QUERY_STRING"]
        ),
        hostile | hostile.map("Bearer {}".format),
    ),
    spec=st.sampled_from(["private", "open", "token:pässwörd?", "networks:10.0.0.0/8,fd00::/8"]),
)
def test_no_header_makes_a_rule_raise_or_forgets_the_proxy(peer, headers, spec):
    environ = {"REQUEST_METHOD": "GET", **headers}
    if peer is not None:
        environ["REMOTE_ADDR"] = peer
    status = answer(spec, environ)
    assert status in {"open", "403 Forbidden", "401 Unauthorized"}
    if spec == "private" and {"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA"} & headers.keys():
        assert status == "403 Forbidden"
    if spec.startswith("token:"):
        assert status == "401 Unauthorized"


@given(headers=st.dictionaries(st.sampled_from(["HTTP_HOST", "QUERY_STRING", "SCRIPT_NAME", "HTTP_COOKIE"]), hostile))
def test_no_header_makes_the_rule_of_a_callable_raise(headers):
    def reads_everything(request: Request) -> bool:
        return bool(request.args or request.cookies or request.url) or True

    assert answer(reads_everything, {"REQUEST_METHOD": "GET", **headers}) in {"open", "403 Forbidden"}


@pytest.mark.parametrize(
    "header",
    [
        "HTTP_X_FORWARDED_HOST",
        "HTTP_X_FORWARDED_PROTO",
        "HTTP_X_CLIENT_IP",
        "HTTP_TRUE_CLIENT_IP",
        "HTTP_CF_CONNECTING_IP",
        "HTTP_CDN_LOOP",
        "HTTP_X_ENVOY_EXTERNAL_ADDRESS",
        "HTTP_X_CLUSTER_CLIENT_IP",
    ],
)
def test_whatever_a_proxy_or_a_delivery_network_adds_closes_private_metrics(header: str) -> None:
    refusal = make_rule("private", Guard())({"REMOTE_ADDR": "127.0.0.1", header: "x"})
    assert refusal is not None
    assert refusal.status.startswith("403")
