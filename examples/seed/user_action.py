"""The seed's first custom signal, on the package's namespace: declare, connect, send.

python user_action.py
"""

from __future__ import annotations

from audit_events import event_bus

user_action_triggered = event_bus.signal("user-action")


@user_action_triggered.connect
def audit_user_activity(sender: str, **payload: str) -> None:
    user_id = payload.get("user_id")
    action_type = payload.get("action")
    print(f"Audit: {user_id} performed {action_type} from {sender}")


if __name__ == "__main__":
    user_action_triggered.send("payment_gateway", user_id="usr_123", action="checkout")
