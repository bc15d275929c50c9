"""A SERVER span that is the SDK's in everything but its price.

The SDK looks at every attribute value to find out what it is: 53 of the 139 microseconds of a request's span under
cProfile. Ours are strings and numbers, known to be; so the span is started by the SDK's own rules, with the attributes
in a plain dict until somebody else adds one.

Most spans need not be made at all before they end: where neither the sampler nor a processor would look at one that
starts, an identity (a decision and two ids) is all that a child, a record or an exemplar needs, and at its end it
becomes the ``ReadableSpan`` that processors and exporters get.

This is the one place that holds private names of ``opentelemetry.sdk.trace``; ``tests/test_sinks_server_span.py``
compares every span with the SDK's own. Where one of the names is missing, :func:`~.starter.make_starter` falls back to
``Tracer.start_span``.
"""
