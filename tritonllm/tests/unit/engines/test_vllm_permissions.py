"""Which engine arguments need the permission of the pool's owner."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tritonllm.engines import vllm_args, vllm_permissions

SECURITY = Path(__file__).parents[4] / "docs" / "security.md"
LISTED = [name for names in vllm_permissions.PERMITTED.values() for name in names]
# Each opens sockets, imports by name, or reads or writes paths, in some version of vLLM.
DANGEROUS = (
    "additional_config",
    "allowed_local_media_path",
    "allowed_media_domains",
    "compilation_config",
    "data_parallel_address",
    "data_parallel_backend",
    "ec_transfer_config",
    "enable_prompt_embeds",
    "hf_config_path",
    "hf_overrides",
    "io_processor_plugin",
    "kv_events_config",
    "kv_transfer_config",
    "logging_config",
    "logits_processors",
    "master_addr",
    "mm_encoder_fp8_scale_save_path",
    "model_class_overrides",
    "model_loader_extra_config",
    "nnodes",
    "otlp_traces_endpoint",
    "profiler_config",
    "reasoning_parser_plugin",
    "scheduler_cls",
    "speculative_config",
    "structured_outputs_config",
    "tokenizer",
    "weight_transfer_config",
    "worker_cls",
    "worker_extension_cls",
)


def known() -> dict[str, vllm_args.Argument]:
    tables = [vllm_args.table(version)[0]["arguments"] for version in ("0.24.0", "0.25.1", "0.32.0")]
    return {name: argument for table in tables for name, argument in table.items()}


@pytest.mark.parametrize("name", DANGEROUS)
def test_an_argument_that_leads_out_of_the_engine_needs_permission(name: str) -> None:
    assert name in known()
    assert vllm_permissions.needs_permission(name, "x", ()) == f"the argument `{name}`"
    assert vllm_permissions.needs_permission(name, "x", (name,)) is None
    assert vllm_permissions.needs_permission(name, "x", ("*",)) is None


def test_an_argument_that_a_later_version_brings_needs_permission() -> None:
    assert vllm_permissions.needs_permission("not_there_yet", True, ()) is not None


@pytest.mark.parametrize("name", LISTED)
def test_every_argument_of_the_list_is_one_of_vllms_or_ours_and_is_listed_once(name: str) -> None:
    assert name in known()
    assert LISTED.count(name) == 1
    default = known()[name].get("default")
    assert vllm_permissions.needs_permission(name, default, ()) is None or "default" not in known()[name]


def test_objects_can_hold_anything_so_that_only_examined_ones_are_listed() -> None:
    objects = {name for name in LISTED if "object" in known()[name]["types"]}
    assert objects == {"attention_config", "limit_mm_per_prompt"}


def test_every_path_in_a_name_needs_permission() -> None:
    assert not [
        name for name in LISTED if re.search("path|dir|file|url|addr|port|host|plugin|cls|class", name)
    ]


@pytest.mark.parametrize(
    ("name", "permitted", "refused"),
    [
        ("load_format", "auto", "tensorizer"),
        ("load_format", "dummy", "pt"),
        ("distributed_executor_backend", "mp", "my.module.Executor"),
        ("distributed_executor_backend", None, "ray"),
        ("generation_config", "vllm", "/var/run/secrets"),
        ("tokenizer_mode", "auto", "custom"),
        ("kv_offloading_backend", "native", "lmcache"),
        ("chat_template", "{{ messages }}", "/var/run/secrets/tritonllm/api/key"),
    ],
)
def test_some_values_of_a_permitted_argument_need_permission(name: str, permitted: Any, refused: str) -> None:
    assert vllm_permissions.needs_permission(name, permitted, ()) is None
    assert vllm_permissions.needs_permission(name, refused, ()) is not None
    assert vllm_permissions.needs_permission(name, refused, (name,)) is None


def test_the_documentation_lists_them_all() -> None:
    section = SECURITY.read_text().partition("## Engine arguments")[2]
    for concern, names in vllm_permissions.PERMITTED.items():
        (row,) = re.findall(rf"^\| {concern} \| (.*) \|$", section, re.MULTILINE)
        assert re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row)) == list(names)
        for name in names:
            values = [f"`{value}`" for value in vllm_permissions.VALUES.get(name, ()) if value]
            assert not values or f"`{name}` ({', '.join(values)})" in row
