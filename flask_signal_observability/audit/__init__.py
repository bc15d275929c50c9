"""The audit file and the error journal: their records, how they are written, sealed, verified and read again."""
