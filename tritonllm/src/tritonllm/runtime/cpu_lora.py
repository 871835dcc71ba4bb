"""Keeps vLLM on CPUs from applying an adapter to requests that ask for none.

vLLM marks a token without an adapter with the index -1. Its operators for CPUs take that as an index from the end, so
such a token gets the last adapter when another request of its batch uses one. Runs in every process of vLLM; see
`die_with_parent`.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

# Where vLLM's modules have the operator; the last one only once it is imported.
_OPERATORS = "vllm.lora.ops.torch_ops"
_MODULES = (f"{_OPERATORS}.lora_ops", _OPERATORS, "vllm.lora.punica_wrapper.punica_cpu")
_NAME = "bgmv_shrink"


# workaround: W29
def enable() -> None:
    """Corrects the operator, on CPUs."""
    from vllm import platforms

    if not platforms.current_platform.is_cpu():
        return
    original = getattr(importlib.import_module(_MODULES[0]), _NAME)

    @functools.wraps(original)
    def shrink(inputs: Any, weights: Any, output: Any, indices: Any, *rest: Any, **options: Any) -> None:
        original(inputs, weights, output, indices, *rest, **options)
        # What follows multiplies it, so that nothing is added for these tokens.
        output[indices < 0] = 0

    importlib.import_module(_OPERATORS)
    for module in _MODULES:
        if module in sys.modules:
            setattr(sys.modules[module], _NAME, shrink)
