"""The real parts as fixtures; a failed test shows what they printed."""

from __future__ import annotations

import contextlib
from typing import Protocol
from typing import TYPE_CHECKING

import pytest

from .collector import collecting
from .otlp_receiver import receiving
from .programs import output_of_running
from .prometheus import scraping
from .served import serving

if TYPE_CHECKING:
    from collections.abc import Generator
    from collections.abc import Iterator
    from collections.abc import Mapping

    from .collector import Collector
    from .otlp_receiver import OtlpReceiver
    from .prometheus import Prometheus
    from .served import Served

OUTPUT_CHARACTERS = 8000


class Serve(Protocol):
    """What the ``served`` fixture is: each call serves one app more, until the module ends."""

    def __call__(
        self,
        app: str = ...,
        *,
        env: Mapping[str, str] | None = ...,
        workers: int = ...,
        threads: int = ...,
    ) -> Served: ...


class Scrape(Protocol):
    """What the ``prometheus`` fixture is: each call starts one Prometheus that scrapes the port."""

    def __call__(self, target_port: int) -> Prometheus: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"output of {name}", text[-OUTPUT_CHARACTERS:]) for name, text in output_of_running()]
    return report


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def serve(
            app: str = "app:create_app()",
            *,
            env: Mapping[str, str] | None = None,
            workers: int = 1,
            threads: int = 4,
        ) -> Served:
            directory = tmp_path_factory.mktemp("served")
            return stack.enter_context(serving(app, directory=directory, env=env, workers=workers, threads=threads))

        yield serve


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrape]:
    with contextlib.ExitStack() as stack:

        def scrape(target_port: int) -> Prometheus:
            return stack.enter_context(scraping(target_port, tmp_path_factory.mktemp("prometheus")))

        yield scrape


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collecting(tmp_path_factory.mktemp("collector")) as running_collector:
        yield running_collector


@pytest.fixture
def otlp_receiver() -> Iterator[OtlpReceiver]:
    with receiving() as receiver:
        yield receiver
