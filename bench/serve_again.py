"""Runs `serve` again when it gives up, as a kubelet would: kills can come more often than it tolerates.

Started by `load.py` in place of the tests' server, with the same argument.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tritonllm" / "tests"))

from integration import server
from tritonllm import serve

AGAIN = "serve ended and is run again"

if __name__ == "__main__":
    while code := serve.run(server.options(sys.argv[1])):
        print(f"{AGAIN} (code {code})", file=sys.stderr, flush=True)
