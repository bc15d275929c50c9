"""Bounded, varied traffic: visits of a few requests each, made up ahead from a seed and then driven by some threads."""

from __future__ import annotations

import http.client
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["Answer", "Step", "Visit", "drive", "failing_visit", "plan", "unsampled"]

THREADS = 4
THINKING_SECONDS = 0.03
TIMEOUT_SECONDS = 10
TRACED = 0.3
"""The share of requests whose caller sends a traceparent."""
FAILING_PATH = "/recommendations/gift-card"

CATEGORIES = ("teapot", "kettle", "lamp", "mug", "notebook", "backpack")
MAKES = ("blue", "copper", "oak", "linen", "enamel", "glass")
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")


@dataclass(frozen=True)
class Step:
    """One request to make."""

    method: str
    path: str
    form: dict[str, str] | None = None
    trace_id: str | None = None
    """The caller's trace that the request belongs to."""
    sampled: bool = True
    """Whether the caller records that trace."""


@dataclass(frozen=True)
class Visit:
    """What one visitor does, step by step; ``address`` is what the proxy in front would tell."""

    address: str
    steps: list[Step]


@dataclass(frozen=True)
class Answer:
    """One request as the client saw it."""

    method: str
    path: str
    status: int
    size_bytes: int
    trace_id: str
    """As ``traceresponse`` tells it; empty where the shop does not."""


@dataclass
class Visitor:
    """A browser: one kept connection and its cookies."""

    port: int
    visit: Visit
    cookies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)

    def take(self, step: Step) -> Answer:
        headers = {"X-Forwarded-For": self.visit.address, "User-Agent": "shop-demo/1.0"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if step.trace_id:
            headers["traceparent"] = f"00-{step.trace_id}-{secrets.token_hex(8)}-0{step.sampled:d}"
        if step.form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(step.method, step.path, urlencode(step.form) if step.form else None, headers)
        response = self.connection.getresponse()
        body = response.read()
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        _, _, trace = response.headers.get("traceresponse", "").partition("-")
        return Answer(step.method, step.path, response.status, len(body), trace.partition("-")[0])


def plan(requests: int, chance: random.Random) -> list[Visit]:
    """Return visits of ``requests`` requests in all; the first ones see every page of the shop once."""
    visits: list[Visit] = []
    left = requests
    tour = [story(chance) for story in STORIES]
    while left > 0:
        steps = tour.pop(0) if tour else chance.choices(list(STORIES), list(STORIES.values()))[0](chance)
        steps = [traced(step) if chance.random() < TRACED else step for step in steps[:left]]
        left -= len(steps)
        address = f"{chance.choice(('198.51.100', '203.0.113'))}.{chance.randrange(1, 255)}"
        visits.append(Visit(address, steps))
    return visits


def drive(port: int, visits: list[Visit], advance: Callable[[], None]) -> list[Answer]:
    """Make all requests, four visitors at a time; ``advance`` is called after each one."""

    def make(visit: Visit) -> list[Answer]:
        visitor = Visitor(port, visit)
        answers = []
        try:
            for step in visit.steps:
                answers.append(visitor.take(step))
                advance()
                time.sleep(THINKING_SECONDS)
        finally:
            visitor.connection.close()
        return answers

    with ThreadPoolExecutor(THREADS) as threads:
        return [answer for answers in threads.map(make, visits) for answer in answers]


def failing_visit() -> Visit:
    """Return a sign-in, from an address of its own, and a run into the shop's bug, in a trace of the shop's."""
    return Visit("192.0.2.99", [Step("POST", "/accounts/sign-in", {"name": "quinn"}), Step("GET", FAILING_PATH)])


def traced(step: Step) -> Step:
    # Not from the seed: in a collector that stays, two runs must not share a trace.
    return replace(step, trace_id=secrets.token_hex(16))


def unsampled(visits: list[Visit]) -> list[Visit]:
    """Return the visits as those of callers that record no trace: the shop then makes no spans either."""
    return [replace(each, steps=[replace(traced(step), sampled=False) for step in each.steps]) for each in visits]


def some_sku(chance: random.Random) -> str:
    return f"{chance.choice(MAKES)}-{chance.choice(CATEGORIES)}"


def browse(chance: random.Random) -> list[Step]:
    category = chance.choice(CATEGORIES)
    shelf = f"/products/?category={category}"
    return [Step("GET", "/"), Step("GET", shelf), Step("GET", f"/products/{chance.choice(MAKES)}-{category}")]


def buy(chance: random.Random) -> list[Step]:
    steps = [Step("POST", "/accounts/sign-in", {"name": chance.choice(NAMES)}), Step("GET", "/")]
    for _ in range(chance.randint(1, 2)):
        sku = chance.choice((some_sku(chance), "copper-kettle"))
        steps += [Step("GET", f"/products/{sku}"), Step("POST", f"/cart/{sku}", {"quantity": "1"})]
    country = chance.choice(("at", "de", "fr", "jp"))
    return [*steps, Step("GET", f"/shipping/{country}"), Step("POST", "/checkout/"), Step("GET", "/accounts/orders")]


def ask_api(chance: random.Random) -> list[Step]:
    return [Step("GET", "/api/products"), Step("GET", f"/api/products/{some_sku(chance)}")]


def recommend(chance: random.Random) -> list[Step]:
    sku = chance.choice((some_sku(chance), some_sku(chance), "gift-card"))
    return [Step("GET", f"/recommendations/{sku}")]


def search(chance: random.Random) -> list[Step]:
    return [Step("GET", f"/search?{urlencode({'q': chance.choice(CATEGORIES)})}")]


def export(_chance: random.Random) -> list[Step]:
    return [Step("GET", "/reports/orders.csv")]


def follow_old_link(chance: random.Random) -> list[Step]:
    sku = some_sku(chance)
    return [Step("GET", f"/shop/{sku}"), Step("GET", f"/products/{sku}"), Step("GET", "/products")]


def go_wrong(chance: random.Random) -> list[Step]:
    return [
        Step("GET", f"/wp-login-{chance.randrange(100)}.php"),
        Step("DELETE", f"/products/{some_sku(chance)}"),
        Step("GET", "/products/?page=last"),
        Step("GET", "/accounts/orders"),
        Step("GET", "/shipping/xx"),
    ]


STORIES: dict[Callable[[random.Random], list[Step]], int] = {
    buy: 14,
    browse: 20,
    recommend: 12,
    ask_api: 10,
    search: 5,
    export: 4,
    follow_old_link: 5,
    go_wrong: 5,
}
"""What visitors do, and how often."""
