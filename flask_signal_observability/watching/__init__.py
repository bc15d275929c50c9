"""Custom signals: what becomes of them, said once and compiled once."""
