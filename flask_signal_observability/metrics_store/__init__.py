"""Our own metrics: cells that a request adds to, and what a scrape makes of them, of one process or of several.

``segment`` holds the cells of one process, ``family`` names them, ``store`` reads them, ``page`` writes them.
"""
