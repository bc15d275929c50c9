"""Where a setting's value comes from, what is accepted, and what an error says."""

from __future__ import annotations

import dataclasses
import io
import logging
import math
import operator
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability.config import Config
from flask_signal_observability.errors import ConfigurationError

FIELDS = [field.name for field in dataclasses.fields(Config)]
BOOLEANS = [name for name in FIELDS if isinstance(getattr(Config(), name), bool)]
COUNTS = ["max_routes", "max_label_values", "max_series"]
LETTERS = tuple(f"/{letter}" for letter in "abcdefghij")
ALLOW = operator.truth
KEYS = {"audit_key", "audit_key_file"}
"""Not shown where they are refused, and nothing without audit_chain: tests/test_audit_chain.py."""
AUDIT_WORDS = {
    "audit_format": ("text", "json"),
    "audit_durability": ("os", "interval", "group", "each"),
    "audit_on_error": ("open", "closed", "stderr"),
}

IMPOSSIBLE = {
    **{name: [(value, "True or False") for value in (1, "true", None)] for name in BOOLEANS},
    **{name: [(value, "from 1 up") for value in (0, True, 2.0, "5", None)] for name in COUNTS},
    **{name: [(value, "give one of ") for value in ("no", None, 7)] for name in AUDIT_WORDS},
    "audit_interval_seconds": [(0, "from 0.001 to 3600"), (3601, "to 3600"), (True, "number"), ("1", "number")],
    "audit_rotate_bytes": [(4095, "from 4096 up"), (1e6, "whole number"), (True, "whole number")],
    "audit_rotate_seconds": [(0, "from 1 up"), ("daily", "whole number")],
    "audit_keep": [(0, "from 1 up"), (-1, "from 1 up")],
    "service_name": [("", "printed"), (" ", "printed"), ("shop\n", "printed"), ("\ud800", "printed"), (7, "printed")],
    "exclude": [(("healthz",), "/ "), ("endpoint:", "endpoint:<name>"), ([7], "/ "), ({"/a": 1}, "tuple of strings")],
    "request_id_header": [("X Request", "header"), ("", "header"), ("X-Id:", "header"), ("X-Id\n", "header")],
    "trusted_proxies": [(-1, "from 0 up"), (False, "from 0 up")],
    "user": [("alice", "callable")],
    "capture_request_headers": [(("a", "b c"), "headers"), (7, "tuple of strings")],
    "capture_response_headers": [(("a", ""), "headers"), (None, "tuple of strings")],
    "redact": [(("",), "empty"), (b"card", "tuple of strings")],
    "log_level": [("LOUD", "'WARNING'"), (15, "'WARNING'"), (True, "'WARNING'"), (0, "'WARNING'")],
    "log_format": [("xml", "'auto', 'json', 'console'"), (None, "'json'")],
    "log_schema": [("elastic", "'otel', 'ecs'"), (None, "'ecs'")],
    "metric_names": [("peer", "'own', 'flask_exporter'"), (None, "'own'")],
    "log_sample_rate": [(value, "from 0 to 1") for value in (-0.1, 1.1, True, "0.5", None, math.nan, math.inf)],
    "slow_request_seconds": [(value, "from 0 up") for value in (-1, True, "1", None, math.nan, math.inf)],
    "log_stream": [("", "'stdout'"), (None, "'stderr'"), (io.BytesIO(), "text mode")],
    "metrics_path": [
        (path, "such as /metrics") for path in ("metrics", "/", "/m/", "/m?a=1", "/m#a", "/a b", "//m", 7)
    ],
    "metrics_access": [("privat", "'private'"), ("networks:", "CIDR"), ("networks:ten", "CIDR")],
    "flush_timeout_seconds": [(value, "from 1 to 3600") for value in (0, 3601, True, 1.5, "5", None)],
    "metrics_port": [(0, "1 to 65535"), (65536, "1 to 65535"), (True, "1 to 65535"), ("80", "1 to 65535")],
    "metrics_shared": [(value, "absolute path") for value in ("on", "run/metrics", "", None, True, "/a\0b")],
    "watch": [
        ([], "mapping of 'module:signal'"),
        ({"order_paid": {}}, "such as"),
        ({"shop.signals:order_paid": "count"}, "such as"),
        ({7: {}}, "such as"),
    ],
    "metric_labels": [
        ({"le": ("a",)}, "taken"),
        ({"http_route": ("a",)}, "taken"),
        ({"__x": ("a",)}, "no label name"),
        ({"a-b": ("a",)}, "no label name"),
        ({7: ("a",)}, "no label name"),
        ({"tier": ()}, "at least one allowed value"),
        ({"tier": ("",)}, "empty"),
        ({"tier": None}, "tuple of strings"),
        (("tier",), "mapping"),
    ],
    "audit_path": [("", "path of a file"), ("a\0b", "path of a file"), (7, "path of a file")],
    "error_journal_path": [("", "path of a file"), (None, "path of a file")],
}


def resolve(app_config: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **keywords: Any) -> Config:
    return Config.resolve("shop", app_config or {}, keywords, environ or {})


def refusal(app_config: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **keywords: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        resolve(app_config, environ, **keywords)
    return str(caught.value)


# Where a value comes from


def test_a_keyword_beats_app_config_which_beats_the_environment():
    app_config, environ = {"OBSERVABILITY_MAX_ROUTES": 2}, {"OBSERVABILITY_MAX_ROUTES": "3"}
    assert resolve(app_config, environ, max_routes=1).max_routes == 1
    assert resolve(app_config, environ).max_routes == 2
    assert resolve({}, environ).max_routes == 3
    assert resolve().max_routes == 1000


def test_a_keyword_of_none_beats_the_environment_too():
    assert resolve({}, {"OBSERVABILITY_METRICS_PATH": "/other"}, metrics_path=None).metrics_path is None


def test_the_config_of_a_real_app_is_read_beside_its_other_keys():
    app = Flask("shop")
    app.config.update(SECRET_KEY="x", OBSERVABILITY_LOG_LEVEL="debug")
    assert Config.resolve(app.name, app.config, {}, {}).log_level == "DEBUG"


def test_the_environment_of_the_process_is_read_where_none_is_given(monkeypatch):
    monkeypatch.setenv("OBSERVABILITY_MAX_SERIES", "77")
    assert Config.resolve("shop", {}, {}).max_series == 77


def test_the_service_is_named_by_its_setting_then_by_opentelemetry_then_by_the_app():
    environ = {"OTEL_SERVICE_NAME": "otel", "OBSERVABILITY_SERVICE_NAME": "env"}
    assert resolve({"OBSERVABILITY_SERVICE_NAME": "config"}, environ, service_name="keyword").service_name == "keyword"
    assert resolve({}, environ).service_name == "env"
    assert resolve({}, environ, service_name=None).service_name == "otel"
    assert resolve({}, {"OTEL_SERVICE_NAME": ""}).service_name == "shop"


def test_a_service_name_that_opentelemetry_gives_is_checked_under_its_own_key():
    message = refusal({}, {"OTEL_SERVICE_NAME": "a\nb"})
    assert message.startswith(r"environment variable OTEL_SERVICE_NAME='a\nb': ")


def test_a_config_built_directly_leaves_the_service_to_be_named():
    assert Config().service_name is None


# Unknown keys


def test_an_unknown_keyword_suggests_the_nearest_field():
    message = refusal(metric_path="/m")
    assert "keyword metric_path is no setting" in message
    assert message.endswith("did you mean metrics_path?")


def test_an_unknown_keyword_like_no_field_says_where_they_are():
    assert refusal(xyzzy=1).endswith("help(flask_signal_observability.Config) lists them all")


def test_an_unknown_key_of_app_config_suggests_the_nearest_key():
    message = refusal({"OBSERVABILITY_METRICS_PTH": "/m"})
    assert message.startswith('app.config["OBSERVABILITY_METRICS_PTH"] is no setting')
    assert message.endswith("did you mean OBSERVABILITY_METRICS_PATH?")


@pytest.mark.parametrize(
    "key", ["OBSERVABILITY_WATCH", "OBSERVABILITY_", "OBSERVABILITY_tracing", "OBSERVABILITY_PORT"]
)
def test_a_key_of_app_config_that_is_no_fields_raises_however_unlike_it_is(key):
    assert key in refusal({key: True})


def test_the_value_of_an_unknown_key_is_not_shown_for_it_may_be_a_secret():
    assert "s3cret" not in refusal({"OBSERVABILITY_METRICS_ACCES": "token:s3cret"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("OBSERVABILITY_TRACNG", "OBSERVABILITY_TRACING"),
        ("OBSERVABILITY_AUDIT_PTH", "OBSERVABILITY_AUDIT_PATH"),
        ("OBSERVABILITY_LOG_LEVLE", "OBSERVABILITY_LOG_LEVEL"),
        ("OBSERVABILITY_METRIC_PORT", "OBSERVABILITY_METRICS_PORT"),
        ("OBSERVABILITY_LOGSS", "OBSERVABILITY_LOGS"),
        ("OBSERVABILITY_tracing", "OBSERVABILITY_TRACING"),
    ],
)
def test_a_near_miss_in_the_environment_raises(variable, meant):
    assert refusal({}, {variable: "1"}) == f"environment variable {variable} is no setting; did you mean {meant}?"


@pytest.mark.parametrize(
    "service", ["", "METRICS_", "METRIC_", "TRACING_", "LOGS_", "LOG_", "AUDIT_", "USER_", "EXCLUDE_"]
)
def test_what_kubernetes_sets_for_a_service_named_like_us_is_left_alone(service):
    prefix = f"OBSERVABILITY_{service}"
    ports = {
        f"{prefix}PORT": "tcp://10.0.0.1:4318",
        f"{prefix}SERVICE_HOST": "10.0.0.1",
        f"{prefix}SERVICE_PORT": "4318",
    }
    ports |= {f"{prefix}SERVICE_PORT_{name}": "4318" for name in ("HTTP", "METRICS", "TRACING", "OTLP_HTTP")}
    ports |= {f"{prefix}PORT_4318_TCP{end}": "x" for end in ("", "_PROTO", "_PORT", "_ADDR")}
    assert resolve({}, ports) == resolve()


@pytest.mark.parametrize(
    "variable",
    ["OBSERVABILITY_BACKEND", "OBSERVABILITY_AUDIT_PORT", "OBSERVABILITY_", "OBSERVABILITY", "MAX_ROUTES", "TRACING"],
)
def test_a_foreign_variable_is_left_alone(variable):
    assert resolve({}, {variable: "no setting of ours"}) == resolve()


# What an error says


def test_every_field_has_impossible_values_in_these_tests():
    assert IMPOSSIBLE.keys() == set(FIELDS) - KEYS


@pytest.mark.parametrize(
    ("name", "value", "remedy"), [(name, *pair) for name, pairs in IMPOSSIBLE.items() for pair in pairs]
)
def test_an_impossible_value_is_refused_by_key_value_and_remedy(name, value, remedy):
    key = f"OBSERVABILITY_{name.upper()}"
    ending = f"={value!r}: "
    for message, written in ((refusal(**{name: value}), name), (refusal({key: value}), f'app.config["{key}"]')):
        assert message.startswith(written + ending)
        assert remedy in message.removeprefix(written + ending)


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("tracing", "maybe", "true or false"),
        ("metrics_port", "many", "1 to 65535"),
        ("metrics_port", "0", "1 to 65535"),
        ("max_routes", "", "from 1 up"),
        ("log_level", "", "'INFO'"),
        ("exclude", "/a,b", "endpoint:<name>"),
        ("user", "alice", "keyword"),
        ("metric_labels", "tier", "app.config"),
    ],
)
def test_impossible_text_in_the_environment_is_refused_under_its_variable(name, text, remedy):
    variable = f"OBSERVABILITY_{name.upper()}"
    written, _, told = refusal({}, {variable: text}).partition(": ")
    assert written == f"environment variable {variable}={text!r}"
    assert remedy in told


def test_digits_without_end_in_the_environment_are_refused():
    assert "from 1 up" in refusal({}, {"OBSERVABILITY_MAX_ROUTES": "9" * 5000})


def test_a_config_built_directly_is_checked_as_well():
    with pytest.raises(ConfigurationError, match=r"^metrics_port=0: give a whole number from 1 to 65535$"):
        Config(metrics_port=0)


def test_a_replaced_field_is_checked_as_well():
    with pytest.raises(ConfigurationError, match="max_routes=0"):
        dataclasses.replace(Config(), max_routes=0)


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_every_default_is_in_the_one_normal_form_of_its_kind(field):
    default = getattr(Config(), field.name)
    assert field.metadata["kind"].check(default) == default


def test_a_mapping_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="metric_labels=None: give a mapping"):
        Config(metric_labels=None)


def test_an_endless_value_is_cut_in_the_error():
    assert len(refusal(log_level="x" * 100_000)) < 400


def test_an_integer_too_long_to_print_is_refused_like_any_other():
    assert "from 1 to 65535" in refusal(metrics_port=10**5000)


def test_host_bits_are_refused_with_the_network_that_was_meant():
    assert refusal(metrics_access="networks:10.0.0.0/8, 192.168.3.4/16").endswith("write 192.168.0.0/16")
    assert refusal(metrics_access="networks:fd00::1/64").endswith("write fd00::/64")


# Secrets


@pytest.mark.parametrize("access", ["token:", "token: \n", "token:s3\ncret", "token:s3\x00cret", "token:s3\ud800cret"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(access):
    message = refusal(metrics_access=access)
    assert message.startswith("metrics_access='token:…': give a token")


@pytest.mark.parametrize(
    "access",
    ["s3cret", "tokn:s3cret", "Token:s3cret", "token=s3cret", "tokens3cret", "x:s3cret", b"token:s3cret", ["s3cret"]],
)
def test_a_mistyped_token_is_not_shown(access):
    for message in (refusal(metrics_access=access), refusal({"OBSERVABILITY_METRICS_ACCESS": access})):
        assert "s3cret" not in message
        assert "'token:<secret>'" in message


def test_the_repr_names_what_was_changed_and_masks_the_token():
    config = Config(metrics_access="token:s3cret", trusted_proxies=2)
    assert repr(config) == "Config(trusted_proxies=2, metrics_access='token:…')"
    assert repr(Config()) == "Config()"


def test_the_repr_of_other_access_is_plain():
    assert repr(Config(metrics_access="networks:10.0.0.0/8")) == "Config(metrics_access='networks:10.0.0.0/8')"
    assert repr(Config(metrics_access="open")) == "Config(metrics_access='open')"


# What is accepted, and its one normal form


@pytest.mark.parametrize(
    ("given", "normal"),
    [("/b", ("/b",)), (["/b", "/a", "/b"], ("/b", "/a")), ({*LETTERS}, LETTERS), ((), ())],
)
def test_several_strings_are_a_bare_one_a_tuple_a_list_or_a_set(given, normal):
    config = resolve(exclude=given, redact=given)
    assert config.exclude == config.redact == normal


@pytest.mark.parametrize(("text", "normal"), [("/a, /b,,", ("/a", "/b")), ("/a", ("/a",)), ("", ()), (" , ", ())])
def test_several_strings_in_the_environment_stand_between_commas(text, normal):
    assert resolve({}, {"OBSERVABILITY_EXCLUDE": text}).exclude == normal


@pytest.mark.parametrize("text", ["true", "1", "yes", "on", "TRUE", " On "])
def test_yes_in_the_environment_has_several_words(text):
    assert resolve({}, {"OBSERVABILITY_CAPTURE_QUERY": text}).capture_query is True


@pytest.mark.parametrize("text", ["false", "0", "no", "off", "False", "OFF\n"])
def test_no_in_the_environment_has_several_words(text):
    assert resolve({}, {"OBSERVABILITY_TRACING": text}).tracing is False


def test_captured_headers_are_lower_case_and_once():
    assert resolve(capture_request_headers=["X-Tenant", "x-tenant"]).capture_request_headers == ("x-tenant",)
    assert resolve(capture_response_headers="ETag").capture_response_headers == ("etag",)


@pytest.mark.parametrize("level", ["warning", "WARNING", "Warning", logging.WARNING])
def test_a_level_is_a_name_in_any_case_or_the_librarys_number(level):
    assert resolve(log_level=level).log_level == "WARNING"


def test_a_log_stream_may_be_a_path_or_an_open_text_stream():
    assert resolve(log_stream=Path("logs/app.log")).log_stream == str(Path("logs/app.log"))
    assert resolve({"OBSERVABILITY_LOG_STREAM": sys.stderr}).log_stream is sys.stderr
    assert resolve({}, {"OBSERVABILITY_LOG_STREAM": "stderr"}).log_stream == "stderr"


@pytest.mark.parametrize(
    ("given", "meant"), [("stdot", "stdout"), ("STDERR", "stderr"), (" stdout", "stdout"), ("otel", "otlp")]
)
def test_a_word_that_comes_near_a_streams_name_is_refused(given, meant):
    assert refusal({}, log_stream=given) == (
        f"log_stream={given!r}: did you mean {meant!r}? A file of this name is './{given}'"
    )


@pytest.mark.parametrize("path", ["./stdot", "stdout.log", "logs/stdout", "log", "app", "records"])
def test_the_name_of_a_file_is_none(path):
    assert resolve(log_stream=path).log_stream == path


def test_the_standard_streams_may_be_named_as_devices():
    assert resolve(log_stream="/dev/stdout").log_stream == "stdout"
    assert resolve({}, {"OBSERVABILITY_LOG_STREAM": "/dev/stderr"}).log_stream == "stderr"


def test_the_user_is_read_by_any_callable_without_arguments():
    def user():
        return "alice"

    assert resolve(user=user).user is user
    assert resolve(user=dict).user is dict


def test_audit_paths_may_be_path_objects():
    config = resolve(audit_path=Path("a.log"), error_journal_path=Path("b.log"))
    assert (config.audit_path, config.error_journal_path) == ("a.log", "b.log")


@pytest.mark.parametrize("text", ["none", "None", "", "  "])
def test_none_or_nothing_in_the_environment_switches_the_metrics_path_off(text):
    assert resolve({}, {"OBSERVABILITY_METRICS_PATH": text}).metrics_path is None


@pytest.mark.parametrize(
    ("access", "normal"),
    [
        ("private", "private"),
        ("open", "open"),
        ("token:a:b c", "token:a:b c"),
        ("token:s3cret\n", "token:s3cret"),
        ("networks:10.0.0.0/8, fd00::/8", "networks:10.0.0.0/8,fd00::/8"),
        ("networks:10.0.0.1", "networks:10.0.0.1/32"),
        (ALLOW, ALLOW),
    ],
)
def test_each_form_of_access_is_accepted(access, normal):
    assert resolve(metrics_access=access).metrics_access == normal


def test_metric_labels_are_read_only_and_independent_of_what_was_given():
    labels = {"tier": ["gold", "free"], "region": "eu"}
    config = resolve(metric_labels=labels)
    labels["other"] = ["x"]
    assert config.metric_labels == {"tier": ("gold", "free"), "region": ("eu",)}
    assert isinstance(config.metric_labels, MappingProxyType)


def test_a_config_is_frozen_comparable_and_hashable():
    one, other = Config(metric_labels={"tier": "gold"}), Config(metric_labels={"tier": ["gold"]})
    assert (one, hash(one)) == (other, hash(other))
    assert one != Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.tracing = False  # type: ignore[misc]


def test_the_settings_need_nothing_but_the_standard_library():
    package = Path(sys.modules[Config.__module__].__file__ or "").parent
    program = (
        "import sys, types; package = types.ModuleType('flask_signal_observability'); "
        f"package.__path__ = [{str(package)!r}]; sys.modules[package.__name__] = package; "
        "import flask_signal_observability.config; "
        "sys.exit(any(n in sys.modules for n in ('flask', 'structlog', 'prometheus_client', 'opentelemetry')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


# Hostile input

WORDS = st.text("azAZ09._-:/[]*?!é字", min_size=1)
HEADER_NAMES = st.text("!#$%&'*+-.^_`|~09az", min_size=1)
WRITABLE = {
    **dict.fromkeys(BOOLEANS, st.booleans()),
    **dict.fromkeys(COUNTS, st.integers(1)),
    "service_name": WORDS.filter(lambda name: name.lower() != "none"),
    "exclude": st.lists(WORDS.map("/{}".format) | WORDS.map("endpoint:{}".format), unique=True).map(tuple),
    "request_id_header": HEADER_NAMES,
    "trusted_proxies": st.integers(0),
    "capture_request_headers": st.lists(HEADER_NAMES, unique=True).map(tuple),
    "capture_response_headers": st.lists(HEADER_NAMES, unique=True).map(tuple),
    "redact": st.lists(WORDS, unique=True).map(tuple),
    "log_level": st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
    "log_format": st.sampled_from(["auto", "json", "console"]),
    "log_stream": st.sampled_from(["stdout", "stderr", "otlp"]) | WORDS,
    "log_schema": st.sampled_from(["otel", "ecs"]),
    "metric_names": st.sampled_from(["own", "flask_exporter"]),
    "log_sample_rate": st.floats(0, 1),
    "slow_request_seconds": st.floats(0, allow_infinity=False),
    "metrics_path": st.none() | st.lists(st.text("az09._-~", min_size=1).map("/{}".format), min_size=1).map("".join),
    "metrics_access": st.sampled_from(["private", "open"])
    | WORDS.map("token:{}".format)
    | st.lists(st.ip_addresses(network="10.0.0.0/8").map("{}/32".format), min_size=1).map(
        lambda networks: f"networks:{','.join(networks)}"
    ),
    "flush_timeout_seconds": st.integers(1, 3600),
    "metrics_port": st.none() | st.integers(1, 65535),
    "metrics_shared": st.sampled_from(["auto", "off"]) | WORDS.map("/{}".format),
    "audit_path": WORDS,
    "error_journal_path": WORDS,
    **{name: st.sampled_from(words) for name, words in AUDIT_WORDS.items()},
    "audit_interval_seconds": st.floats(0.001, 3600),
    "audit_rotate_bytes": st.none() | st.integers(4096),
    "audit_rotate_seconds": st.none() | st.integers(1),
    "audit_keep": st.none() | st.integers(1),
}


def as_text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_all_but_two_fields_can_be_written_in_the_environment():
    assert set(FIELDS) - KEYS - WRITABLE.keys() == {"user", "metric_labels", "watch"}
    watch = resolve({}, {"OBSERVABILITY_WATCH": '{"shop.signals:order_paid": {"log": "info"}}'}).watch
    assert watch == {"shop.signals:order_paid": {"log": "info"}}


@pytest.mark.parametrize("name", sorted(WRITABLE))
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_written_in_the_environment_comes_back_and_equals_the_keyword(name, data):
    value = data.draw(WRITABLE[name])
    config = resolve({}, {f"OBSERVABILITY_{name.upper()}": as_text(value)})
    assert getattr(config, name) == value
    assert config == resolve(**{name: value})


ENDLESS = st.integers(0, 9).map(lambda digit: 10**5000 + digit)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | ENDLESS
OBJECTS = st.sampled_from(
    [ALLOW, object(), io.StringIO(), io.BytesIO(), Path("x"), Config, logging.INFO, "otlp", "none"]
)
FORMS = st.builds("{}{}".format, st.sampled_from(["token:", "networks:", "endpoint:", "/", "tcp://", ""]), st.text())
NETWORKS = st.builds(
    "networks:{}/{}".format, st.ip_addresses() | st.text("0123456789.:%", max_size=8), st.integers(0, 128)
)
VALUES = st.recursive(
    SCALARS | OBJECTS | FORMS | NETWORKS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(st.text())
        | st.dictionaries(st.text() | st.sampled_from(["tier", "le"]) | st.integers(), inner)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(FIELDS) | st.text()
ENVIRONMENT_VARIABLES = NAMES.map(lambda name: f"OBSERVABILITY_{name.upper()}")


@given(
    st.dictionaries(ENVIRONMENT_VARIABLES, VALUES, max_size=2),
    st.dictionaries(NAMES, VALUES, max_size=2),
    st.dictionaries(ENVIRONMENT_VARIABLES | st.just("OTEL_SERVICE_NAME"), st.text() | FORMS | NETWORKS, max_size=2),
    st.text() | st.just("shop"),
)
def test_any_values_for_any_keys_give_a_config_or_a_configuration_error(app_config, keywords, environ, app_name):
    try:
        config = Config.resolve(app_name, app_config, keywords, environ)
    except ConfigurationError:
        pass
    else:
        assert dataclasses.replace(config) == config
        assert repr(config).startswith("Config(")


@given(st.sampled_from(FIELDS), VALUES)
def test_any_value_for_any_field_gives_a_config_that_checks_the_same_again(name, value):
    try:
        config = Config(**{name: value})
    except ConfigurationError:
        pass
    else:
        assert dataclasses.replace(config) == config


@given(WORDS)
def test_no_token_ever_shows_in_a_repr_or_an_error(word):
    secret = f"s3cret-{word}-s3cret"
    assert "s3cret" not in repr(Config(metrics_access=f"token:{secret}"))
    assert "s3cret" not in refusal(metrics_access=f"token:{secret}\0x")
