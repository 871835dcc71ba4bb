"""Names of sockets in the directory of a run."""

from __future__ import annotations

from typing import Final

ENGINE: Final = "engine"
PIPELINE: Final = "pipeline"
"""How the name of the socket of such a model begins."""
