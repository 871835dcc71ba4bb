"""A server process that ends gRPC connections twice a second: run in place of `server.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tritonllm import serve
from tritonllm.serve import triton

if __name__ == "__main__":
    triton.CONNECTION_AGE_SECONDS = 0.5
    given = json.loads(sys.argv[1])
    given["files"] = tuple(Path(file) for file in given["files"])
    sys.exit(serve.run(serve.Options(**given)))
