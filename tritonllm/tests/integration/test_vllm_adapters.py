"""LoRA adapters in vLLM itself, without Triton: a tiny random Llama on the CPU."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lora_files
import models
from tritonllm import errors, sampling, versions
from tritonllm.runtime import adapter_files, adapters, backend, vllm_engine

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    pytest.mark.timeout(300),
    # vLLM's and torch's own.
    pytest.mark.filterwarnings("default"),
]

ARGUMENTS = {
    "max_model_len": 256,
    # In bfloat16 the random model's tokens are so close that the size of a batch decides between them.
    "dtype": "float32",
    "max_num_seqs": 8,
    "enforce_eager": True,
    "enable_lora": True,
    "max_loras": 2,
    "max_cpu_loras": 3,
    "max_lora_rank": 8,
}
PROMPT = "The engine reads a prompt, makes one token after another"


class Engine:
    """A running backend, its adapters, and the event loop that they live in."""

    def __init__(self, weights: Path) -> None:
        self.runner = asyncio.Runner()
        model = models.tiny_llama(weights / "tiny")
        self.backend = vllm_engine.VllmBackend({**ARGUMENTS, "model": str(model), "weights": str(weights)})
        self.run(self.backend.start())
        self.adapters = adapters.Adapters(
            self.runner.get_loop(), self.backend, weights, model, again_seconds=0.05
        )
        self.ids = iter(range(1_000_000))
        self.states: list[dict[str, Any]] = []

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(asyncio.wait_for(coroutine, 60))

    def close(self) -> None:
        self.run(self.adapters.close())
        self.run(self.backend.close())
        self.runner.close()

    async def want(self, *names: str) -> dict[str, str]:
        """Wants the adapters in the directories of these names, and returns their states once they have settled."""
        asked = [adapter_files.Adapter(name=name, path=name) for name in names]
        self.adapters.want("me", asked, self._take)
        while any(each["state"] == "Loading" for each in self.states):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return {each["name"]: each["state"] for each in self.states}

    def _take(self, states: list[dict[str, Any]]) -> None:
        self.states = states

    async def answer(self, adapter: str | None = None, tokens: int = 16) -> str:
        """The answer at temperature 0."""
        wanted = sampling.SamplingParameters(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        loaded = self.adapters.use("me", adapter) if adapter else None
        received: asyncio.Queue[backend.Update | errors.RequestError] = asyncio.Queue()
        generation = backend.Generation(
            f"test-{next(self.ids)}", PROMPT, None, wanted, adapter=loaded.id if loaded else None
        )
        self.backend.submit(generation, received.put_nowait, received.put_nowait)
        text = ""
        while True:
            update = await received.get()
            if isinstance(update, errors.RequestError):
                raise update
            text += update.texts[0]
            if update.finished:
                if loaded:
                    self.adapters.release(loaded)
                return text

    async def until_removed(self) -> set[int]:
        """Ids of vLLM's adapters once there are no more than wanted."""
        while len(found := await self.backend._engine.list_loras()) > len(self.adapters._known):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found

    def refusal(self, name: str) -> str:
        """Why an adapter is not served."""
        assert self.run(self.want(name)) == {name: "Refused"}
        return self.states[0]["message"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[Engine]:
    before = dict(os.environ)
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    lora_files.adapter(weights / "one", seed=1)
    lora_files.adapter(weights / "two", seed=2)
    running = Engine(weights)
    yield running
    running.close()
    os.environ.clear()
    os.environ.update(before)


def test_an_adapter_changes_the_answer_and_the_model_alone_answers_as_before(engine: Engine) -> None:
    async def scenario() -> None:
        before = await engine.answer()
        assert await engine.want("one", "two") == {"one": "Ready", "two": "Ready"}
        together = await asyncio.gather(engine.answer(), engine.answer("one"), engine.answer("two"))
        assert together[0] == before
        assert len(set(together)) == 3
        assert await engine.answer("one") == together[1]

    engine.run(scenario())


def test_one_that_is_removed_while_requests_use_it_goes_when_they_have_ended(engine: Engine) -> None:
    async def scenario() -> None:
        await engine.want("one", "two")
        expected = await engine.answer("one", tokens=128)
        requests = [asyncio.create_task(engine.answer("one", tokens=128)) for _ in range(3)]
        await asyncio.sleep(0)
        await engine.want("two")
        with pytest.raises(errors.RequestError, match="there is no adapter `one`"):
            engine.adapters.use("me", "one")
        assert len(await engine.backend._engine.list_loras()) == 2
        assert await asyncio.gather(*requests) == [expected] * 3
        assert len(await engine.until_removed()) == 1

    engine.run(scenario())


def test_another_version_of_the_same_name_is_another_adapter(engine: Engine) -> None:
    async def scenario() -> None:
        await engine.want("one")
        first = await engine.answer("one")
        second = adapter_files.Adapter(name="one", path="two")
        engine.adapters.want("new", [second], lambda states: None)
        while (loaded := engine.adapters._known[second]).state == "Loading":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await engine.answer("one") == first
        engine.adapters.forget("me")
        engine.adapters.want("me", [second], engine._take)
        assert engine.adapters.use("me", "one") is loaded
        engine.adapters.release(loaded)
        assert await engine.answer("one") != first
        engine.adapters.forget("new")
        assert len(await engine.until_removed()) == 1

    engine.run(scenario())


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("rank", {"rank": 16}, r"16 is greater than max_lora_rank 8"),
        ("modules", {"target": "nonsense"}, r"nonsense"),
        ("smaller", {"hidden": 64}, r"q_proj has 64 inputs, and the model's matrix is 128 × 128.*acme/tiny"),
        ("larger", {"hidden": 256}, r"q_proj has 256 inputs"),
        ("deeper", {"layers": 4}, r"layers\.3\.self_attn\.q_proj: the model has 3 layers"),
        ("dora", {"use_dora": True}, r"DoRA"),
    ],
)
def test_a_bad_adapter_is_refused_with_the_reason_and_the_others_serve_on(
    engine: Engine, weights: Path, name: str, options: dict[str, Any], reason: str
) -> None:
    lora_files.adapter(weights / name, **options)
    message = engine.refusal(name)
    assert re.search(reason, message), message
    engine.run(engine.want("one"))
    assert engine.run(engine.answer("one"))


def test_corrupt_files_are_refused_before_vllm_sees_them(engine: Engine, weights: Path) -> None:
    directory = lora_files.adapter(weights / "corrupt")
    file = directory / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "bytes of tensors where its header wants" in engine.refusal("corrupt")


def test_files_that_come_later_are_loaded_when_they_are_there(engine: Engine, weights: Path) -> None:
    async def scenario() -> None:
        assert await engine.want("late") == {"late": "Missing"}
        lora_files.adapter(weights / "late", seed=3)
        while engine.states[0]["state"] != "Ready":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await engine.answer("late")

    engine.run(scenario())
