"""The engine types: for each, one module that says all that is particular to it.

`spec.engine.type` names one of `TYPES`. The schema, the renderer, preflight, the runtime, the operator and the generated
documentation ask the type and never compare its name. A new type is one module here, its name in `Name`, and for one that
generates text a backend in `tritonllm.runtime`. Pure.
"""

from __future__ import annotations

from typing import Literal

from tritonllm.engines.base import DEFAULT_MAX_NUM_SEQS, EngineType, Problem, Upstream
from tritonllm.engines.classifier import CLASSIFIER
from tritonllm.engines.openai import OPENAI
from tritonllm.engines.simulated import SIMULATED
from tritonllm.engines.tensorrtllm import TENSORRTLLM
from tritonllm.engines.transformers import TRANSFORMERS
from tritonllm.engines.vllm import VLLM

__all__ = ["DEFAULT_MAX_NUM_SEQS", "TYPES", "EngineType", "Name", "Problem", "Upstream"]

Name = Literal["vllm", "tensorrtllm", "transformers", "simulated", "openai", "classifier"]
"""The values of `spec.engine.type`: the keys of `TYPES`, spelled out for type checkers."""

TYPES: dict[str, EngineType] = {
    each.name: each for each in (VLLM, TENSORRTLLM, TRANSFORMERS, SIMULATED, OPENAI, CLASSIFIER)
}
"""Every engine type by its name."""
