#!/usr/bin/env python3
"""Bring a camera of a line to a state that can be proved, step by step: at a terminal, over SSH, or unattended from a folder.

    python scripts/calibrate.py LINE --as WHO [--images DIR] [--from STEP]

The same as ``lineside calibrate guide``; docs/calibration.md says what each step needs.
"""

from __future__ import annotations

import sys

from pipeline.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["calibrate", "guide"]
    main()
