"""What an endpoint's author is told about engine arguments."""

from __future__ import annotations

from typing import Any

import pytest

from tritonllm import api, engines
from tritonllm.engines import simulated, vllm_args

VERSIONS = ("0.24.0", "0.25.1", "0.32.0")
MODEL = api.Model.model_validate({"path": "/weights/mine"})


def problems(
    args: dict[str, Any], version: str | None = "0.32.0", model: api.Model | None = MODEL, kind: Any = "vllm"
) -> dict[str, str]:
    """Problems by argument; checks that every one says where it is."""
    trusted = model is not None and model.trust_remote_code
    found = api.Engine(type=kind).definition.check(args, trust_remote_code=trusted, vllm_version=version)
    assert all(path.startswith("spec.engine.args.") for path, _ in found)
    return {path.removeprefix("spec.engine.args."): message for path, message in found}


@pytest.mark.parametrize("version", VERSIONS)
def test_usual_arguments_are_right_for_every_version(version: str) -> None:
    usual = {
        "max_model_len": 8192,
        "gpu_memory_utilization": 0.9,
        "tensor_parallel_size": 2,
        "max_num_seqs": 64,
        "dtype": "bfloat16",
        "quantization": "awq_marlin",
        "enforce_eager": True,
        "enable_prefix_caching": None,
        "hf_overrides": {"rope_scaling": None},
        "max_lora_rank": 32,
        "load_format": "dummy",
        "distributed_executor_backend": "mp",
        "speculative_config": {"method": "ngram"},
        "cudagraph_capture_sizes": [1, 2, 4],
        "reasoning_parser": "deepseek_r1",
        "tool_call_parser": "hermes",
        "chat_template": "/templates/hermes.jinja",
    }
    assert problems(usual, version) == {}


def test_a_misspelt_argument_is_told_the_nearest_one() -> None:
    assert problems({"max_modle_len": 1}) == {
        "max_modle_len": "vLLM 0.32.0 has no argument `max_modle_len`; did you mean `max_model_len`?"
    }


def test_an_argument_like_no_other_gets_no_guess() -> None:
    assert problems({"zzz": 1}) == {"zzz": "vLLM 0.32.0 has no argument `zzz`"}


def test_what_is_refused_or_internal_is_never_suggested() -> None:
    assert "`served_model_name`" not in problems({"served_model_names": "me"})["served_model_names"]
    assert problems({"_api_process_count": 2})["_api_process_count"].startswith("vLLM 0.32.0 has no argument")


def test_an_argument_of_a_later_version_is_unknown_to_an_earlier_one() -> None:
    assert problems({"max_num_active_seqs": 4}, "0.32.0") == {}
    assert (
        "vLLM 0.24.0 has no argument" in problems({"max_num_active_seqs": 4}, "0.24.0")["max_num_active_seqs"]
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_model_len", "8k", 'must be an integer, got "8k"'),
        ("max_model_len", 8192.0, "must be an integer, got 8192.0"),
        ("max_num_seqs", True, "must be an integer, got true"),
        ("gpu_memory_utilization", "0.9", 'must be a number, got "0.9"'),
        ("gpu_memory_utilization", float("nan"), "must be a number, got NaN"),
        ("enforce_eager", "true", 'must be true or false, got "true"'),
        ("enforce_eager", 1, "must be true or false, got 1"),
        ("seed", None, "must be an integer, got null"),
        ("hf_overrides", [], "must be an object, got []"),
        ("cudagraph_capture_sizes", 8, "must be a list, got 8"),
        ("ignore_patterns", 8, "must be a list or a string, got 8"),
        ("max_lora_rank", 33, "must be one of 1, 8, 16, 32, 64, 128, 256, 320, 512; got 33"),
        ("dtype", "fp16", 'must be one of auto, half, float16, bfloat16, float, float32; got "fp16"'),
        ("gpu_memory_utilization", 0, "must be more than 0 and at most 1, got 0"),
        ("gpu_memory_utilization", 1.1, "must be more than 0 and at most 1, got 1.1"),
        ("tensor_parallel_size", 0, "must be at least 1, got 0"),
        ("max_num_seqs", 0, "must be at least 1, got 0"),
        ("max_num_seqs", None, "must be an integer, got null; remove it for the default of 256"),
        (
            "tokenizer",
            "org/name",
            "must be an absolute path, because the engine runs offline; put the files on the weights volume and give their"
            ' directory; got "org/name"',
        ),
        (
            "spec_model",
            "org/draft",
            "must be an absolute path, because the engine runs offline; put the files on the weights volume and give their"
            ' directory; got "org/draft"',
        ),
        (
            "default_mm_loras",
            {"audio": "org/audio"},
            "must have absolute paths, because the engine runs offline; put the files on the weights volume and give their"
            ' directory; got {"audio": "org/audio"}',
        ),
        (
            "generation_config",
            "org/name",
            "must be auto, vllm or an absolute path, because the engine runs offline; put the files on the weights volume"
            ' and give their directory; got "org/name"',
        ),
        (
            "speculative_config",
            {"model": "org/draft", "num_speculative_tokens": 3},
            "`model` must be an absolute path, because the engine runs offline; put the files on the weights volume and give"
            ' their directory; got "org/draft"',
        ),
        ("tool_call_parser", True, "must be a string, got true"),
        (
            "chat_template",
            "hermes.jinja",
            'must be the text of a template, or the absolute path of a file in the pod; got "hermes.jinja"',
        ),
        ("runner", "pooling", 'must be auto or generate, because an endpoint generates text; got "pooling"'),
    ],
)
def test_a_wrong_value_is_told_what_it_must_be(name: str, value: Any, message: str) -> None:
    assert problems({name: value}) == {name: message}


@pytest.mark.parametrize(
    "speculative",
    [
        {"method": "ngram", "num_speculative_tokens": 3},
        {"model": "ngram", "num_speculative_tokens": 3},
        {"model": "/weights/org--draft/0123", "num_speculative_tokens": 3},
    ],
)
def test_a_second_model_is_a_path_or_none(speculative: dict[str, Any]) -> None:
    assert problems({"speculative_config": speculative, "generation_config": "/weights/other"}) == {}


def test_the_directories_that_arguments_name_are_known() -> None:
    args = {
        "speculative_config": {"model": "/w/draft", "tokenizer": "/w/tokens", "num_speculative_tokens": 3},
        "tokenizer": "/w/other",
        "generation_config": "vllm",
        "default_mm_loras": {"audio": "/w/audio"},
    }
    definition = engines.TYPES["vllm"]
    assert set(definition.directories(args)) == {"/w/draft", "/w/tokens", "/w/other", "/w/audio"}
    assert definition.directories({"speculative_config": {"method": "ngram"}, "spec_model": "ngram"}) == ()


def test_a_whole_number_is_a_number() -> None:
    assert problems({"gpu_memory_utilization": 1, "cpu_offload_gb": 4}) == {}


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("model", "`spec.model.path`"),
        ("revision", "`spec.model.revision`"),
        ("tokenizer_revision", "`spec.model.revision`"),
        ("served_model_name", "`metadata.name`"),
        ("hf_token", "download of the weights"),
        ("download_dir", "remove it"),
        ("disable_log_stats", "metrics"),
        ("enable_log_requests", "prompts"),
        ("max_num_queued_reqs", "`spec.limits.maxQueuedRequests`"),
        ("skip_tokenizer_init", "remove it"),
        ("trust_remote_code", "`spec.model.trustRemoteCode`"),
    ],
)
def test_what_the_system_decides_is_refused_with_what_to_do_instead(name: str, instead: str) -> None:
    assert instead in problems({name: True})[name]


def test_trust_in_remote_code_may_be_repeated_but_not_contradicted() -> None:
    trusting = api.Model.model_validate({"path": "/weights/mine", "trustRemoteCode": True})
    assert problems({"trust_remote_code": True}, model=trusting) == {}
    assert "trust_remote_code" in problems({"trust_remote_code": False}, model=trusting)


def test_every_problem_is_told() -> None:
    assert list(problems({"max_modle_len": 1, "seed": 0, "dtype": 7})) == ["max_modle_len", "dtype"]


@pytest.mark.parametrize("version", [*VERSIONS, "0.32.0+cpu", "0.25.1rc1", "0.24"])
def test_a_known_version_has_its_own_table(version: str) -> None:
    found, warning = vllm_args.table(version)
    assert version.startswith(found["version"].removesuffix(".0"))
    assert warning is None


@pytest.mark.parametrize(
    ("version", "nearest"),
    [
        ("0.23.1", "0.24.0"),
        ("0.25.0", "0.25.1"),
        ("0.26.0", "0.25.1"),
        ("0.31.2", "0.32.0"),
        ("1.0.0", "0.32.0"),
    ],
)
def test_an_unknown_version_is_checked_as_the_nearest_with_a_warning(version: str, nearest: str) -> None:
    found, warning = vllm_args.table(version)
    assert found["version"] == nearest
    assert (
        warning == f"there is no table for vLLM {version}; its arguments were checked as those of {nearest}"
    )


def test_where_nobody_knows_the_version_the_newest_table_counts() -> None:
    found, warning = vllm_args.table(None)
    assert found["version"] == VERSIONS[-1]
    assert warning is not None
    assert "vLLM 0.32.0 has no argument" in problems({"max_modle_len": 1}, None)["max_modle_len"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_table_knows_the_arguments_that_decide_how_much_memory_an_engine_takes(version: str) -> None:
    arguments = vllm_args.table(version)[0]["arguments"]
    assert 0.8 < arguments["gpu_memory_utilization"].get("default", 0) < 1
    assert arguments["tensor_parallel_size"] == {"types": ["integer"], "default": 1}


def test_the_simulated_engine_has_arguments_of_its_own() -> None:
    right = {"reply": "echo", "max_num_seqs": 4, "time_to_first_token_seconds": 0.5}
    assert problems(right, model=None, kind="simulated") == {}
    wrong = {"reply": "poem", "max_num_seqs": 0, "inter_token_second": 1, "max_model_len": "4k"}
    found = problems(wrong, model=None, kind="simulated")
    assert found.keys() == wrong.keys()
    assert found["inter_token_second"] == (
        "the simulated engine has no argument `inter_token_second`; did you mean `inter_token_seconds`?"
    )
    assert "at least 1" in found["max_num_seqs"]


def test_the_simulated_engine_takes_as_many_requests_as_the_endpoint_says() -> None:
    assert simulated.SimulatedArgs().max_num_seqs == api.Engine(type="simulated").max_num_seqs


def test_the_arguments_of_transformers_are_a_fixed_table() -> None:
    usual = {"dtype": "bfloat16", "max_model_len": 2048, "max_num_seqs": 8, "chat_template": "{{ messages }}"}
    assert problems(usual, kind="transformers") == {}
    assert problems({"tensor_parallel_size": 2}, kind="transformers") == {
        "tensor_parallel_size": "engine type transformers has no argument `tensor_parallel_size`"
    }
    assert problems({"chat_template": "/run/secrets/key"}, kind="transformers") == {
        "chat_template": "must be the text of a template, not the name of a file"
    }
