"""What every kernel's module does when it is imported."""

from __future__ import annotations

import subprocess
import sys


def test_scipy_is_there_for_who_asks_and_not_loaded_for_kernels() -> None:
    program = (
        "import sys, vision.preprocess\n"
        "assert not [name for name in sys.modules if name.startswith('scipy.linalg')], 'a fifth of a second at each start'\n"
        "from scipy.linalg import cython_blas\n"
        "assert cython_blas.__pyx_capi__"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
