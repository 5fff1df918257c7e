#!/bin/sh
# Checks and times the GPU path on a machine with a GPU, CUDA 13, cuDNN 9, and Python 3.12 with torch and transformers.
# Nothing is fetched: onnxruntime-gpu and what else the machine lacks are given as wheels, as tests/gpu/wheels.sh makes
# them ready.
#
#   tests/gpu/check.sh WHEELS [options of tests.gpu.check]
#
# WHEELS is a folder with *.whl, in folders of its own or not; a wheel that came in parts (NAME.whl.00, NAME.whl.01, ...)
# is joined first. They are unpacked to $SITE (default: /tmp/site), which comes first on the path; once unpacked, they
# are not unpacked again. Results go to $OUT (default: runs/gpu).
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
wheels=${1:?usage: tests/gpu/check.sh WHEELS [options of tests.gpu.check]}
shift
site=${SITE:-/tmp/site}
out=${OUT:-$root/runs/gpu}
python=${PYTHON:-python3}

mkdir -p "$site/wheels" "$site/lib" "$out"
find "$wheels" -name '*.whl.00' | while read -r first; do
    name=$(basename "${first%.00}")
    [ -e "$site/wheels/$name.unpacked" ] && continue
    find "$wheels" -name "$name.[0-9][0-9]" | sed 's|.*\.||' | sort -u | while read -r number; do
        find "$wheels" -name "$name.$number" | head -n 1 | xargs cat
    done > "$site/wheels/$name"
done
find "$wheels" "$site/wheels" -name '*.whl' | while read -r wheel; do
    mark=$site/wheels/$(basename "$wheel").unpacked
    [ -e "$mark" ] && continue
    "$python" -m zipfile -e "$wheel" "$site"
    touch "$mark"
done

export PYTHONPATH="$site:$root/protos:$root/client:$root/server:$root/model:$root/export"
export PYTHONUNBUFFERED=1
cd "$root"
"$python" - <<'EOF'
import sys
from importlib.util import find_spec

needed = "onnxruntime torch transformers onnx onnxscript numpy tokenizers safetensors pydantic pydantic_settings structlog grpc google"
missing = [name for name in needed.split() if find_spec(name) is None]
if missing:
    sys.exit(f"this machine's Python lacks, and the wheels do not bring: {', '.join(missing)}")
EOF
# CTranslate2 is built for CUDA 12 and looks for that cuBLAS when it first needs one; of CUDA 13's it finds all it calls.
if [ -d "$site/ctranslate2" ] && [ ! -e "$site/lib/libcublas.so.12" ]; then
    cublas=$("$python" -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))')
    cublas=$(find "$cublas/nvidia" /usr/local/cuda* /usr/lib -name 'libcublas.so.13' 2>/dev/null | head -n 1)
    [ -z "$cublas" ] || ln -s "$cublas" "$site/lib/libcublas.so.12"
fi
export LD_LIBRARY_PATH="$site/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$python" -m tests.gpu.check --output "$out" "$@"
