"""The seed's three programs in one app, each of its signals watched in one line, and one watch by configuration."""

from __future__ import annotations

from blinker import Namespace
from flask import Flask
from flask import g
from flask import got_request_exception

from flask_signal_observability import access_logged
from flask_signal_observability import event_bus
from flask_signal_observability import Observability

__all__ = ["create_app", "order_paid"]

user_action = event_bus.signal("user-action")
order_paid = Namespace().signal("order-paid")
begun, paid = event_bus.signal("payment-begun"), event_bus.signal("payment-done")


def create_app() -> Flask:
    app = Flask("shop")
    observability = Observability()
    observability.watch(access_logged, count="accesses_total", span_event="access", log="info")
    observability.watch(
        user_action,
        count="user_actions_total",
        labels={"action": ("checkout", "refund")},
        span_event="user.action",
        log="info",
        audit="{user}@{ip}: {user_id} performed {action} from {sender}",
        redact=("card",),
    )
    observability.watch(got_request_exception, count="failed_total", span_event="failed", log="warning", fields=())
    observability.watch(paid, span=begun, measure="payment_duration_seconds", log="info")
    observability.init_app(app)

    @app.get("/dashboard")
    def dashboard() -> str:
        g.current_user = "alice"
        access_logged.send("dashboard_module")
        return "active"

    @app.get("/act/<action>")
    def act(action: str) -> str:
        user_action.send("payment_gateway", user_id="usr_123", action=action, card="canary-card")
        return action

    @app.get("/compute")
    def compute() -> str:
        return str(1 / 0)

    @app.get("/pay")
    def pay() -> str:
        begun.send("bank")
        paid.send("bank", outcome="taken")
        order_paid.send("bank", amount=12.5)
        return "paid"

    return app
