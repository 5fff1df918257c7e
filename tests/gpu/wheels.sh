#!/bin/sh
# Makes the wheels ready that tests/gpu/check.sh wants, where there is a network: for Python 3.12 on x86-64 Linux, what a
# machine with CUDA 13, cuDNN 9, torch, transformers, onnx and onnxscript lacks.
#
#   tests/gpu/wheels.sh FOLDER [ARCHITECTURE]
#
# FOLDER gets folders of at most 55 MB, for machines that can be given little at one time: "small", "ctranslate2", and
# "00", "01", ... with the parts of onnxruntime-gpu. With an ARCHITECTURE (90: compute capability 9.0) its kernels are
# kept for that alone, which takes more than half of it away; whoever publishes figures says so. "small" and all numbered ones are needed;
# without "ctranslate2" there is no comparison with it.
set -eu

folder=${1:?usage: tests/gpu/wheels.sh FOLDER [ARCHITECTURE]}
architecture=${2:-}
python=${PYTHON:-python3}
runtime=onnxruntime-gpu==1.31.1

cd "$(dirname "$0")/../.."
mkdir -p "$folder/small" "$folder/ctranslate2" "$folder/whole"
fetch() {
    target=$1
    shift
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 -d "$target" "$@"
}
fetch "$folder/small" pydantic==2.14.3 pydantic_core==2.50.4 annotated-types==0.8.0 typing-inspection==0.4.5 \
    structlog==26.1.0 pydantic-settings==2.16.3 python-dotenv==1.2.4 protobuf==6.33.6
fetch "$folder/ctranslate2" ctranslate2==4.8.5
fetch "$folder/whole" "$runtime"
wheel=$(ls "$folder"/whole/onnxruntime_gpu-*.whl)
if [ -n "$architecture" ]; then
    "$python" -m tests.gpu.slim_wheel "$wheel" "$architecture" "$folder/slim.whl"
    mv "$folder/slim.whl" "$wheel"
fi
rm -rf "$folder"/[0-9][0-9]
split -b 55000000 -d -a 2 "$wheel" "$wheel."
for part in "$wheel".[0-9][0-9]; do
    mkdir "$folder/${part##*.}"
    mv "$part" "$folder/${part##*.}/"
done
rm -r "$folder/whole"
du -sm "$folder"/*
