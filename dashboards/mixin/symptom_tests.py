"""Tests of the alerts on requests and processes: beside each app that is to be told of, some that are not."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from .promtool import case
from .promtool import fires
from .promtool import rising
from .promtool import series
from .queries import DURATION

if TYPE_CHECKING:
    from .slo import Slo

__all__ = ["symptom_cases"]

COUNT = f"{DURATION}_count"
ACTIVE = "http_server_active_requests"
DAY_MINUTES = 24 * 60


def symptom_cases(slo: Slo) -> list[dict[str, Any]]:
    """Return all of them."""
    return [
        _error_spike(slo),
        _p99(slo),
        _piling_up(slo),
        _no_traffic(slo),
        _asleep(slo),
        _down(slo),
        _crash_loop(slo),
        _cpu(slo),
        _descriptors(slo),
    ]


def _app(name: str, **more: str) -> dict[str, str]:
    return {"job": "web", "flask_app": name, **more}


def _at(instance: str, **more: str) -> dict[str, str]:
    return {"job": "web", "instance": instance, **more}


def _here(instance: str, minutes: int) -> dict[str, str]:
    return {series("flask_app_info", _at(instance, flask_app="shop")): f"1x{minutes}"}


def _error_spike(slo: Slo) -> dict[str, Any]:
    """Of 100 requests a minute some fail: after two hours with few, all the time, or of very few requests."""
    inputs = {}
    for app, each_minute, before, after in (("spike", 100, 0, 20), ("always", 100, 20, 20), ("quiet", 2, 0, 1)):
        for kind, (first, then) in {
            "": (each_minute - before, each_minute - after),
            "ValueError": (before, after),
        }.items():
            inputs[series(COUNT, _app(app, error_type=kind))] = rising((first, 120), (then, 20))
    check = fires(slo, "FlaskErrorSpike", 135, ("", _app("spike"), "20%"))
    return case("errors that are new, usual, and few", inputs, alert_checks=[check])


def _p99(slo: Slo) -> dict[str, Any]:
    """Of 200 requests a minute 4 are slow, or 1; and 4 of 200 in an hour."""
    borne = slo.apdex_tolerated_seconds
    inputs = {}
    for app, in_time, all_of_them in (("slow", 196, 200), ("quick", 199, 200), ("quiet", 3.2, 3.3)):
        inputs[series(COUNT, _app(app))] = rising((all_of_them, 60))
        for bound, each_minute in ((f"{borne}", in_time), (f"{2 * borne}", all_of_them), ("+Inf", all_of_them)):
            inputs[series(f"{DURATION}_bucket", _app(app, le=bound))] = rising((each_minute, 60))
    # Half-way through the bucket that the last 2 % are in.
    check = fires(slo, "FlaskP99High", 30, ("", _app("slow", quantile="0.99"), f"{1.5 * borne:.4g}s"))
    return case("one request in fifty is slow, or one in two hundred", inputs, alert_checks=[check])


def _piling_up(slo: Slo) -> dict[str, Any]:
    """From minute 85 on 40 requests are in flight: instead of 4, as always, or because more arrive."""
    inputs = {}
    for app, before, arriving in (("stuck", 4, 60), ("always", 40, 60), ("busier", 4, 240)):
        inputs[series(ACTIVE, _app(app))] = f"{before}x84 40x35"
        inputs[series(COUNT, _app(app))] = rising((60, 85), (arriving, 35))
    check = fires(slo, "FlaskRequestsPilingUp", 96, ("", _app("stuck"), "40"))
    return case("requests that do not end, and more of them", inputs, alert_checks=[check])


def _no_traffic(slo: Slo) -> dict[str, Any]:
    """After two hours silence: of an app, of one that goes away itself, of one with hardly a request before."""
    inputs = {}
    for app, each_minute, then in (("silent", 60, 0), ("busy", 60, 60), ("gone", 60, 0), ("idle", 2, 0)):
        inputs[series(COUNT, _app(app))] = rising((each_minute, 120), (then, 40))
        inputs[series("flask_app_info", _app(app))] = "1x120 _x40" if app == "gone" else "1x160"
    checks = [
        fires(slo, "FlaskNoTraffic", 119),
        # One a second in 24 of the 25 records that the mean sees.
        fires(slo, "FlaskNoTraffic", 140, ("", _app("silent"), "0.96")),
    ]
    return case("no request after many", inputs, alert_checks=checks)


def _asleep(slo: Slo) -> dict[str, Any]:
    """Every day two busy hours: their end is no news, since it was the same yesterday."""
    inputs = {
        series(COUNT, _app("office")): rising((60, 120), (0, DAY_MINUTES - 120), (60, 120), (0, 60)),
        series("flask_app_info", _app("office")): f"1x{DAY_MINUTES + 180}",
    }
    check = fires(slo, "FlaskNoTraffic", DAY_MINUTES + 150)
    return case("an app that sleeps at this time every day", inputs, alert_checks=[check])


def _down(slo: Slo) -> dict[str, Any]:
    """From minute 10 on one of two instances is down, all of a job, or something that is no Flask app."""
    half, whole = {"job": "web", "instance": "a"}, {"job": "shop", "instance": "c"}
    inputs = {
        series("up", half): "1x9 0x30",
        series("up", {"job": "web", "instance": "b"}): "1x40",
        series("up", whole): "1x9 0x30",
        series("up", {"job": "node", "instance": "d"}): "0x40",
        series("up", {"job": "away", "instance": "f"}): "1x9 stale",
        series("flask_app_info", {**half, "flask_app": "shop"}): "1x9 stale",
        series("flask_app_info", {"job": "web", "instance": "b", "flask_app": "shop"}): "1x40",
        series("flask_app_info", {**whole, "flask_app": "shop"}): "1x9 stale",
        series("flask_app_info", {"job": "away", "instance": "f", "flask_app": "shop"}): "1x9 stale",
        series("flask_app_info", {"job": "pushed", "instance": "e", "flask_app": "shop"}): "1x40",
    }
    checks = [
        fires(slo, "FlaskAppDown", 9),
        fires(slo, "FlaskAppDown", 15, ("", {"job": "shop"}, "1"), ("", {"job": "away"}, "1")),
        fires(slo, "FlaskTargetDown", 9),
        fires(slo, "FlaskTargetDown", 25, ("", half, "0"), ("", whole, "0")),
    ]
    return case("one of two instances is down, or all of a job", inputs, alert_checks=checks)


def _crash_loop(slo: Slo) -> dict[str, Any]:
    """A server with one process that starts every three minutes, one whose workers do, and two that are well."""
    restarts = " ".join(f"{1000 + 180 * number}x2" for number in range(14))
    inputs = {
        series("process_start_time_seconds", _at("one")): restarts,
        series("process_start_time_seconds", _at("well", worker="0")): "1000x40",
        series("process_start_time_seconds", {"job": "node", "instance": "n"}): restarts,
    }
    for instance, starts in (("many", 2), ("well", 0.2)):
        inputs[series("observability_workers", _at(instance))] = "4x40"
        inputs[series("observability_worker_starts_total", _at(instance))] = rising((starts, 40), start=4)
    for instance in ("one", "many", "well"):
        inputs |= _here(instance, 40)
    check = fires(slo, "FlaskWorkerCrashLoop", 30, ("", _at("one"), "5"), ("", _at("many"), "30"))
    return case("workers that start again and again", inputs, alert_checks=[check])


def _cpu(slo: Slo) -> dict[str, Any]:
    inputs = {
        series("process_cpu_seconds_total", _at("a", worker="0")): rising((57, 60)),
        series("process_cpu_seconds_total", _at("a", worker="1")): rising((30, 60)),
        series("process_cpu_seconds_total", {"job": "node", "instance": "n"}): rising((120, 60)),
        **_here("a", 60),
    }
    check = fires(slo, "FlaskWorkerCpuSaturated", 30, ("", _at("a", worker="0"), "0.95"))
    return case("a busy worker, one with half its time to spare, and another program", inputs, alert_checks=[check])


def _descriptors(slo: Slo) -> dict[str, Any]:
    inputs = {
        series("process_open_fds", _at("a", worker="0")): "900x30",
        series("process_open_fds", _at("a", worker="1")): "100x30",
        series("process_open_fds", {"job": "node", "instance": "n"}): "1000x30",
        series("process_max_fds", _at("a", worker="0")): "1000x30",
        series("process_max_fds", _at("a", worker="1")): "1000x30",
        series("process_max_fds", {"job": "node", "instance": "n"}): "1000x30",
        **_here("a", 30),
    }
    check = fires(slo, "FlaskFileDescriptorsLow", 20, ("", _at("a", worker="0"), "90%"))
    return case("a worker with few descriptors left, and others", inputs, alert_checks=[check])
