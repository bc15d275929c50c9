"""``http_server_active_requests`` and ``flask_app_contexts_active``: what is open is held, not counted up and down.

The cell of the active requests is set to how many records are held, which cannot leak or go below 0 whatever leaves
twice or never. Other processes see a request in flight as one context; only its own knows of more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..catalogue import METRICS
from ..catalogue import OTHER
from ..metrics_store.family import Family

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from ..metrics_store.family import Cell
    from ..metrics_store.family import Row
    from ..metrics_store.store import MetricsStore
    from ..record import RequestRecord

__all__ = ["ACTIVE_REQUESTS", "CONTEXTS", "SCHEMES", "Active", "AppInFlight", "InFlight", "scheme_of"]

ACTIVE_REQUESTS = "http_server_active_requests"
CONTEXTS = "flask_app_contexts_active"

SCHEMES = frozenset({"http", "https"})


class Active:
    """The open requests of one method and scheme."""

    __slots__ = ("index", "records")

    def __init__(self, cell: Cell) -> None:
        self.index = cell.index
        self.records: set[RequestRecord] = set()


class AppInFlight:
    """The open requests of one app. Safe to use from several threads."""

    def __init__(self, store: MetricsStore, requests: Family, contexts: Family, app_name: str) -> None:
        self._store = store
        self._requests = requests
        self._app_name = app_name
        self._outside: Cell = contexts.child(app_name)
        self._contexts_outside = 0
        self.follows_contexts = True
        """Flask's context signals are observed."""
        # By scheme and method: two looks into dicts take less than one with a key made of the two.
        self._actives: dict[object, dict[str, Active]] = {}

    def enter(self, record: RequestRecord) -> None:
        """Count a request in, under its method and the scheme that it has now, whatever a ProxyFix makes of it."""
        try:
            active = self._actives[record.environ["wsgi.url_scheme"]][record.method]
        except KeyError:
            active = self._active(record.method, record.environ.get("wsgi.url_scheme"))
        record.active = active
        records = active.records
        store = self._store
        lock = store.lock
        # As in MetricsSink.finish.
        try:
            lock.acquire()
            records.add(record)
            store.words[active.index] = len(records)
        finally:
            try:
                lock.release()
            except RuntimeError:
                pass

    def _active(self, method: str, scheme: object) -> Active:
        label = scheme_of(scheme)
        cell = self._requests.child(self._app_name, method, label)
        with self._store.lock:
            actives = self._actives.setdefault(label, {})
            if method not in actives:
                actives[method] = Active(cell)
            return actives[method]

    def leave(self, record: RequestRecord) -> None:
        """Count a request out, and with it the application contexts that nobody popped."""
        active = record.active
        if active is not None:
            store = self._store
            with store.lock:
                active.records.discard(record)
                store.words[active.index] = len(active.records)

    def add_contexts(self, change: int) -> None:
        """Count application contexts outside of observed requests."""
        with self._store.lock:
            # Never below 0: Flask sends an appcontext_popped for a context that was pushed inside a request, too.
            self._contexts_outside = max(0, self._contexts_outside + change)
            self._outside.set(self._contexts_outside)

    def uncounted_contexts(self) -> int:
        """Return how many contexts more there are in this process's open requests than one each."""
        return sum(record.open_contexts - 1 for record in self._records())

    def forget(self) -> None:
        """Hold nothing: this is another process now."""
        self._contexts_outside = 0
        for active in self._all():
            active.records.clear()

    def _records(self) -> Iterator[RequestRecord]:
        for active in self._all():
            yield from active.records.copy()

    def _all(self) -> list[Active]:
        return [active for actives in self._actives.copy().values() for active in actives.copy().values()]


class InFlight:
    """Both families in one store, for all its apps."""

    def __init__(self, store: MetricsStore) -> None:
        self._store = store
        self._requests = Family(METRICS[ACTIVE_REQUESTS], store, derive=_sorted)
        self._contexts = Family(METRICS[CONTEXTS], store, derive=self._with_requests)
        self._apps: dict[str, AppInFlight] = {}
        store.on_new_process(self.forget)

    def of(self, app_name: str) -> AppInFlight:
        """Return the open requests of the apps of this name."""
        if app_name not in self._apps:
            self._apps[app_name] = AppInFlight(self._store, self._requests, self._contexts, app_name)
        return self._apps[app_name]

    def forget(self) -> None:
        """Hold nothing: what the parent of this process has open is none of its own."""
        for app in self._apps.values():
            app.forget()

    def _with_requests(self, rows: list[Row], counted: Callable[[str], list[Row]]) -> list[Row]:
        contexts = dict(rows)
        for (app_name, *_), requests in counted(ACTIVE_REQUESTS):
            app = self._apps.get(app_name)
            if (app_name,) in contexts and (app is None or app.follows_contexts):
                contexts[(app_name,)] += requests
        for app_name, app in self._apps.copy().items():
            if app.follows_contexts:
                contexts[(app_name,)] += app.uncounted_contexts()
        return [(labels, max(0, number)) for labels, number in contexts.items()]


def _sorted(rows: list[Row], counted: Callable[[str], list[Row]]) -> list[Row]:
    return sorted(rows)


def scheme_of(scheme: object) -> str:
    """Return the scheme as a label."""
    return scheme if isinstance(scheme, str) and scheme in SCHEMES else OTHER
