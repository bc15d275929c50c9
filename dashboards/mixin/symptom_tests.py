"""Tests of the alerts on requests and processes: beside each app that is to be told of, some that are not."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from .promtool import case
from .promtool import fires
from .promtool import rising
from .promtool import series
from .queries import DURATION
from .symptoms import TAKEN_RATIO

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
        _down_for_long(slo),
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
    """From minute 180 on all threads of two workers hold a request: no more end, or as many, or it is always so.

    Beside them a few requests less than is told, a process that does not count itself, and an app that is there from
    minute 180 on, of which nobody knows how it is as a rule.
    """
    full = 2 * slo.threads_per_worker
    apps = {
        "stuck": (0.5, full, 0),
        "slower": (0.5, full, 25),
        "busy": (0.5, full, 60),
        "holding": (0.8 * full, full, 0),
        "nearly": (0.5, 0.9 * TAKEN_RATIO * full, 0),
        "alone": (0.1, slo.threads_per_worker, 0),
    }
    inputs = {}
    for app, (before, then, ending) in apps.items():
        inputs[series(ACTIVE, _app(app, instance=app))] = f"{before}x179 {then}x70"
        inputs[series(COUNT, _app(app, instance=app))] = rising((60, 180), (ending, 70))
    inputs[series(ACTIVE, _app("new", instance="new"))] = f"_x180 {full}x70"
    inputs[series(COUNT, _app("new", instance="new"))] = "_x180 0x70"
    for app in (*apps, "new"):
        inputs[series("flask_app_info", _app(app, instance=app))] = "1x250"
        if app != "alone":
            inputs[series("observability_workers", {"job": "web", "instance": app})] = "2x250"
    told = (("stuck", full), ("slower", full), ("alone", slo.threads_per_worker))
    checks = [fires(slo, "FlaskRequestsPilingUp", 175)]
    for minute in (200, 245):
        expected = [("", _app(app), str(value)) for app, value in told]
        checks.append(fires(slo, "FlaskRequestsPilingUp", minute, *expected))
    return case("requests that do not end, and more of them", inputs, alert_checks=checks)


def _no_traffic(slo: Slo) -> dict[str, Any]:
    """After two hours silence: of an app, of one that goes away itself, of one with hardly a request before."""
    inputs = {}
    for app, each_minute, then in (("silent", 60, 0), ("busy", 60, 60), ("idle", 2, 0)):
        inputs[series(COUNT, _app(app))] = rising((each_minute, 120), (then, 40))
        inputs[series("flask_app_info", _app(app))] = "1x160"
    inputs[series(COUNT, _app("gone"))] = f"{rising((60, 120))} stale"
    inputs[series("flask_app_info", _app("gone"))] = "1x120 stale"
    checks = [
        fires(slo, "FlaskNoTraffic", 119),
        # One a second in 24 of the 26 records that the mean sees.
        fires(slo, "FlaskNoTraffic", 140, ("", _app("silent"), "0.92")),
    ]
    return case("no request after many", inputs, alert_checks=checks)


def _asleep(slo: Slo) -> dict[str, Any]:
    """Every day two busy hours: their end is no news, since it was the same yesterday.

    One app is started again when they end, and counts nothing until they come back; the other holds one long request.
    """
    busy = rising((60, 120))
    inputs = {
        series(COUNT, _app("office")): rising((60, 120), (0, DAY_MINUTES - 120), (60, 120), (0, 60)),
        series(COUNT, _app("restarted")): f"{busy} stale _x{DAY_MINUTES - 122} {busy} stale",
        series(ACTIVE, _app("office")): f"0x{DAY_MINUTES + 120} {slo.threads_per_worker}x60",
        series("flask_app_info", _app("office")): f"1x{DAY_MINUTES + 180}",
        series("flask_app_info", _app("restarted")): f"1x{DAY_MINUTES + 180}",
    }
    checks = [fires(slo, alert, DAY_MINUTES + 150) for alert in ("FlaskNoTraffic", "FlaskRequestsPilingUp")]
    return case("apps that sleep at this time every day", inputs, alert_checks=checks)


def _down(slo: Slo) -> dict[str, Any]:
    """From minute 10 on one of two instances is down, all of a job, or something that is no Flask app.

    Beside them an exporter in the job of an app, and an instance that has not answered at all.
    """
    new = {"job": "web", "instance": "g"}
    half, whole = {"job": "web", "instance": "a"}, {"job": "shop", "instance": "c"}
    inputs = {
        series("up", half): "1x9 0x30",
        series("up", {"job": "web", "instance": "b"}): "1x40",
        series("up", whole): "1x9 0x30",
        series("up", {"job": "node", "instance": "d"}): "0x40",
        series("up", {"job": "away", "instance": "f"}): "1x9 stale",
        series("up", {"job": "web", "instance": "exporter"}): "1x9 0x30",
        series("up", new): "0x40",
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
        fires(slo, "FlaskTargetDown", 25, ("", half, "0"), ("", whole, "0"), ("", new, "0")),
    ]
    return case("one of two instances is down, or all of a job", inputs, alert_checks=checks)


def _down_for_long(slo: Slo) -> dict[str, Any]:
    """What is down stays told for more than a day; what is no longer looked for, for an hour."""
    down, away = {"job": "shop", "instance": "c"}, {"job": "away", "instance": "f"}
    inputs = {
        series("up", down): f"1x9 0x{DAY_MINUTES + 180}",
        series("up", away): "1x9 stale",
        series("flask_app_info", {**down, "flask_app": "shop"}): "1x9 stale",
        series("flask_app_info", {**away, "flask_app": "shop"}): "1x9 stale",
    }
    checks = [fires(slo, "FlaskAppDown", 60, ("", {"job": "shop"}, "1"), ("", {"job": "away"}, "1"))]
    for minute in (180, DAY_MINUTES + 150):
        checks.append(fires(slo, "FlaskAppDown", minute, ("", {"job": "shop"}, "1")))
        checks.append(fires(slo, "FlaskTargetDown", minute, ("", down, "0")))
    return case("a job that stays down, and one that was taken away", inputs, alert_checks=checks)


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
        series("process_cpu_seconds_total", _at("a", worker="1")): rising((49.5, 60)),
        series("process_cpu_seconds_total", _at("one")): rising((57, 60)),
        series("process_cpu_seconds_total", {"job": "node", "instance": "n"}): rising((120, 60)),
        **_here("a", 60),
        **_here("one", 60),
    }
    told = (_at("a", worker="0"), _at("one"))
    check = fires(slo, "FlaskWorkerCpuSaturated", 30, *(("", labels, "0.95") for labels in told))
    return case("busy workers, one that is a little less so, and another program", inputs, alert_checks=[check])


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
