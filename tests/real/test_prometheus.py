"""What a real Prometheus sees of an app that misbehaving clients call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Scrape
    from .conftest import Serve
    from .prometheus import Prometheus

pytestmark = pytest.mark.real

DURATION = "http_server_request_duration_seconds"
STRANGERS = 30


@pytest.fixture(scope="module")
def scraped(served: Serve, prometheus: Scrape) -> Prometheus:
    """A Prometheus that has seen an app after a scan by clients that know none of its URLs or methods."""
    server = served()
    scraper = prometheus(server.port)
    for number in range(STRANGERS):
        server.send(f"/made-up/{number}")
        server.send("/json", method=f"MADEUP{number}")
    assert server.send("/json").status == 200
    scraper.wait_for(f"sum({DURATION}_count) == {2 * STRANGERS + 1}")
    return scraper


def test_the_target_is_up_and_its_samples_are_all_taken(scraped: Prometheus) -> None:
    assert [sample.value for sample in scraped.query('up{job="app"}')] == [1.0]
    scraped_samples, kept_samples = (
        scraped.query(name)[0].value for name in ("scrape_samples_scraped", "scrape_samples_post_metric_relabeling")
    )
    assert scraped_samples == kept_samples > 0


def test_urls_that_match_no_route_are_one_series(scraped: Prometheus) -> None:
    (unmatched,) = scraped.query(f'{DURATION}_count{{http_route="",http_response_status_code="404"}}')
    assert unmatched.value == STRANGERS


def test_methods_that_nobody_knows_are_one_series(scraped: Prometheus) -> None:
    (other,) = scraped.query(f'{DURATION}_count{{http_request_method="_OTHER"}}')
    assert other.value == STRANGERS


def test_scrapes_are_not_requests_of_the_app(scraped: Prometheus) -> None:
    assert scraped.query(f'{DURATION}_count{{http_route=~".*metrics.*"}}') == []
    assert scraped.query(f"sum({DURATION}_count) != {2 * STRANGERS + 1}") == []


def test_a_quantile_can_be_asked_for_by_route(scraped: Prometheus) -> None:
    query = f'histogram_quantile(0.99, sum by (le, http_route) ({DURATION}_bucket{{http_route="/json"}}))'
    (quantile,) = scraped.query(query)
    assert 0 < quantile.value < 1


def test_the_app_says_what_it_is(scraped: Prometheus) -> None:
    (info,) = scraped.query("flask_app_info")
    assert info.labels["flask_app"] == info.labels["service_name"] == "shop"
    assert info.value == 1.0
