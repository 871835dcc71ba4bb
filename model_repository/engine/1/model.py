"""The engine of an endpoint, as Triton loads it."""

import locale

# Triton's embedded interpreter starts in the C locale, in which reading a tokenizer's files as text fails.
locale.setlocale(locale.LC_ALL, "C.UTF-8")

from tritonllm.runtime.engine import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
