"""Have the processes what they need, and do they stay alive?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .panels import count
from .panels import limit
from .panels import lines
from .panels import number
from .panels import query
from .panels import rows
from .panels import section
from .queries import APP
from .queries import increase
from .queries import PROCESS
from .queries import rate
from .queries import total
from .queries import WINDOW
from .variables import frame

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard

    from .panels import Panel

__all__ = ["workers"]

WORKER = ("instance", "worker")
OF_WORKER = "{{instance}} {{worker}}"


def workers() -> dashboard.Dashboard:
    """Processes, what they use, and what it costs to scrape them."""
    board = frame(
        "workers",
        "Workers and runtime",
        "CPU, memory, descriptors and garbage collection of each worker, restarts, and the scrape itself.",
        *("job", "instance", "flask_app"),
    )
    section(board, "Processes", *processes())
    section(board, "What they use", *resources())
    section(board, "Garbage collection", *collections())
    section(board, "Scrape", *scrape())
    section(board, "Versions", apps(), interpreters())
    return board


def processes() -> list[Panel]:
    """How many there are, and how long they live."""
    return [
        number(
            "Workers",
            "Processes whose metrics one scrape adds up, over all instances.",
            "none",
            total("observability_workers", PROCESS),
        ).height(8),
        count(
            "Worker starts",
            "gunicorn replaces workers that time out, are killed for their memory, or reach max_requests.",
            increase("observability_worker_starts_total", PROCESS),
        ).height(8),
        lines(
            "Starts by instance",
            "Workers that began within one rate interval. An instance that keeps starting them is in a crash loop.",
            "short",
            query(
                increase("observability_worker_starts_total", PROCESS, by=("instance",), window=WINDOW), "{{instance}}"
            ),
        ),
        lines(
            "Age",
            "Time since each worker began. A saw is max_requests or a crash; a step down for all of them is a deploy.",
            "s",
            query(f"time() - {total('process_start_time_seconds', PROCESS, by=WORKER, function='max')}", OF_WORKER),
        ),
    ]


def resources() -> list[Panel]:
    """CPU, memory, descriptors, and the requests that need them."""
    open_share = f"{total('process_open_fds', PROCESS, by=WORKER)} / {total('process_max_fds', PROCESS, by=WORKER)}"
    return [
        limit(
            lines(
                "CPU",
                "Of each worker; 100 % is one core. A Python process rarely gets beyond, and its threads wait there.",
                "percentunit",
                query(rate("process_cpu_seconds_total", PROCESS, by=WORKER), OF_WORKER),
            ),
            0.9,
        ),
        lines(
            "Resident memory",
            "Of each worker. Pages that forked workers share are counted in each of them.",
            "bytes",
            query(total("process_resident_memory_bytes", PROCESS, by=WORKER), OF_WORKER),
        ),
        lines(
            "Virtual memory",
            "Address space of each worker; it grows with threads and mapped files, and costs nothing by itself.",
            "bytes",
            query(total("process_virtual_memory_bytes", PROCESS, by=WORKER), OF_WORKER),
        ),
        lines(
            "Open descriptors",
            "Files and sockets of each worker. What only grows is a leak.",
            "none",
            query(total("process_open_fds", PROCESS, by=WORKER), OF_WORKER),
        ),
        limit(
            lines(
                "Descriptors used",
                "Share of those that a worker may open; at 100 % it can accept no connection.",
                "percentunit",
                query(open_share, OF_WORKER),
            ),
            0.8,
        ),
        lines(
            "Requests in progress by instance",
            "As many as an instance has workers and threads: it is full, and requests wait in the socket.",
            "none",
            query(total("http_server_active_requests", APP, by=("instance",)), "{{instance}}"),
        ),
    ]


def collections() -> list[Panel]:
    """What Python's collector of cycles does."""
    by = ("instance", "generation")
    legend = "{{instance}} generation {{generation}}"
    return [
        lines(
            "Collections",
            "Runs a second by generation. Generation 2 looks at everything and stops the worker meanwhile.",
            "cps",
            query(rate("python_gc_collections_total", PROCESS, by=by), legend),
        ),
        lines(
            "Objects collected",
            "Objects a second that were freed because only a cycle held them.",
            "cps",
            query(rate("python_gc_objects_collected_total", PROCESS, by=by), legend),
        ),
        lines(
            "Objects that cannot be collected",
            "Objects a second; anything but 0 is a leak.",
            "cps",
            query(rate("python_gc_objects_uncollectable_total", PROCESS, by=by), legend),
        ),
    ]


def scrape() -> list[Panel]:
    """What Prometheus says of the target; empty where metrics are pushed over OTLP."""
    return [
        lines(
            "Target up",
            "1: the last scrape succeeded. Empty where metrics arrive by OTLP.",
            "none",
            query(total("up", PROCESS, by=("instance",), function="min"), "{{instance}}"),
        ).max(1),
        lines(
            "Scrape duration",
            "How long Prometheus waited for /metrics. Empty where metrics arrive by OTLP.",
            "s",
            query(total("scrape_duration_seconds", PROCESS, by=("instance",), function="max"), "{{instance}}"),
        ),
        lines(
            "Series",
            "Samples in a scrape: what Prometheus keeps for this app. max_series and max_routes bound it.",
            "short",
            query(total("scrape_samples_scraped", PROCESS, by=("instance",), function="max"), "{{instance}}"),
        ),
    ]


def apps() -> Panel:
    """What is deployed."""
    by = ("instance", "flask_app", "service_name", "service_version", "flask_version", "python_version")
    return rows(
        "Apps",
        "What runs now. service.version of OTEL_RESOURCE_ATTRIBUTES is the version; its changes are marked in every "
        "panel.",
        "none",
        {"apps": total("flask_app_info", APP, by=by, function="count")},
        sort="service_version",
    ).span(14)


def interpreters() -> Panel:
    """What it is run by."""
    return rows(
        "Interpreters",
        "Pythons that run now.",
        "none",
        {"instances": total("python_info", PROCESS, by=("implementation", "version"), function="count")},
        sort="version",
    ).span(10)
