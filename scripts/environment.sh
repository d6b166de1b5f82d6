# Sourced by the scripts beside it. Goes to the root of the checkout and puts the right environment first on PATH: the
# active one if it runs this checkout and has all extras, .venv otherwise, made or brought up to date when necessary.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs_this_checkout() (
    export LINESIDE_CHECKOUT=$PWD
    cd /
    python - 2>/dev/null <<'PY'
import importlib.util, os, pathlib, sys

spec = importlib.util.find_spec("pipeline")
here = spec and spec.origin and pathlib.Path(os.environ["LINESIDE_CHECKOUT"]).resolve() in pathlib.Path(spec.origin).resolve().parents
tools = ("onnxruntime", "amqtt", "elpv_dataset", "pytest", "mypy")
sys.exit(not (here and all(importlib.util.find_spec(tool) for tool in tools)))
PY
)

if ! runs_this_checkout; then
    scripts/setup
    export VIRTUAL_ENV=$PWD/.venv PATH=$PWD/.venv/bin:$PATH
fi
