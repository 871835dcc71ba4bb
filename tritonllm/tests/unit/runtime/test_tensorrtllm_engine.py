"""What TensorRT-LLM is asked and what becomes of its outputs, against a small stand-in for its documented LLM API."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chat_tokenizers
from tritonllm import errors, sampling, versions
from tritonllm.runtime import backend, tensorrtllm_engine

pytestmark = [
    pytest.mark.skipif(
        versions.installed_version() is None, reason="vLLM, which loads the tokenizer, is missing"
    ),
    # vLLM and torch warn of themselves when they are imported.
    pytest.mark.filterwarnings("ignore"),
]


@dataclasses.dataclass
class Logprob:
    logprob: float
    rank: int | None = None


@dataclasses.dataclass
class CompletionOutput:
    """https://nvidia.github.io/TensorRT-LLM/llm-api/reference.html: `text` and `token_ids` hold everything so far."""

    index: int
    text: str = ""
    token_ids: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = dataclasses.field(default_factory=list)
    finish_reason: str | None = None


@dataclasses.dataclass(kw_only=True)
class SamplingParams:
    max_tokens: int = 32
    n: int = 1
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    bad: str | list[str] | None = None
    logprobs: int | None = None
    guided_decoding: Any = None

    def __post_init__(self) -> None:
        if self.n > 4:
            raise ValueError("n must not exceed 4")


@dataclasses.dataclass(kw_only=True)
class GuidedDecodingParams:
    json: Any = None
    regex: str | None = None
    json_object: bool = False


class Result:
    """What `generate_async` returns: itself, after each step."""

    def __init__(self, n: int) -> None:
        self.outputs = [CompletionOutput(index) for index in range(n)]
        self.steps: asyncio.Queue[Callable[[Result], None] | Exception | None] = asyncio.Queue()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def step(self, texts: list[str], tokens: list[list[int]], reasons: list[str | None]) -> None:
        def apply(result: Result) -> None:
            for output, text, ids, reason in zip(result.outputs, texts, tokens, reasons, strict=True):
                output.text, output.finish_reason = text, reason
                output.token_ids = ids

        self.steps.put_nowait(apply)

    def __aiter__(self) -> Result:
        return self

    async def __anext__(self) -> Result:
        step = await self.steps.get()
        if step is None:
            raise StopAsyncIteration
        if isinstance(step, Exception):
            raise step
        step(self)
        return self


class LLM:
    """The class of the LLM API."""

    made: typing.ClassVar[list[LLM]] = []

    def __init__(self, model: str, **arguments: Any) -> None:
        self.model, self.arguments, self.shut = model, arguments, False
        self.asked: list[tuple[list[int], SamplingParams]] = []
        self.results: list[Result] = []
        LLM.made.append(self)

    def generate_async(self, inputs: list[int], sampling_params: SamplingParams, streaming: bool) -> Result:
        assert streaming
        self.asked.append((inputs, sampling_params))
        self.results.append(Result(sampling_params.n))
        return self.results[-1]

    def shutdown(self) -> None:
        self.shut = True


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    chat_tokenizers.make(directory)
    (directory / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 512}')
    return directory


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module, llmapi = types.ModuleType("tensorrt_llm"), types.ModuleType("tensorrt_llm.llmapi")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    llmapi.GuidedDecodingParams = GuidedDecodingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt_llm", module)
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi", llmapi)
    yield
    LLM.made.clear()


@dataclasses.dataclass
class Engine:
    """A started backend."""

    backend: Any
    updates: list[backend.Update] = dataclasses.field(default_factory=list)
    errors: list[errors.RequestError] = dataclasses.field(default_factory=list)

    @property
    def llm(self) -> LLM:
        return LLM.made[0]

    def submit(self, chat: dict[str, Any] | None = None, **parameters: Any) -> None:
        messages = [{"role": "user", "content": "Hi"}]
        wanted = sampling.SamplingParameters(**parameters)
        generation = backend.Generation("1", None, messages, wanted, chat or {})
        self.backend.submit(generation, self.updates.append, self.errors.append)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def asked(self, **parameters: Any) -> Result:
        """Submits a request, and waits until TensorRT-LLM has it."""
        self.submit(**parameters)
        await self.until(lambda: self.llm.results)
        return self.llm.results[0]

    async def refused(self, **parameters: Any) -> str:
        self.submit(**parameters)
        await self.until(lambda: self.errors)
        return str(self.errors[0])


def run(weights: Path, scenario: Callable[[Engine], Awaitable[Any]], **arguments: Any) -> LLM:
    async def main() -> LLM:
        started = tensorrtllm_engine.TensorRTLLMBackend({"model": str(weights), **arguments})
        await started.start()
        engine = Engine(started)
        try:
            await scenario(engine)
        finally:
            await started.close()
        assert engine.llm.shut
        return engine.llm

    return asyncio.run(main())


async def nothing(engine: Engine) -> None:
    """No request."""


def test_arguments_are_those_of_the_llm_api_and_the_context_is_the_models(weights: Path) -> None:
    llm = run(weights, nothing, tensor_parallel_size=2, kv_cache_config={"free_gpu_memory_fraction": 0.8})
    assert llm.model == str(weights)
    assert llm.arguments == {
        "trust_remote_code": False,
        "tensor_parallel_size": 2,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.8},
        "max_batch_size": 256,
        "max_seq_len": 512,
    }


def test_an_answer_comes_in_pieces_and_the_chat_template_is_applied(weights: Path) -> None:
    async def scenario(engine: Engine) -> None:
        result = await engine.asked(temperature=0, stop=["x"], bad_words=["no"], max_tokens=5)
        result.step(["Hel"], [[1]], [None])
        result.step(["Hello"], [[1, 2, 3]], ["stop"])
        await engine.until(lambda: len(engine.updates) == 2)
        assert [each.texts for each in engine.updates] == [["Hel"], ["lo"]]
        assert [each.output_tokens for each in engine.updates] == [[1], [2]]
        assert [each.finish_reasons for each in engine.updates] == [[None], ["stop"]]
        assert engine.backend.stats() == backend.Stats(0, 0, 0.0, 2)

    [(ids, wanted)] = run(weights, scenario).asked
    assert ids[0] == 258  # <|im_start|>
    assert wanted == SamplingParams(max_tokens=5, top_k=1, stop=["x"], bad=["no"])


def test_choices_and_log_probabilities_are_told_apart(weights: Path) -> None:
    async def scenario(engine: Engine) -> None:
        result = await engine.asked(n=2, logprobs=0)
        result.outputs[1].logprobs = [{65: Logprob(-0.1, 1), 66: Logprob(-2.0, 3)}]
        result.step(["", "b"], [[], [66]], [None, None])
        result.step(["a", "b"], [[65], [66]], ["length", "stop"])
        await engine.until(lambda: len(engine.updates) == 2)
        first, last = engine.updates
        assert first.logprobs is not None
        assert first.logprobs[0] == []
        [position] = first.logprobs[1]
        assert list(position) == [66, 65]
        assert (position[66]["logprob"], position[66]["rank"]) == (-2.0, 3)
        assert first.cumulative_logprobs == [0.0, -2.0]
        assert last.finish_reasons == ["length", "stop"]
        assert last.logprobs == [[], []]

    [(_, wanted)] = run(weights, scenario).asked
    assert wanted == SamplingParams(max_tokens=256, n=2, logprobs=1)


def test_a_request_that_is_cancelled_is_aborted(weights: Path) -> None:
    async def scenario(engine: Engine) -> None:
        result = await engine.asked()
        engine.backend.abort("1")
        await engine.until(lambda: result.aborted)
        assert engine.backend.stats().running == 0
        assert engine.updates == engine.errors == []

    run(weights, scenario)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"logit_bias": {"1": 1.0}}, "[invalid_argument] sampling_parameters.logit_bias: is not supported"),
        ({"n": 5}, "[invalid_argument] sampling_parameters: n must not exceed 4"),
        (
            {"structured_outputs": {"regex": "a"}},
            "[invalid_argument] sampling_parameters.structured_outputs: are not supported by this endpoint",
        ),
        (
            {"chat": {"tools": [{"type": "function", "function": {"name": "f"}}]}},
            "[invalid_argument] chat_options.tools: are not supported by engine type tensorrtllm",
        ),
    ],
)
def test_what_it_can_not_do_is_refused(weights: Path, parameters: dict[str, Any], said: str) -> None:
    async def scenario(engine: Engine) -> None:
        assert (await engine.refused(**parameters)).startswith(said)

    run(weights, scenario)


def test_structured_outputs_need_a_backend_for_them(weights: Path) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.asked(structured_outputs={"json": {"type": "object"}})
        engine.backend.abort("1")

    [(_, wanted)] = run(weights, scenario, guided_decoding_backend="xgrammar").asked
    assert wanted.guided_decoding == GuidedDecodingParams(json={"type": "object"})


@pytest.mark.parametrize("step", [RuntimeError("CUDA"), None])
def test_a_failure_of_the_engine_ends_the_request(weights: Path, step: Exception | None) -> None:
    async def scenario(engine: Engine) -> None:
        result = await engine.asked()
        result.steps.put_nowait(step)
        await engine.until(lambda: engine.errors)
        assert str(engine.errors[0]).startswith("[engine_failure] TensorRT-LLM failed on this request")

    run(weights, scenario)


def test_a_model_that_does_not_say_its_context_needs_an_argument(weights: Path, tmp_path: Path) -> None:
    for file in weights.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "bloom"}')
    with pytest.raises(ValueError, match=r"set `engine\.args\.max_seq_len`"):
        run(tmp_path, nothing)
    assert run(tmp_path, nothing, max_seq_len=64).arguments["max_seq_len"] == 64
