"""Adapters in an endpoint: what is refused and why, what changes which hash, and what a pool permits."""

from __future__ import annotations

from typing import Any

import pytest

from tritonllm import allow, api, files, render
from tritonllm.render import config

LORA = {"enable_lora": True, "max_cpu_loras": 2}
SQL = {"name": "sql", "repo": "acme/sql"}
LEGAL = {"name": "legal", "path": "adapters/legal"}
COMMIT = "a" * 40


def resource(
    *adapters: dict[str, str], engine: dict[str, Any] | None = None, **more: Any
) -> tuple[api.LLMEndpoint | None, list[tuple[str, str]]]:
    spec = {
        "pool": "llm",
        "model": {"repo": "acme/base"},
        "engine": {"args": LORA} if engine is None else engine,
        "adapters": list(adapters),
        "guardrails": {},
    }
    return files.resource(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": "chat"}, "spec": spec, **more}
    )


def endpoint(*adapters: dict[str, str], **more: Any) -> api.LLMEndpoint:
    found, problems = resource(*adapters, **more)
    assert found is not None, problems
    return found


@pytest.mark.parametrize(
    ("adapters", "engine", "path", "message"),
    [
        ([SQL], {}, "spec", "`adapters` requires `engine.args.enable_lora: true`"),
        ([SQL], {"args": {"enable_lora": False}}, "spec", "requires `engine.args.enable_lora: true`"),
        ([SQL], {"args": {"enable_lora": True}}, "", ""),
        (
            [SQL, LEGAL],
            {"args": {"enable_lora": True}},
            "spec",
            "set `engine.args.max_cpu_loras` to at least 2",
        ),
        ([SQL, LEGAL], {"args": {"enable_lora": True, "max_loras": 2}}, "", ""),
        ([SQL, SQL], None, "spec.adapters", "duplicate adapter names: sql"),
        ([{"name": "a", "repo": "acme/base"}], None, "spec", "must not contain the repository of `model`"),
        ([{"name": "a"}], None, "spec.adapters[0]", "exactly one of `repo` and `path`"),
        ([{"name": "a", "path": "../x"}], None, "spec.adapters[0]", "must not contain a `..`"),
        ([{"name": "a:b", "path": "x"}], None, "spec.adapters[0].name", "letters"),
        ([{"name": "a", "repo": "acme/x--y"}], None, "spec.adapters[0].repo", "must not contain `--`"),
    ],
)
def test_what_can_not_be_served_is_refused_with_the_field_and_what_to_do(
    adapters: list[dict[str, str]], engine: dict[str, Any] | None, path: str, message: str
) -> None:
    _, problems = resource(*adapters, engine=engine)
    if not message:
        assert problems == []
        return
    ((where, what),) = problems
    assert where == path
    assert message in what


def test_engines_other_than_vllm_take_none() -> None:
    spec = {
        "pool": "llm",
        "engine": {"type": "simulated"},
        "adapters": [SQL],
        "guardrails": {},
    }
    _, problems = files.resource(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": "chat"}, "spec": spec}
    )
    assert problems == [("spec", "`adapters` is not supported by engine type simulated")]


def hashes(given: api.LLMEndpoint) -> dict[str, str]:
    return {model.name: model.parameters["spec_hash"].string_value for model in config.models(given)}


def test_a_change_of_adapters_is_a_change_of_the_pipeline_alone() -> None:
    before, after = hashes(endpoint(SQL)), hashes(endpoint(SQL, LEGAL))
    assert {name for name in before if before[name] != after[name]} == {"chat"}
    changed = hashes(endpoint(SQL | {"revision": "v2"}))
    assert changed["chat"] not in (before["chat"], after["chat"])


def test_a_commit_is_part_of_no_hash_and_reaches_the_pipeline() -> None:
    resolved = endpoint(SQL).with_adapters_at({"sql": COMMIT})
    assert hashes(resolved) == hashes(endpoint(SQL))
    assert COMMIT in config.models(resolved)[-1].parameters["adapters"].string_value
    assert resolved.at("b" * 40).adapter_commit(resolved.spec.adapters[0]) == COMMIT
    assert resolved.at("b" * 40).commit == "b" * 40


def test_an_engine_learns_where_adapters_are_and_not_which() -> None:
    arguments = render.engine_arguments(endpoint(SQL), "/weights")
    assert arguments["weights"] == "/weights"
    assert arguments == render.engine_arguments(endpoint(LEGAL), "/weights")
    assert "weights" not in render.engine_arguments(endpoint(engine={"args": {}}), "/weights")


def test_adapters_of_the_hub_need_the_permission_that_models_need() -> None:
    asked = endpoint(SQL, LEGAL)
    assert allow.problems(asked, allow.Allow(repos=["acme/base"])) == [
        (
            "spec.adapters[0].repo",
            "the pool does not permit the repository acme/sql at main; its owner can add it to allow.repos",
        )
    ]
    assert allow.problems(asked, allow.Allow(repos=["acme/*"])) == []
