"""Checks of golden files, one module per kind of file; `python -m tests.check_goldens` dispatches to them."""
