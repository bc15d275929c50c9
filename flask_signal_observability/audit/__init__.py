"""The audit file and the error journal: their records, how they are written, and what becomes of old files."""
