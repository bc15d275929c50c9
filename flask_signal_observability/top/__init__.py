"""A running app's routes, read from what its ``/metrics`` says at two times."""
