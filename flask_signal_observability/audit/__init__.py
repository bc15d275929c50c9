"""The audit file: its lines, how they are written, sealed, verified and read again."""
