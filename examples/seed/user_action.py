"""The seed's first custom signal: one line says what becomes of it, and no receiver is written.

python user_action.py     # then: cat access_audit.log
"""

from __future__ import annotations

from audit_events import event_bus
from flask import Flask

from flask_signal_observability import Observability

user_action_triggered = event_bus.signal("user-action")

app = Flask(__name__)
observability = Observability(app)
observability.watch(
    user_action_triggered,
    count="user_actions_total",
    labels={"action": ("checkout", "refund")},
    span_event="user.action",
    log="info",
    audit="{user_id} performed {action} from {sender}",
)


@app.route("/checkout")
def checkout() -> dict[str, str]:
    user_action_triggered.send("payment_gateway", user_id="usr_123", action="checkout")
    return {"status": "paid"}


if __name__ == "__main__":
    user_action_triggered.send("payment_gateway", user_id="usr_123", action="checkout")
