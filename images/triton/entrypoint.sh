#!/bin/sh
# NVIDIA's entry point, before tritonllm: where the driver is older than the container's CUDA, it sets the path of the
# libraries by which that works all the same. It prints a banner; standard output is the command's alone.
exec 3>&1 >&2
exec /opt/nvidia/nvidia_entrypoint.sh /bin/sh -c 'exec tritonllm "$@" >&3 3>&-' tritonllm "$@"
