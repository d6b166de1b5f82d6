"""``python -m pipeline.cli`` is ``lineside``."""

from __future__ import annotations

from pipeline.cli.main import main

main()
