"""The seed's exception monitoring: the error journal needs no receiver, and Flask's own signal may be watched, too.

flask --app exception_journal run     # then: curl 127.0.0.1:5000/compute; cat error_journal.log
"""

from __future__ import annotations

from flask import Flask
from flask import got_request_exception

from flask_signal_observability import Observability

app = Flask(__name__)
observability = Observability(app)
observability.watch(got_request_exception, count="computations_failed_total", span_event="failed", log="warning")


@app.route("/compute")
def compute() -> dict[str, float]:
    result = 10 / 0  # Intentional error
    return {"result": result}


if __name__ == "__main__":
    app.run()
