"""A text classifier, as Triton loads it."""

import locale

# Triton's embedded interpreter starts in the C locale, in which reading a tokenizer's files as text fails.
locale.setlocale(locale.LC_ALL, "C.UTF-8")

from tritonllm.runtime.classifier import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
