"""One output each; no sink knows another, or Flask."""
