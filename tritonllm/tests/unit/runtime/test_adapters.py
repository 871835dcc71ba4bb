"""Which adapters an engine has: what its pipelines want together, and what requests still use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import lora_files
from tritonllm import errors
from tritonllm.runtime import adapter_files, adapters, backend

SQL, LEGAL = (adapter_files.Adapter(name=name, path=name) for name in ("sql", "legal"))


class Engine:
    """An engine that notes what it has."""

    def __init__(self) -> None:
        self.loaded: dict[int, str] = {}
        self.refused = ""

    async def add_adapter(self, number: int, name: str, directory: str) -> None:
        await asyncio.sleep(0)
        if self.refused:
            raise backend.AdapterRefused(self.refused)
        self.loaded[number] = name

    async def remove_adapter(self, number: int) -> None:
        del self.loaded[number]


class Scene:
    """An engine's adapters, and what its pipelines are told."""

    def __init__(self, weights: Path) -> None:
        self.engine = Engine()
        self.weights = weights
        self.adapters = adapters.Adapters(
            asyncio.get_running_loop(),
            self.engine,  # type: ignore[arg-type]
            weights,
            weights / "model",
            again_seconds=0.001,
        )
        self.told: dict[str, dict[str, str]] = {}
        self.messages: dict[str, str] = {}

    def want(self, owner: str, *wanted: adapter_files.Adapter) -> None:
        def tell(states: list[dict[str, Any]]) -> None:
            self.told[owner] = {each["name"]: each["state"] for each in states}
            self.messages |= {each["name"]: each["message"] for each in states}

        self.adapters.want(owner, wanted, tell)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def has(self, *names: str) -> None:
        """Waits until the engine has these and no others."""
        await self.until(lambda: sorted(self.engine.loaded.values()) == sorted(names))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    lora_files.adapter(tmp_path / "sql")
    lora_files.adapter(tmp_path / "legal", seed=2)
    return tmp_path


def run(weights: Path, scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene(weights)
        try:
            async with asyncio.timeout(60):
                await scenario(scene)
        finally:
            await scene.adapters.close()

    asyncio.run(main())


def test_while_two_versions_of_a_pipeline_overlap_the_engine_has_what_both_want(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.want("old", SQL)
        await scene.has("sql")
        scene.want("new", LEGAL)
        await scene.has("sql", "legal")
        assert scene.told == {"old": {"sql": "Ready"}, "new": {"legal": "Ready"}}
        scene.adapters.forget("old")
        await scene.has("legal")

    run(weights, scenario)


def test_processes_that_want_the_same_share_it_and_the_last_one_gives_it_up(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.want("one", SQL)
        scene.want("two", SQL)
        await scene.has("sql")
        scene.adapters.forget("one")
        await asyncio.sleep(0.01)
        assert scene.engine.loaded == {1: "sql"}
        scene.want("two")
        await scene.has()

    run(weights, scenario)


def test_a_commit_that_became_known_makes_no_second_one_and_another_commit_does() -> None:
    async def scenario() -> list[bool]:
        asked = adapter_files.Adapter(name="sql", repo="acme/sql")
        loaded = adapters.Loaded(asked, 1, asyncio.get_running_loop().create_future())
        loaded.commit = "a" * 40
        others = [{"commit": "a" * 40}, {"commit": "b" * 40}, {"revision": "v2"}, {"name": "other"}]
        return [loaded.serves(asked)] + [loaded.serves(asked.model_copy(update=other)) for other in others]

    assert asyncio.run(scenario()) == [True, True, False, False, False]


def test_it_stays_until_the_last_request_that_uses_it_has_ended(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.want("me", SQL)
        await scene.has("sql")
        used = [scene.adapters.use("me", "sql") for _ in range(2)]
        scene.want("me")
        scene.adapters.release(used[0])
        await asyncio.sleep(0.01)
        assert scene.engine.loaded == {1: "sql"}
        scene.adapters.release(used[1])
        await scene.has()

    run(weights, scenario)


def test_one_that_is_wanted_again_is_loaded_anew_under_another_id(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.want("me", SQL)
        await scene.has("sql")
        scene.want("me")
        scene.want("me", SQL)
        await scene.until(lambda: scene.engine.loaded == {2: "sql"})

    run(weights, scenario)


def test_one_that_was_wanted_for_a_moment_only_does_not_stay(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.want("me", SQL)
        scene.want("me", LEGAL)
        await scene.has("legal")
        await asyncio.sleep(0.01)
        await scene.has("legal")

    run(weights, scenario)


def test_what_the_engine_refuses_is_told_with_the_reason_and_can_not_be_used_by_others(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.engine.refused = "rank 64 is too much"
        scene.want("me", SQL)
        await scene.until(lambda: scene.told["me"] == {"sql": "Refused"})
        assert scene.messages["sql"] == "rank 64 is too much"
        with pytest.raises(errors.RequestError, match="there is no adapter `legal`"):
            scene.adapters.use("me", "legal")

    run(weights, scenario)


def test_files_that_are_not_there_are_looked_for_again(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        late = adapter_files.Adapter(name="late", path="late")
        scene.want("me", late)
        await scene.until(lambda: scene.told["me"] == {"late": "Missing"})
        assert "has no adapter_config.json" in scene.messages["late"]
        lora_files.adapter(weights / "late")
        await scene.has("late")

    run(weights, scenario)


def test_until_the_files_of_a_new_version_are_there_the_former_one_answers(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.want("old", SQL)
        await scene.has("sql")
        new = adapter_files.Adapter(name="sql", path="new")
        scene.want("new", new)
        await scene.until(lambda: scene.told["new"] == {"sql": "Updating"})
        scene.adapters.forget("old")
        used = scene.adapters.use("new", "sql")
        assert used.adapter == SQL
        lora_files.adapter(weights / "new", seed=3)
        await scene.until(lambda: scene.told["new"] == {"sql": "Ready"})
        assert scene.adapters.use("new", "sql").adapter == new
        assert set(scene.engine.loaded) == {1, 2}
        scene.adapters.release(used)
        await scene.until(lambda: scene.engine.loaded == {2: "sql"})

    run(weights, scenario)


def test_a_client_of_the_engine_itself_has_what_the_newest_pipeline_has(weights: Path) -> None:
    async def scenario(scene: Scene) -> None:
        other = adapter_files.Adapter(name="sql", path="legal")
        scene.want("old", SQL)
        scene.want("new", other)
        assert scene.adapters.use("direct", "sql").adapter == other
        assert scene.adapters.use("old", "sql").adapter == SQL

    run(weights, scenario)


def write(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"adapter_model.safetensors": b"\x10"}, "is no safetensors file"),
        ({"adapter_config.json": b"["}, r"adapter_config\.json can't be read"),
        ({"adapter_config.json": b"[]"}, r"adapter_config\.json can't be read"),
        ({"adapter_config.json": json.dumps({"peft_type": "IA3"}).encode()}, "of type IA3"),
    ],
)
def test_files_that_can_not_be_read_are_refused(
    tmp_path: Path, changed: dict[str, bytes], reason: str
) -> None:
    directory = write(tmp_path / "a", lora_files.files() | changed)
    with pytest.raises(adapter_files.Refused, match=reason):
        adapter_files.check(directory, tmp_path)


A, B = "model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj.lora_B.weight"
MODEL = {"model.layers.0.self_attn.q_proj.weight": (256, 128), "model.norm.weight": (128,)}


@pytest.mark.parametrize(
    ("adapter", "model", "found"),
    [
        ({A: (4, 128), B: (256, 4)}, MODEL, []),
        ({f"base_model.model.{A}": (4, 128)}, MODEL, []),
        # Another version of transformers names what is in front of the layers otherwise.
        ({A: (4, 64)}, {"language_model.model.layers.0.self_attn.q_proj.weight": (256, 128)}, ["64 inputs"]),
        ({A: (4, 64)}, MODEL, ["64 inputs"]),
        ({B: (512, 4)}, MODEL, ["512 outputs"]),
        ({A: (4, 64), B: (512, 4)}, MODEL, ["64 inputs"]),
        ({A.replace("0", "1"): (4, 128)}, MODEL, ["the model has 1 layers"]),
        # A vision tower has layers of the same name, a quantized model no plain matrix: vLLM decides.
        ({A: (4, 64)}, {**MODEL, "vision.layers.0.self_attn.q_proj.weight": (64, 64)}, []),
        ({A: (4, 64)}, {"model.layers.0.self_attn.q_proj.qweight": (16, 128)}, []),
        ({}, MODEL, ["has no tensors"]),
    ],
)
def test_an_adapter_of_another_model_is_known_by_its_shapes(
    adapter: dict[str, tuple[int, ...]], model: dict[str, tuple[int, ...]], found: list[str]
) -> None:
    problems = adapter_files.mismatches(adapter, model)
    assert len(problems) == len(found)
    assert all(word in problem for word, problem in zip(found, problems, strict=True))
