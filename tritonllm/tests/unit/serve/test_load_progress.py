"""What the log of a starting engine says about how far it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tritonllm.serve import load_progress

# As vLLM 0.25.1 and 0.32.0 log them, in this order.
_START = (
    ("(EngineCore pid=71) INFO 11-28 04:40:01 [core.py:113] Initializing a V1 LLM engine (v0.25.1) with config: …",
     "starting the processes of the engine"),
    ("(Worker_TP0 pid=99) INFO 11-28 04:40:09 [gpu_model_runner.py:4711] Starting to load model /weights/llama...",
     "loading weights"),
    ("(Worker_TP0 pid=99) Loading safetensors checkpoint shards:   0% Completed | 0/30 [00:00<?, ?it/s]",
     "loading weights, 0 %"),
    ("(Worker_TP0 pid=99) Loading safetensors checkpoint shards:  40% Completed | 12/30 [00:21<00:31,  1.71s/it]",
     "loading weights, 40 %"),
    ("(Worker_TP0 pid=99) Multi-thread loading shards:  50% Completed | 15/30 [00:21<00:31,  1.71s/it]",
     "loading weights, 50 %"),
    ("(Worker_TP0 pid=99) INFO 11-28 04:41:30 [default_loader.py:501] Loading weights took 52.10 seconds",
     "preparing the loaded weights"),
    ("(Worker_TP0 pid=99) INFO 11-28 04:41:31 [gpu_model_runner.py:5150] Model loading took 32.9 GiB memory and 55 seconds",
     "preparing the loaded weights"),
    ("(Worker_TP0 pid=99) INFO 11-28 04:41:50 [backends.py:399] Compiling a graph for compile range (1, 8192) takes 12.1 s",
     "compiling the model"),
    ("(Worker_TP0 pid=99) INFO 11-28 04:42:10 [monitor.py:48] torch.compile took 33.2 s in total", "profiling memory"),
    ("(Worker_TP0 pid=99) INFO 11-28 04:42:20 [gpu_worker.py:760] Available KV cache memory: 30.11 GiB",
     "allocating the KV cache"),
    ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  37%|███▋      | 19/51 [00:02<00:03,  9.2it/s]",
     "capturing CUDA graphs, 37 %"),
    ("(Worker_TP0 pid=99) INFO 11-28 04:42:40 [gpu_model_runner.py:6582] Graph capturing finished in 9 secs, took 0.8 GiB",
     "warming up"),
)  # fmt: skip


def test_a_line_of_transformers_tells_the_stage() -> None:
    line = "Loading weights:  41%|████      | 119/290 [00:01<00:02, 78.87it/s]"
    assert load_progress.stage([line]) == "loading weights, 41 %"


@pytest.mark.parametrize(("line", "stage"), _START)
def test_a_line_of_vllm_tells_the_stage(line: str, stage: str) -> None:
    assert load_progress.stage([line]) == stage


def test_the_newest_line_that_tells_counts() -> None:
    lines = [line for line, _ in _START]
    assert load_progress.stage([*lines[:4], "INFO something else"]) == "loading weights, 40 %"
    assert load_progress.stage(lines) == "warming up"


def test_without_a_known_line_the_newest_one_is_shown() -> None:
    assert load_progress.stage(["a", "b"]) == ""
    assert load_progress.summary(["a", "b"]) == "; log: b"
    assert load_progress.summary([]) == ""


@pytest.mark.parametrize(
    ("lines", "summary"),
    [
        (["INFO waiting", "RuntimeError: no"], "; last error: RuntimeError: no"),
        (["RuntimeError: no", "INFO waiting"], "; last error: RuntimeError: no; log: INFO waiting"),
    ],
    ids=["the newest line is the error", "an error before"],
)
def test_an_error_and_the_newest_line_are_shown_once(lines: list[str], summary: str) -> None:
    assert load_progress.summary(lines) == summary


def test_an_error_is_shown_beside_the_stage() -> None:
    lines = [_START[3][0], "ERROR 11-28 [x.py:1] NCCL watchdog: RuntimeError: no answer", "more"]
    assert load_progress.summary(lines) == "; loading weights, 40 %; last error: RuntimeError: no answer"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("v1/engine/core.py", "Initializing a V1 LLM engine"),
        ("v1/worker/gpu_model_runner.py", "Starting to load model"),
        ("model_executor/model_loader/weight_utils.py", "Loading safetensors checkpoint shards"),
        ("model_executor/model_loader/weight_utils.py", "{desc}: {percentage:3.0f}% Completed"),
        ("model_executor/model_loader/default_loader.py", "Loading weights took"),
        ("v1/worker/gpu_model_runner.py", "Model loading took"),
        ("compilation/backends.py", "Dynamo bytecode transform"),
        ("compilation/backends.py", "Compiling a graph"),
        ("compilation/backends.py", "Directly load the compiled graph"),
        ("compilation/monitor.py", "torch.compile took"),
        ("v1/worker/gpu_worker.py", "Available KV cache memory"),
        ("v1/core/kv_cache_utils.py", "KV cache size:"),
        ("v1/worker/gpu_model_runner.py", "Capturing CUDA graphs"),
        ("v1/worker/gpu_model_runner.py", "Graph capturing finished"),
    ],
)
def test_the_installed_vllm_still_logs_this_message(module: str, message: str) -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations
    assert message in Path(spec.submodule_search_locations[0], module).read_text()
