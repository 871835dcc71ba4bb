"""Log lines of the models, on the stream that Triton itself logs to."""

from __future__ import annotations

import logging
import sys


def name(model: str) -> None:
    """Puts a model's name on every line that its process logs. Texts of users never go there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {model}: %(message)s"))
    ours = logging.getLogger("tritonllm")
    ours.handlers[:] = [handler]
    ours.propagate = False
    ours.setLevel(logging.INFO)
