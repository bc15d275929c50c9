"""An app with a sealed audit file, and nothing else, that may also be run as a script."""

from __future__ import annotations

import flask

from flask_signal_observability import Observability

REQUESTS = 25

app = flask.Flask("audited")
Observability(
    app,
    audit_chain=True,
    audit_key="a secret of 24 characters",
    audit_requests=True,
    tracing=False,
    metrics=False,
    logs=False,
)


@app.get("/orders")
def orders() -> str:
    return "none"


if __name__ == "__main__":
    client = app.test_client()
    for _ in range(REQUESTS):
        client.get("/orders")
