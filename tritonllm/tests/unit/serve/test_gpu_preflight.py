from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tritonllm import api
from tritonllm.serve import gpus

GIB = 1 << 30
H100 = gpus.Gpu("NVIDIA H100", (9, 0), total=80 * GIB, free=79 * GIB)
T4 = gpus.Gpu("Tesla T4", (7, 5), total=16 * GIB, free=15 * GIB)
V100 = gpus.Gpu("Tesla V100", (7, 0), total=32 * GIB, free=32 * GIB)


def machine(*found: gpus.Gpu, **facts: Any) -> gpus.Machine:
    return replace(gpus.Machine("580.95.05", 13, 13, found), **facts)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """16 GiB of weights."""
    return weights(tmp_path, "BF16", 8 * GIB)


def weights(directory: Path, dtype: str, elements: int) -> str:
    """A model of four layers with so many elements: a header without data, which nothing here reads."""
    (directory / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16", "num_hidden_layers": 4}))
    tensor = {"dtype": dtype, "shape": [1024, elements // 4096], "data_offsets": [0, 0]}
    header = json.dumps({f"model.layers.{layer}.weight": tensor for layer in range(4)}).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return str(directory)


def endpoint(path: Any = "/nothing", name: Any = "chat", **args: Any) -> api.LLMEndpoint:
    spec = {"pool": "llm", "guardrails": {}, "model": {"path": path}, "engine": {"args": args}}
    return api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": spec}
    )


def problem(given: api.LLMEndpoint, there: gpus.Machine) -> str | None:
    return gpus.problems([given], "/", there, vllm_version="0.32.0").get(given.name)


def test_an_engine_that_fits_is_no_problem(model: str) -> None:
    assert problem(endpoint(model), machine(H100)) is None


def test_a_driver_that_is_too_old_says_which_one_is_not(model: str) -> None:
    old = machine(H100, driver="570.86.15", driver_cuda=12)
    assert problem(endpoint(model), old) == (
        "the NVIDIA driver 570.86.15 runs CUDA 12 and this needs CUDA 13; update the driver of the node to 580 or later"
    )


@pytest.mark.parametrize("needed", [12, None])
def test_a_driver_that_is_new_enough_or_can_not_be_judged_is_no_problem(needed: int | None) -> None:
    assert problem(endpoint(), machine(H100, driver_cuda=12, needed_cuda=needed)) is None


@pytest.mark.parametrize(
    ("args", "needed"),
    [
        ({"tensor_parallel_size": 2}, "tensor_parallel_size 2 needs 2 GPUs"),
        ({"pipeline_parallel_size": 2, "tensor_parallel_size": 2}, "pipeline_parallel_size 2 needs 4 GPUs"),
        ({"data_parallel_size": 3}, "data_parallel_size 3 needs 3 GPUs"),
    ],
)
def test_too_few_gpus_are_counted(args: dict[str, int], needed: str) -> None:
    found = problem(endpoint(**args), machine(H100))
    assert found is not None
    assert f"{needed} and 1 can be used" in found


def test_no_gpu_that_may_be_used_is_too_few() -> None:
    assert "the engine needs 1 GPUs and 0 can be used" in (problem(endpoint(), machine()) or "")


def test_a_gpu_that_is_too_old_is_named() -> None:
    assert problem(endpoint(), machine(V100)) == (
        "Tesla V100 has compute capability 7.0 and vLLM needs 7.5; use a newer GPU"
    )
    assert problem(endpoint(), machine(V100, needed_cuda=12)) is None


def test_a_gpu_that_is_too_old_is_named_with_the_engine_that_needs_more() -> None:
    given = endpoint().model_dump(by_alias=True, exclude_unset=True)
    given["spec"]["engine"] = {"type": "transformers"}
    found = problem(api.LLMEndpoint.model_validate(given), machine(V100)) or ""
    assert "and engine type transformers needs 7.5" in found


def test_bfloat16_wants_ampere_where_it_is_asked_for() -> None:
    assert "use `engine.args.dtype: float16`" in (problem(endpoint(dtype="bfloat16"), machine(T4)) or "")
    assert problem(endpoint(), machine(T4)) is None


def test_weights_that_are_too_large_for_the_gpu_are_refused_with_both_numbers(model: str) -> None:
    found = problem(endpoint(model), machine(T4))
    assert found is not None
    assert "16.0 GiB on each GPU, and gpu_memory_utilization 0.92 of 16.0 GiB is 14.7;" in found


@pytest.mark.parametrize(
    "args",
    [
        {"tensor_parallel_size": 2},
        {"pipeline_parallel_size": 2},
        {"quantization": "fp8"},
        {"cpu_offload_gb": 8},
        {"load_format": "dummy"},
    ],
)
def test_weights_that_are_divided_or_get_smaller_fit(model: str, args: dict[str, Any]) -> None:
    assert problem(endpoint(model, **args), machine(T4, T4)) is None


def test_data_parallelism_does_not_divide_weights(model: str) -> None:
    found = problem(endpoint(model, data_parallel_size=2), machine(T4, T4))
    assert found is not None
    assert "16.0 GiB on each GPU" in found


def test_float32_is_loaded_with_half_of_its_size(model: str) -> None:
    weights(Path(model), "F32", 4 * GIB)
    assert problem(endpoint(model), machine(T4)) is None


def test_memory_that_somebody_else_uses_is_told() -> None:
    assert problem(endpoint(), machine(replace(H100, free=40 * GIB))) == (
        "GPU 0 (NVIDIA H100) has 40.0 of 80.0 GiB free and gpu_memory_utilization 0.92 wants 73.6; lower it, or end what"
        " else uses the GPU"
    )


def test_only_the_gpus_that_an_engine_takes_count() -> None:
    assert problem(endpoint(), machine(H100, replace(H100, free=0))) is None


def test_engines_share_a_gpu_as_far_as_there_is_memory() -> None:
    def given(name: str) -> api.LLMEndpoint:
        return endpoint(name=name, gpu_memory_utilization=0.45)

    found = gpus.problems([given("a"), given("b"), given("c")], "/", machine(H100), vllm_version="0.32.0")
    assert list(found) == ["c"]


def test_memory_that_nvml_does_not_tell_is_not_judged(model: str) -> None:
    assert problem(endpoint(model), machine(replace(H100, total=0, free=0))) is None


def test_an_engine_takes_the_devices_that_are_chosen_for_it() -> None:
    there = machine(replace(H100, free=0), H100)
    assert problem(endpoint(device_ids=[1]), there) is None
    assert "GPU 0 (NVIDIA H100) has 0.0 of 80.0 GiB free" in (problem(endpoint(), there) or "")
    assert problem(endpoint(device_ids=[2]), there) == (
        "`engine.args.device_ids` has 2, and the GPUs that can be used are counted from 0 to 1"
    )


def test_engines_on_gpus_of_their_own_do_not_share_memory() -> None:
    given = [endpoint(name=name, device_ids=[index]) for index, name in enumerate("ab")]
    assert gpus.problems(given, "/", machine(H100, H100), vllm_version="0.32.0") == {}


def test_an_engine_on_several_machines_is_left_to_itself() -> None:
    assert problem(endpoint(nnodes=2, tensor_parallel_size=2), machine(H100)) is None


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        (None, ["a", "b", "c"]),
        ("2,0", ["c", "a"]),
        ("GPU-b", ["b"]),
        ("GPU", []),
        ("0,7,1", ["a"]),
        ("", []),
        ("-1", []),
    ],
)
def test_what_cuda_is_not_shown_does_not_count(variable: str | None, left: list[str]) -> None:
    found = [(f"GPU-{name}", replace(H100, name=name)) for name in "abc"]
    assert [gpu.name for gpu in gpus._visible(found, variable)] == left


@pytest.mark.parametrize(
    ("environment", "major"),
    [
        ({"CUDA_VERSION": "13.3.0.041"}, 13),
        ({"CUDA_VERSION": "13.3.0", "LD_LIBRARY_PATH": "/usr/local/cuda/compat/lib.real:/lib"}, None),
    ],
)
def test_the_cuda_that_is_needed_is_the_images(environment: dict[str, str], major: int | None) -> None:
    assert gpus._needed_cuda(environment) == major


def test_without_nvml_nothing_is_known_and_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    assert gpus.read() is None
    assert capfd.readouterr() == ("", "")
