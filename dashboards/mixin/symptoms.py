"""Alerts on what visitors and workers feel, beside the error budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .alert import Alert
from .alert import OF_FLASK
from .recorded import APP
from .recorded import ERRORS

if TYPE_CHECKING:
    from .slo import Slo

__all__ = ["process_alerts", "request_alerts"]

APP_VARIABLES = ("job", "flask_app")
PROCESS_VARIABLES = ("job", "instance")

WORKER = "{{ with $labels.worker }}Worker {{ . }} of {{ end }}"
"""A server with one process does not number it."""

SPIKE_RATIO = 0.01
SPIKE_FACTOR = 5
SPIKE_REQUESTS = 10
P99_REQUESTS = 100
TAKEN_RATIO = 0.75
"""Of all threads. A scrape holds one itself, so that of four it sees no more than three taken."""
TAKEN_FACTOR = 1.5
"""Times the mean of a day: an app that holds long requests as a rule is well."""
FINISHED_FACTOR = 0.5
SILENT_FROM_RATE = 0.1
"""Requests a second that an app must have had for its silence to be news."""
CPU_CORES = 0.9
DESCRIPTORS_RATIO = 0.8
RESTARTS = 4
"""Of one worker in 15 minutes. Recycling by ``max_requests`` that comes near this is worth a look, too."""


def request_alerts(slo: Slo) -> list[Alert]:
    """Return the alerts on requests: more errors than usual, slow ones, ever more of them, none at all."""
    return [_error_spike(), _p99(slo), _piling_up(slo), _no_traffic()]


def process_alerts() -> list[Alert]:
    """Return the alerts on targets and worker processes."""
    return [_app_down(), _target_down(), _crash_loop(), _cpu(), _descriptors()]


def _error_spike() -> Alert:
    now = APP.ratio(ERRORS, "5m")
    return Alert(
        name="FlaskErrorSpike",
        expr=(
            f"{now} > {SPIKE_RATIO:g}\n"
            f"and {now} > {SPIKE_FACTOR} * {APP.ratio(ERRORS, '1d')}\n"
            f"and {APP.rate(ERRORS)} * 300 >= {SPIKE_REQUESTS}"
        ),
        severity="ticket",
        wait="5m",
        summary="{{ $labels.flask_app }} fails far more often than it did in the last day.",
        description="{{ $value | humanizePercentage }} of the requests to {{ $labels.flask_app }} (job"
        f" {{{{ $labels.job }}}}) failed in the last 5m, more than {SPIKE_FACTOR} times the share of the last day.",
        dashboard="errors",
        variables=APP_VARIABLES,
    )


def _p99(slo: Slo) -> Alert:
    return Alert(
        name="FlaskP99High",
        expr=(
            f'{APP.quantile()}{{quantile="0.99"}} > {slo.apdex_tolerated_seconds:g}\n'
            f"and on (job, flask_app) {APP.requests()} * 300 >= {P99_REQUESTS}"
        ),
        severity="ticket",
        wait="15m",
        summary="One request in a hundred to {{ $labels.flask_app }} takes {{ $value | humanizeDuration }} or longer.",
        description="The 99th percentile of {{ $labels.flask_app }} (job {{ $labels.job }}) is"
        f" {{{{ $value | humanizeDuration }}}}; visitors bear {slo.apdex_tolerated_seconds:g} s.",
        dashboard="overview",
        variables=APP_VARIABLES,
    )


def _piling_up(slo: Slo) -> Alert:
    active, requests, workers = APP.active(), APP.requests(), APP.workers()
    return Alert(
        name="FlaskRequestsPilingUp",
        # A busy app finishes what it takes. One that is quiet at this time of day was so yesterday.
        expr=(
            f"avg_over_time({active}[5m])"
            f" >= {TAKEN_RATIO:g} * {slo.threads_per_worker} * avg_over_time({workers}[5m])\n"
            f"and avg_over_time({active}[5m]) > {TAKEN_FACTOR:g} * avg_over_time({active}[1d] offset 1h)\n"
            f"and {requests} < {FINISHED_FACTOR:g} * avg_over_time({requests}[1d] offset 1h)\n"
            f"unless {requests} >= {FINISHED_FACTOR:g} * min_over_time({requests}[1h] offset 23h30m)"
        ),
        severity="page",
        wait="5m",
        summary="{{ $labels.flask_app }} has its workers full of requests and finishes few of them.",
        description="{{ $value | humanize }} requests to {{ $labels.flask_app }} (job {{ $labels.job }}) are in flight,"
        " which takes nearly all that it can serve at a time, and it finishes less than half of what it did in the last"
        " day: something behind it hangs.",
        dashboard="overview",
        variables=APP_VARIABLES,
    )


def _no_traffic() -> Alert:
    requests = APP.requests()
    return Alert(
        name="FlaskNoTraffic",
        # The record is 0 where the app is there, even if it has had no request since it started. Yesterday, in the hour
        # around this time of day, it had traffic all the time.
        expr=(
            f"avg_over_time({requests}[6h] offset 15m) > {SILENT_FROM_RATE:g}\n"
            f"and {requests} == 0\n"
            f"unless min_over_time({requests}[1h] offset 23h30m) == 0"
        ),
        severity="page",
        wait="10m",
        summary="{{ $labels.flask_app }} runs and gets no request.",
        description='{{ $labels.flask_app }} (job {{ $labels.job }}) had {{ $value | printf "%.2f" }} requests a second'
        " in the last hours and has none now, though it runs and was not silent at this time yesterday.",
        dashboard="overview",
        variables=APP_VARIABLES,
    )


def _app_down() -> Alert:
    return Alert(
        name="FlaskAppDown",
        # Targets that do not answer, for as long as they do not; or that are no longer looked for, for an hour. Where
        # metrics are pushed there is no `up`, and nothing to be said here.
        expr=(
            "count by (job) (up == 0)\n"
            "and on (job) last_over_time(flask_app_info[7d])\n"
            "unless on (job) up == 1\n"
            "or count by (job) (last_over_time(flask_app_info[1h]))\n"
            "and on (job) last_over_time(up[1h])\n"
            "unless on (job) up == 1"
        ),
        severity="page",
        wait="3m",
        summary="No instance of {{ $labels.job }} can be scraped.",
        description="None of the {{ $value | humanize }} that job {{ $labels.job }} has, or had in the last hour,"
        " answers a scrape: it is down, or its metrics are closed to Prometheus.",
        dashboard="workers",
        variables=("job",),
    )


def _target_down() -> Alert:
    return Alert(
        name="FlaskTargetDown",
        # An instance that served Flask, or that has not answered yet in a job which does; no other exporter beside it.
        expr=(
            "up == 0\nand on (job, instance) last_over_time(flask_app_info[7d])\n"
            "or up == 0\nand on (job) last_over_time(flask_app_info[7d])\n"
            "unless on (job, instance) max_over_time(up[7d]) == 1"
        ),
        severity="ticket",
        wait="10m",
        summary="{{ $labels.instance }} of {{ $labels.job }} cannot be scraped.",
        description="Prometheus gets no answer from {{ $labels.instance }} of job {{ $labels.job }}; others of the job"
        " may well answer. What it serves is not seen meanwhile.",
        dashboard="workers",
        variables=PROCESS_VARIABLES,
    )


def _crash_loop() -> Alert:
    return Alert(
        name="FlaskWorkerCrashLoop",
        # Starts are counted even between two scrapes; a start time that changes tells of a server with one process.
        expr=(
            f"max by (job, instance) (changes(process_start_time_seconds[15m])) >= {RESTARTS}\n{OF_FLASK}\n"
            "or sum by (job, instance) (increase(observability_worker_starts_total[15m]))\n"
            f"  >= {RESTARTS} * max by (job, instance) (max_over_time(observability_workers[15m]) > 0)"
        ),
        severity="ticket",  # a short max_requests looks the same, and requests that fail have pages of their own
        wait="5m",
        summary="Workers of {{ $labels.instance }} ({{ $labels.job }}) start again and again.",
        description="{{ $value | humanize }} starts of workers in 15 minutes on {{ $labels.instance }} of job"
        " {{ $labels.job }}: they crash, are killed for their memory, time out, or reach max_requests too soon.",
        dashboard="workers",
        variables=PROCESS_VARIABLES,
    )


def _cpu() -> Alert:
    return Alert(
        name="FlaskWorkerCpuSaturated",
        expr=f"rate(process_cpu_seconds_total[5m]) > {CPU_CORES:g}\n{OF_FLASK}",
        severity="ticket",
        wait="15m",
        summary="A worker of {{ $labels.instance }} ({{ $labels.job }}) is busy all the time.",
        description=f"{WORKER}{{{{ $labels.instance }}}}, job {{{{ $labels.job }}}}, uses"
        ' {{ $value | printf "%.2f" }} cores, and one is all that Python runs on: its requests wait for each other.',
        dashboard="workers",
        variables=PROCESS_VARIABLES,
    )


def _descriptors() -> Alert:
    return Alert(
        name="FlaskFileDescriptorsLow",
        expr=f"process_open_fds / process_max_fds > {DESCRIPTORS_RATIO:g}\n{OF_FLASK}",
        severity="page",
        wait="5m",
        summary="A worker of {{ $labels.instance }} ({{ $labels.job }}) runs out of file descriptors.",
        description=f"{WORKER}{{{{ $labels.instance }}}}, job {{{{ $labels.job }}}}, has"
        " {{ $value | humanizePercentage }} of its file descriptors open; without a free one it takes no connection.",
        dashboard="workers",
        variables=PROCESS_VARIABLES,
    )
