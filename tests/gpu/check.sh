#!/bin/sh
# Checks and times the GPU path on a machine with a GPU, CUDA 13, cuDNN 9 and Python 3.12 with torch and transformers.
# Nothing is fetched: onnxruntime-gpu and what else the machine lacks are given as wheels.
#
#   tests/gpu/check.sh WHEELS [options of tests.gpu.check]
#
# WHEELS is a folder with *.whl; a wheel that came in parts (NAME.whl.00, NAME.whl.01, ...) is joined first. They are
# unpacked to $SITE (default: /tmp/site), which comes first on the path. Results go to $OUT (default: runs/gpu).
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
wheels=${1:?usage: tests/gpu/check.sh WHEELS [options of tests.gpu.check]}
shift
site=${SITE:-/tmp/site}
out=${OUT:-$root/runs/gpu}
python=${PYTHON:-python3}

mkdir -p "$site" "$out"
for first in "$wheels"/*.whl.00; do
    [ -e "$first" ] || continue
    joined=${first%.00}
    cat "$joined".[0-9][0-9] > "$site/$(basename "$joined")"
done
for wheel in "$wheels"/*.whl "$site"/*.whl; do
    [ -e "$wheel" ] || continue
    "$python" -m zipfile -e "$wheel" "$site"
done

export PYTHONPATH="$site:$root/protos:$root/client:$root/server:$root/model:$root/export"
export PYTHONUNBUFFERED=1
cd "$root"
exec "$python" -m tests.gpu.check --output "$out" "$@"
