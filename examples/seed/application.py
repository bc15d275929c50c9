"""The seed's dashboard: one line more, and its audit line has spans, metrics and JSON records beside it.

The second line makes a counter and a span event of the same signal.

flask --app application run     # then: curl '127.0.0.1:5000/dashboard?user=alice'; cat access_audit.log
"""

from __future__ import annotations

from audit_events import access_logged
from flask import Flask
from flask import g
from flask import request

from flask_signal_observability import Observability

app = Flask(__name__)
observability = Observability(app)
observability.watch(access_logged, count="accesses_total", span_event="access", log="info")


@app.route("/dashboard")
def dashboard() -> dict[str, str]:
    g.current_user = request.args.get("user", "guest")
    access_logged.send("dashboard_module")
    return {"status": "active", "user": g.current_user}


if __name__ == "__main__":
    app.run()
