"""The project's own measurements: one module a suite, each a function that returns what ``--json`` prints."""
