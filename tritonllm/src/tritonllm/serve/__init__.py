"""`tritonllm serve`: supervises one tritonserver, on a laptop and as the command of a pod.

The CLI calls `run`. It renders the endpoints, starts tritonserver, loads the models one by one, reloads models whose
process died, answers `/readyz` and `/livez` on its own port, drains on SIGTERM, and leaves no process and no shared
memory behind.
"""

from __future__ import annotations

from tritonllm.serve.options import STOP_SECONDS, Options
from tritonllm.serve.preflight import PreflightError
from tritonllm.serve.report import Lines, Reporter, Serving
from tritonllm.serve.supervisor import run

__all__ = ["STOP_SECONDS", "Lines", "Options", "PreflightError", "Reporter", "Serving", "run"]
