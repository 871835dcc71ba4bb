"""Finds what a GPU would refuse an engine for, before the engine takes minutes to find it out. Used by preflight.

`read` asks NVML; `problems` decides from what it said. vLLM's own checks come much later and end in a stack trace.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pynvml

from tritonllm import api
from tritonllm.sizing import endpoints as endpoints_of

_GIB = 1 << 30
# https://docs.nvidia.com/deploy/cuda-compatibility: the oldest driver for any minor version of a CUDA.
_OLDEST_DRIVER = {12: 525, 13: 580}
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes: CUDA 13 ended what is older than Turing. vLLM's own limit is 7.0.
_OLDEST_CAPABILITY = {12: (7, 0), 13: (7, 5)}
_BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use; with MIG, an instance of one.

    Attributes:
        name: the product's.
        capability: compute capability, major and minor.
        total: bytes of memory; 0 where it is the machine's own and NVML tells none.
        free: bytes that no process has taken.
    """

    name: str
    capability: tuple[int, int]
    total: int
    free: int


@dataclass(frozen=True)
class Machine:
    """The GPUs of this machine or container, as they were before anything started.

    Attributes:
        driver: version of NVIDIA's driver, such as `580.95.05`.
        driver_cuda: major version of the newest CUDA that the driver runs.
        needed_cuda: major version of the CUDA that is installed; None where nothing says which.
        gpus: in CUDA's order.
    """

    driver: str
    driver_cuda: int
    needed_cuda: int | None
    gpus: tuple[Gpu, ...]


def read() -> Machine | None:
    """Asks NVML; None without a driver or a GPU, and where NVML can't be asked."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        found = _visible([_gpu(handle) for handle in _handles()], os.environ.get("CUDA_VISIBLE_DEVICES"))
        return Machine(
            driver=pynvml.nvmlSystemGetDriverVersion(),
            driver_cuda=pynvml.nvmlSystemGetCudaDriverVersion_v2() // 1000,
            needed_cuda=_needed_cuda(os.environ),
            gpus=tuple(found),
        )
    except pynvml.NVMLError:
        # What can't be known here is no reason to refuse: the engine finds out for itself.
        return None
    finally:
        pynvml.nvmlShutdown()


def problems(
    endpoints: Iterable[api.LLMEndpoint], root: str, machine: Machine, *, vllm_version: str | None
) -> dict[str, str]:
    """Checks engines against the GPUs.

    Args:
        endpoints: those whose engines use GPUs, in loading order.
        root: root of the weights volume.
        machine: the GPUs.
        vllm_version: of the installed vLLM; None without one.

    Returns:
        What is wrong and what to do, by the endpoint's name.
    """
    found: dict[str, str] = {}
    left = [gpu.free for gpu in machine.gpus]
    for endpoint in endpoints:
        engine = endpoint.spec.engine
        args = engine.args
        if engine.definition.is_distributed(args):
            continue
        share = engine.definition.memory_share(args, vllm_version)
        problem = _driver(machine) or _count(engine, machine)
        used = {} if problem else {index: machine.gpus[index] for index in engine.devices}
        problem = (
            problem
            or _old(engine.definition.label, machine, used.values())
            or _bfloat16(args, used.values())
            or _weights(endpoint, root, used.values(), vllm_version)
            or _free(used, left, share)
        )
        if problem:
            found[endpoint.name] = problem
            continue
        for index, gpu in used.items():
            left[index] -= int(gpu.total * (share or 0))
    return found


def _driver(machine: Machine) -> str | None:
    needed = machine.needed_cuda
    if needed is None or machine.driver_cuda >= needed:
        return None
    oldest = f"to {_OLDEST_DRIVER[needed]} or later" if needed in _OLDEST_DRIVER else ""
    return (
        f"the NVIDIA driver {machine.driver} runs CUDA {machine.driver_cuda} and this needs CUDA {needed}; update the"
        f" driver of the node {oldest}".rstrip()
    )


def _count(engine: api.Engine, machine: Machine) -> str | None:
    there = len(machine.gpus)
    if max(engine.devices, default=0) < there:
        return None
    if there and "device_ids" in engine.args:
        return f"`engine.args.device_ids` has {max(engine.devices)}, and the GPUs that can be used are counted from 0 to {there - 1}"
    sizes = " × ".join(
        f"{name} {engine.args[name]}" for name in engine.definition.parallel_sizes if name in engine.args
    )
    return (
        f"{sizes or 'the engine'} needs {engine.gpus} GPUs and {there} can be used; lower the parallel sizes, or give it"
        " more (`gpu.count` of a pool)"
    )


def _old(label: str, machine: Machine, used: Iterable[Gpu]) -> str | None:
    oldest = _OLDEST_CAPABILITY.get(machine.needed_cuda or 0, min(_OLDEST_CAPABILITY.values()))
    for gpu in used:
        if gpu.capability < oldest:
            return f"{gpu.name} has compute capability {_text(gpu.capability)} and {label} needs {_text(oldest)}; use a newer GPU"
    return None


def _bfloat16(args: Mapping[str, Any], used: Iterable[Gpu]) -> str | None:
    for gpu in used:
        if args.get("dtype") == "bfloat16" and gpu.capability < _BFLOAT16_CAPABILITY:
            return (
                f"{gpu.name} has compute capability {_text(gpu.capability)} and bfloat16 needs {_text(_BFLOAT16_CAPABILITY)};"
                " use `engine.args.dtype: float16`"
            )
    return None


def _text(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)


def _weights(
    endpoint: api.LLMEndpoint, root: str, used: Iterable[Gpu], vllm_version: str | None
) -> str | None:
    smallest = min((gpu.total for gpu in used), default=0)
    sized = endpoints_of.size(endpoint, root, smallest, vllm_version) if smallest else ""
    # What can't be known is no reason to refuse. Neither is the rest of a fit: it holds an assumption, and vLLM measures.
    if isinstance(sized, str) or sized.fit.weights is None or sized.fit.weights < sized.fit.budget:
        return None
    found = sized.fit
    return (
        f"the weights need {sized.fit.weights / _GIB:.1f} GiB on each GPU, and gpu_memory_utilization"
        f" {found.settings.share:g} of {smallest / _GIB:.1f} GiB is {found.budget / _GIB:.1f}; raise tensor_parallel_size or"
        " gpu_memory_utilization, or choose a smaller model"
    )


def _free(used: Mapping[int, Gpu], left: list[int], share: float | None) -> str | None:
    for index, gpu in used.items():
        if share is None:
            continue
        wanted = gpu.total * share
        # What vLLM compares when it starts.
        if wanted > left[index]:
            return (
                f"GPU {index} ({gpu.name}) has {max(0, left[index]) / _GIB:.1f} of {gpu.total / _GIB:.1f} GiB free and"
                f" gpu_memory_utilization {share:g} wants {wanted / _GIB:.1f}; lower it, or end what else uses the GPU"
            )
    return None


def _handles() -> list[Any]:
    """The devices that CUDA has: a GPU, or the instances that it is divided into."""
    handles: list[Any] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        instances: list[Any] = []
        with contextlib.suppress(pynvml.NVMLError):
            if pynvml.nvmlDeviceGetMigMode(handle)[0]:
                for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                    with contextlib.suppress(pynvml.NVMLError):
                        instances.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
        handles += instances or [handle]
    return handles


def _gpu(handle: Any) -> tuple[str, Gpu]:
    total = free = 0
    with contextlib.suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    whole = handle
    with contextlib.suppress(pynvml.NVMLError):
        whole = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    capability = pynvml.nvmlDeviceGetCudaComputeCapability(whole)
    gpu = Gpu(pynvml.nvmlDeviceGetName(handle), (capability[0], capability[1]), total, free)
    return pynvml.nvmlDeviceGetUUID(handle), gpu


def _visible(found: list[tuple[str, Gpu]], variable: str | None) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES leaves: indices or beginnings of UUIDs; what follows an invalid one does not count."""
    if variable is None:
        return [gpu for _, gpu in found]
    chosen: list[Gpu] = []
    for each in variable.split(","):
        name = each.strip()
        if name.isdecimal():
            matching = [gpu for _, gpu in found[int(name) :][:1]]
        else:
            matching = [gpu for uuid, gpu in found if name and uuid.startswith(name)]
        if len(matching) != 1:
            break
        chosen += matching
    return chosen


def _needed_cuda(environment: Mapping[str, str]) -> int | None:
    """Major version of the CUDA that the engine is built for, unless the driver's own does not matter."""
    # Where an older driver works with the libraries of a newer one: https://docs.nvidia.com/deploy/cuda-compatibility
    if "/compat" in environment.get("LD_LIBRARY_PATH", ""):
        return None
    # NVIDIA's containers say it; elsewhere it is a package beside PyTorch.
    versions = [environment.get("CUDA_VERSION", "")]
    for name in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(importlib.metadata.version(name))
    major = next(filter(None, versions), "").partition(".")[0]
    return int(major) if major.isdecimal() else None
