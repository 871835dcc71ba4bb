"""Names that the processes of a run agree on."""

from __future__ import annotations

from typing import Final

PIPELINE: Final = "pipeline"
"""How the name of a pipeline's socket begins."""

PRIVATE: Final = "tritonllm_"
"""How the parameters of a request through Triton begin that are not the client's."""
TOKEN: Final = PRIVATE + "token"
"""See `run_token`."""
LEASE: Final = PRIVATE + "lease"
"""Name of the lease that the request is to open."""
