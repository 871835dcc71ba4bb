"""Names that the processes of a run agree on."""

from __future__ import annotations

from typing import Final

ENGINE: Final = "engine"
PIPELINE: Final = "pipeline"
"""How the name of the socket of such a model begins."""

GATEWAY_PROCESSES: Final = "TRITONLLM_GATEWAY_PROCESSES"
"""Environment variable: how many processes the gateway beside tritonserver has."""

TRITON: Final = "TRITONLLM_TRITON_URL"
"""Environment variable: URL of tritonserver's HTTP port."""

UPSTREAM_KEYS: Final = "TRITONLLM_UPSTREAM_KEYS"
"""Environment variable: directory of the API keys of upstreams, a file each."""
