#!/usr/bin/env bash
# Prints where AIPerf is: the one on the PATH, else one in an environment of its own, installed once (half a minute).
# It cannot be in the workspace's lock: its releases up to 0.13 ask for huggingface-hub < 2.
#   TRITONLLM_AIPERF=$(tools/aiperf.sh)
set -euo pipefail
VERSION=0.13.0
# What it depends on is as it was at this time.
NOT_AFTER=2026-11-20

if command -v aiperf; then exit; fi
environment=${XDG_CACHE_HOME:-$HOME/.cache}/tritonllm/aiperf-$VERSION
if ! [ -x "$environment/bin/aiperf" ]; then
  echo "Installing AIPerf $VERSION into $environment" >&2
  rm -rf "$environment"
  "${UV:-uv}" venv --quiet --python "${PYTHON:-python3}" "$environment" >&2
  "${UV:-uv}" pip install --quiet --python "$environment/bin/python" --exclude-newer "$NOT_AFTER" "aiperf==$VERSION" >&2
fi
echo "$environment/bin/aiperf"
