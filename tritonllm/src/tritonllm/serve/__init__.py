"""`tritonllm serve`: one supervisor of tritonserver, on a laptop and as the command of a pod.

The CLI calls `run`. It renders the endpoints, starts tritonserver, loads model by model, heals what dies,
answers `/readyz` and `/livez` on a port of its own, drains, and leaves
neither process nor shared memory behind.
"""

from __future__ import annotations

from tritonllm.serve.options import STOP_SECONDS, Options
from tritonllm.serve.preflight import PreflightError
from tritonllm.serve.report import Lines, Reporter, Serving
from tritonllm.serve.supervisor import run

__all__ = ["STOP_SECONDS", "Lines", "Options", "PreflightError", "Reporter", "Serving", "run"]
