#!/bin/sh
# Makes a virtual environment with finegrade in it: setup.sh PYTHON VENV REQUIREMENT
# Torch comes first, as a CPU build, because the registry's default build pulls gigabytes of CUDA libraries.
# A torch that is in VENV already (yours, with a GPU) stays.
set -eu
python=$1 venv=$2 requirement=$3

if [ -z "$python" ]; then
    echo "finegrade needs Python 3.11 or newer: found none on PATH. Install one, or name it: make PYTHON=/path/to/python3" >&2
    exit 2
fi
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv "$venv" || {
        echo "could not make a virtual environment with $python. On Debian or Ubuntu: apt-get install python3-venv" >&2
        exit 2
    }
fi
pip="$venv/bin/python -m pip"

if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    echo "installing $TORCH (CPU build)"
    # uv knows where the CPU builds are; where it cannot reach them, pip's own configuration decides.
    $pip install --quiet uv
    UV_HTTP_RETRIES=1 "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu "$TORCH" || {
        echo "could not reach the CPU builds; installing $TORCH as pip finds it (several GB where that is a CUDA build)"
        $pip install --quiet "$TORCH"
    }
fi
echo "installing finegrade and what it builds on"
$pip install --quiet -e "$requirement"
