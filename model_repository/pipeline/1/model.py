"""The public model of an endpoint: guardrails around its engine, as Triton loads it."""

from tritonllm.runtime.pipeline import TritonPythonModel

__all__ = ["TritonPythonModel"]
