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
from .queries import changes
from .queries import increase
from .queries import padded
from .queries import PROCESS
from .queries import RANGE
from .queries import rate
from .queries import total
from .queries import where
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
            "gunicorn replaces workers that time out, are killed for their memory, or reach max_requests. A process "
            "that keeps its metrics for itself starts when it tells another start time.",
            starts(RANGE),
        ).height(8),
        lines(
            "Starts by instance",
            "Workers that began within one rate interval. An instance that keeps starting them is in a crash loop.",
            "short",
            query(starts(WINDOW, by=("instance",)), "{{instance}}"),
        ),
        lines(
            "Age",
            "Time since each worker began. A saw is max_requests or a crash; a step down for all of them is a deploy.",
            "s",
            query(
                f"time() - {total('process_start_time_seconds', PROCESS, by=WORKER, function='max', app=APP)}",
                OF_WORKER,
            ),
        ),
    ]


def starts(window: str, *, by: tuple[str, ...] = ()) -> str:
    """Count the workers that began; a process of its own always says that one did, and is known by its start time."""
    counted = increase("observability_worker_starts_total", PROCESS, by=by, window=window)
    alone = where(PROCESS, 'worker=""')
    seen = changes("process_start_time_seconds", alone, by=by, window=window, app=APP)
    return f"{counted} + {padded(seen, counted)}"


def resources() -> list[Panel]:
    """CPU, memory, descriptors, and the requests that need them."""
    descriptors = total("process_open_fds", PROCESS, by=WORKER, app=APP)
    most_descriptors = total("process_max_fds", PROCESS, by=WORKER, app=APP)
    return [
        limit(
            lines(
                "CPU",
                "Of each worker; 100 % is one core. A Python process rarely gets beyond, and its threads wait there.",
                "percentunit",
                query(rate("process_cpu_seconds_total", PROCESS, by=WORKER, app=APP), OF_WORKER),
            ),
            0.9,
        ),
        lines(
            "Resident memory",
            "Of each worker. Pages that forked workers share are counted in each of them.",
            "bytes",
            query(total("process_resident_memory_bytes", PROCESS, by=WORKER, app=APP), OF_WORKER),
        ),
        lines(
            "Virtual memory",
            "Address space of each worker; it grows with threads and mapped files, and costs nothing by itself.",
            "bytes",
            query(total("process_virtual_memory_bytes", PROCESS, by=WORKER, app=APP), OF_WORKER),
        ),
        lines(
            "Open descriptors",
            "Files and sockets of each worker. What only grows is a leak.",
            "none",
            query(descriptors, OF_WORKER),
        ),
        limit(
            lines(
                "Descriptors used",
                "Share of those that a worker may open; at 100 % it can accept no connection.",
                "percentunit",
                query(f"{descriptors} / {most_descriptors}", OF_WORKER),
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
            query(rate("python_gc_collections_total", PROCESS, by=by, app=APP), legend),
        ),
        lines(
            "Objects collected",
            "Objects a second that were freed because only a cycle held them.",
            "cps",
            query(rate("python_gc_objects_collected_total", PROCESS, by=by, app=APP), legend),
        ),
        lines(
            "Objects that cannot be collected",
            "Objects a second; anything but 0 is a leak.",
            "cps",
            query(rate("python_gc_objects_uncollectable_total", PROCESS, by=by, app=APP), legend),
        ),
    ]


def scrape() -> list[Panel]:
    """What a scrape adds to what it found, be it Prometheus' or that of a collector that pushes on."""
    return [
        lines(
            "Target up",
            "1: the last scrape succeeded. Where a collector scrapes and pushes on, which is untested here, it is the "
            "collector's.",
            "none",
            query(total("up", PROCESS, by=("instance",), function="min", app=APP), "{{instance}}"),
        ).max(1),
        lines(
            "Scrape duration",
            "How long Prometheus, or the collector that pushes on, waited for /metrics.",
            "s",
            query(total("scrape_duration_seconds", PROCESS, by=("instance",), function="max", app=APP), "{{instance}}"),
        ),
        lines(
            "Series",
            "Samples in a scrape: what is kept for this app. max_series and max_routes bound it.",
            "short",
            query(total("scrape_samples_scraped", PROCESS, by=("instance",), function="max", app=APP), "{{instance}}"),
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
        {"instances": total("python_info", PROCESS, by=("implementation", "version"), function="count", app=APP)},
        sort="version",
    ).span(10)
