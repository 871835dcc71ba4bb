"""The transformers backend without Triton: a tiny random Llama on the CPU."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import transformers

import models
from tritonllm import errors, sampling
from tritonllm.runtime import backend, transformers_engine
from weather_tool import TOOL

CONTEXT = 256
PROMPT = "The engine reads a prompt, makes one token after another"
HELLO = [{"role": "user", "content": "Hello"}]


class Engine:
    """A running backend and the event loop that it lives in."""

    def __init__(self, directory: Path, **arguments: Any) -> None:
        self.runner = asyncio.Runner()
        arguments = {"model": str(directory), "max_model_len": CONTEXT, "max_num_seqs": 4} | arguments
        self.backend = transformers_engine.TransformersBackend(arguments)
        try:
            self.run(self.backend.start())
        except BaseException:
            self.runner.close()
            raise
        self.ids = iter(range(1_000_000))

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(asyncio.wait_for(coroutine, 60))

    def close(self) -> None:
        self.run(self.backend.close())
        self.runner.close()

    async def stream(
        self, text: str | None, messages: Any = None, chat: dict[str, Any] | None = None, **parameters: Any
    ) -> AsyncGenerator[backend.Update]:
        wanted = sampling.SamplingParameters(
            **{"max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | parameters
        )
        generation = backend.Generation(f"test-{next(self.ids)}", text, messages, wanted, chat or {})
        received: asyncio.Queue[backend.Update | errors.RequestError] = asyncio.Queue()
        self.backend.submit(generation, received.put_nowait, received.put_nowait)
        try:
            while True:
                update = await received.get()
                if isinstance(update, errors.RequestError):
                    raise update
                yield update
                if update.finished:
                    return
        finally:
            self.backend.abort(generation.id)

    def ask(self, text: str | None = PROMPT, *rest: Any, **parameters: Any) -> list[backend.Update]:
        async def updates() -> list[backend.Update]:
            return [update async for update in self.stream(text, *rest, **parameters)]

        return self.run(updates())

    def text(self, *args: Any, **parameters: Any) -> str:
        return "".join(update.texts[0] for update in self.ask(*args, **parameters))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """The model, to be changed."""
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[Engine]:
    running = Engine(tiny)
    yield running
    running.close()


def refusal(engine: Engine, *args: Any, **parameters: Any) -> errors.RequestError:
    with pytest.raises(errors.RequestError) as caught:
        engine.ask(*args, **parameters)
    return caught.value


def test_only_the_last_update_is_finished(engine: Engine) -> None:
    updates = engine.ask()
    assert [update.finished for update in updates] == [False] * 7 + [True]
    assert {update.input_tokens for update in updates} == {updates[0].input_tokens}


def test_an_answer_ends_with_the_context(engine: Engine) -> None:
    updates = engine.ask(max_tokens=10_000)
    assert updates[0].input_tokens + sum(update.output_tokens[0] for update in updates) == CONTEXT
    assert updates[-1].finish_reasons == ["length"]


def test_a_conversation_is_made_a_prompt_by_the_chat_template(engine: Engine) -> None:
    [update] = engine.ask(None, HELLO, max_tokens=1)
    [same] = engine.ask("<|user|>Hello</s><|assistant|>", max_tokens=1)
    assert (update.texts, update.input_tokens) == (same.texts, same.input_tokens)
    assert refusal(engine, None, [*HELLO, *HELLO]).field == "messages"


def test_stats_tell_what_runs(engine: Engine) -> None:
    async def busy() -> backend.Stats:
        stream = engine.stream(PROMPT, max_tokens=200, n=2, temperature=1.0)
        await anext(stream)
        found = engine.backend.stats()
        await stream.aclose()
        return found

    found = engine.run(busy())
    assert (found.running, found.waiting) == (2, 0)
    assert found.steps > 0
    assert found.kv_cache_usage > 0
    idle = engine.backend.stats()
    assert (idle.running, idle.waiting, idle.kv_cache_usage) == (0, 0, 0)


def test_the_parameters_that_the_models_authors_advise_apply_unless_others_are_given(copy: Path) -> None:
    (copy / "generation_config.json").write_text(
        json.dumps({"eos_token_id": 1, "top_k": 1, "temperature": 2.0})
    )
    engine = Engine(copy)
    greedy = engine.text()
    assert engine.text(temperature=2.0) == greedy
    assert engine.text(temperature=2.0, top_k=0, seed=1) != greedy
    engine.close()


def test_tokens_of_the_tokenizer_that_the_model_does_not_have_harm_nothing(copy: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(copy)
    tokenizer.add_tokens(["beyond"])
    tokenizer.save_pretrained(copy)
    engine = Engine(copy)
    assert refusal(engine, "It is beyond").field == "text_input"
    assert engine.text(PROMPT, bad_words=["beyond"]) == engine.text()
    engine.close()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"structured_outputs": {"json_object": True}}, "sampling_parameters.structured_outputs"),
        ({"n": 5}, "sampling_parameters.n"),
        ({"text": None, "messages": HELLO, "chat": {"tools": [TOOL]}}, "chat_options.tools"),
        ({"stop_token_ids": [768]}, "sampling_parameters.stop_token_ids"),
        ({"min_tokens": 9}, "sampling_parameters.min_tokens"),
        ({"text": PROMPT * 100}, "text_input"),
    ],
    ids=str,
)
def test_what_it_can_not_do_is_refused_with_its_field(
    engine: Engine, request_: dict[str, Any], field: str
) -> None:
    found = refusal(engine, **{"text": PROMPT} | request_)
    assert (found.code, found.field) == ("invalid_argument", field)


def test_adapters_are_refused(engine: Engine) -> None:
    with pytest.raises(backend.AdapterRefused, match="serves no adapters"):
        engine.run(engine.backend.add_adapter(1, "sql", "/adapters/sql"))


def test_a_failure_of_the_model_reaches_every_request_and_the_check(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny)

    async def fail() -> list[errors.RequestError]:
        streams = [engine.stream(PROMPT, max_tokens=200) for _ in range(6)]
        for stream in streams[:4]:
            await anext(stream)

        def broken(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        monkeypatch.setattr(engine.backend._loaded.model._model, "forward", broken)

        async def end(stream: AsyncGenerator[backend.Update]) -> errors.RequestError:
            with pytest.raises(errors.RequestError) as caught:
                [update async for update in stream]
            return caught.value

        return await asyncio.gather(*map(end, streams))

    assert {error.code for error in engine.run(fail())} == {"engine_failure"}
    assert refusal(engine).code == "engine_failure"
    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.run(engine.backend.check())
    engine.close()


def test_weights_that_are_not_complete_are_refused(copy: Path) -> None:
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        Engine(copy)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_model_len": 4096}, "engine.args.max_model_len: must be at most 2048"),
        (
            {"prompt": {"format": "Chat"}, "chat_template": "{{ raise_exception('no') }}"},
            "the chat template does not work",
        ),
    ],
    ids=str,
)
def test_an_endpoint_that_can_not_work_is_refused_when_it_loads(
    tiny: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Engine(tiny, **arguments)
