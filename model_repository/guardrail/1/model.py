"""The policy of an endpoint as a moderation model, as Triton loads it."""

from tritonllm.runtime.guardrail import TritonPythonModel

__all__ = ["TritonPythonModel"]
