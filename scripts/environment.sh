# Sourced by the scripts beside it. Goes to the root of the checkout and puts the right environment first on PATH: the
# active one if it runs this checkout and has all extras, otherwise .venv, made or brought up to date where necessary.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

active_environment_will_do() {
    [[ ! ${VIRTUAL_ENV:-} -ef .venv ]] && python - "$PWD" 2>/dev/null <<'PY'
import os
import sys
from importlib.util import find_spec
from pathlib import Path

checkout = Path(sys.argv[1]).resolve()
os.chdir("/")  # what is importable from anywhere, not just from here
pipeline = find_spec("pipeline")
if pipeline is None or pipeline.origin is None or checkout not in Path(pipeline.origin).resolve().parents:
    sys.exit(1)
sys.exit(not all(map(find_spec, ("onnxruntime", "amqtt", "elpv_dataset", "pytest", "xdist", "mypy"))))
PY
}

if ! active_environment_will_do; then
    scripts/setup
    export VIRTUAL_ENV=$PWD/.venv PATH=$PWD/.venv/bin:$PATH
fi
