"""The policy of an endpoint as a moderation model, as Triton loads it."""

import gc

# Nothing that is imported is garbage, and looking for it takes a tenth of the load. `initialize` enables it again.
gc.disable()

from tritonllm.runtime.guardrail import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
