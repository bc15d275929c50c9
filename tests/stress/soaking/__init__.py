"""The parts of ``soak.py``: what is served, who visits it, where its spans go, and what is read afterwards."""
