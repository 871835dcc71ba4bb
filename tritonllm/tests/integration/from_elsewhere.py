"""A server process to which every client is one from elsewhere, and that ends gRPC connections soon: run in place of `server.py`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tritonllm import serve
from tritonllm.serve import connections, triton

AGE = "TRITONLLM_TEST_CONNECTION_AGE_SECONDS"

if __name__ == "__main__":
    triton.CONNECTION_AGE_SECONDS = float(os.environ[AGE])
    connections.is_here = lambda address: False
    given = json.loads(sys.argv[1])
    given["files"] = tuple(Path(file) for file in given["files"])
    sys.exit(serve.run(serve.Options(**given)))
