"""Log lines of the models, on the stream that Triton itself logs to."""

from __future__ import annotations

import logging
import sys


def logger(model: str) -> logging.Logger:
    """The logger of a model; each line names it. Texts of users never go there."""
    found = logging.getLogger(f"tritonllm.{model}")
    if not found.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {model}: %(message)s"))
        found.addHandler(handler)
        found.propagate = False
        found.setLevel(logging.INFO)
    return found
