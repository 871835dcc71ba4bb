"""vLLM itself behind the backend interface, without Triton: a tiny random Llama on the CPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import gptq
import models
from tritonllm import errors, sampling, versions
from tritonllm.runtime import backend, vllm_engine, vllm_requests

pytestmark = [
    pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed"),
    pytest.mark.timeout(300),
    # vLLM's and torch's own.
    pytest.mark.filterwarnings("default"),
]

CONTEXT = 256
ARGUMENTS = {"max_model_len": CONTEXT, "max_num_seqs": 8, "enforce_eager": True}
PROMPT = "The engine reads a prompt, makes one token after another"


class Engine:
    """A running backend and the event loop that it lives in."""

    def __init__(self, directory: Path, **arguments: Any) -> None:
        self.runner = asyncio.Runner()
        self.backend = vllm_engine.VllmBackend(ARGUMENTS | {"model": str(directory)} | arguments)
        self.run(self.backend.start())
        self.ids = iter(range(1_000_000))

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(asyncio.wait_for(coroutine, 60))

    def close(self) -> None:
        self.run(self.backend.close())
        self.runner.close()

    def generation(
        self, text: str | None = PROMPT, messages: list[dict[str, str]] | None = None, **parameters: Any
    ) -> backend.Generation:
        wanted = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | parameters
        return backend.Generation(
            f"test-{next(self.ids)}", text, messages, sampling.SamplingParameters(**wanted)
        )

    async def stream(self, generation: backend.Generation) -> AsyncGenerator[backend.Update]:
        received: asyncio.Queue[backend.Update | errors.RequestError] = asyncio.Queue()
        self.backend.submit(generation, received.put_nowait, received.put_nowait)
        finished = False
        while not finished:
            update = await received.get()
            if isinstance(update, errors.RequestError):
                raise update
            finished = update.finished
            yield update

    async def updates(self, generation: backend.Generation) -> list[backend.Update]:
        return [update async for update in self.stream(generation)]

    def ask(self, text: str | None = PROMPT, messages: Any = None, **parameters: Any) -> list[backend.Update]:
        return self.run(self.updates(self.generation(text, messages, **parameters)))


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Starting an engine leaves settings in this process's environment, meant for its children: not for other tests."""
    before = dict(os.environ)
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def engine(environment: None, tiny: Path) -> Iterator[Engine]:
    running = Engine(tiny)
    yield running
    running.close()


def text_of(updates: list[backend.Update], choice: int = 0) -> str:
    return "".join(update.texts[choice] for update in updates)


def tokens_of(updates: list[backend.Update], choice: int = 0) -> int:
    return sum(update.output_tokens[choice] for update in updates)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (vLLM changes what it waits for, and tells nobody)
            await asyncio.sleep(0.01)


def refusal(engine: Engine, **request: Any) -> errors.RequestError:
    with pytest.raises(errors.RequestError) as caught:
        engine.ask(**request)
    return caught.value


def test_the_deltas_of_an_answer_make_up_the_answer_that_vllm_gives_in_one_piece(engine: Engine) -> None:
    updates = engine.ask(max_tokens=32)

    async def whole() -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        wanted = SamplingParams(
            max_tokens=32, temperature=0.0, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        return [output async for output in engine.backend._engine.generate(PROMPT, wanted, "whole")][-1]

    expected = engine.run(whole())
    assert text_of(updates) == expected.outputs[0].text
    assert len(updates) > 1
    assert tokens_of(updates) == 32
    assert updates[0].input_tokens == len(expected.prompt_token_ids)


@pytest.mark.parametrize("method", ["ngram", "draft_model"])
def test_speculative_decoding_changes_no_answer_and_counts_every_token(
    engine: Engine, tiny: Path, method: str
) -> None:
    # As its own draft model, it accepts every draft.
    drafts = {"prompt_lookup_max": 3} if method == "ngram" else {"model": str(tiny)}
    drafting = Engine(tiny, speculative_config=drafts | {"method": method, "num_speculative_tokens": 3})
    try:
        updates = drafting.ask(max_tokens=32)
    finally:
        drafting.close()
    assert text_of(updates) == text_of(engine.ask(max_tokens=32))
    assert tokens_of(updates) == 32
    # More than one token came with an update.
    assert len(updates) < 32


def test_only_the_last_update_is_finished(engine: Engine) -> None:
    updates = engine.ask()
    assert [update.finished for update in updates] == [False] * (len(updates) - 1) + [True]
    assert updates[-1].finish_reasons == ["length"]


def test_every_choice_has_its_own_text_and_end(engine: Engine) -> None:
    updates = engine.ask(n=2, temperature=2.0, seed=3, max_tokens=12)
    assert [tokens_of(updates, choice) for choice in (0, 1)] == [12, 12]
    assert text_of(updates, 0) != text_of(updates, 1)
    assert updates[-1].finish_reasons == ["length", "length"]
    assert not any(update.finished for update in updates[:-1])


def test_the_same_seed_gives_the_same_answer(engine: Engine) -> None:
    first, second, other = (text_of(engine.ask(temperature=2.0, seed=seed)) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_a_stop_string_ends_the_answer_before_it(engine: Engine) -> None:
    whole = text_of(engine.ask(max_tokens=32))
    stop = whole[8:11]
    updates = engine.ask(max_tokens=32, stop=stop)
    assert text_of(updates) == whole[: whole.index(stop)]
    assert updates[-1].finish_reasons == ["stop"]


def test_an_answer_may_end_by_itself(engine: Engine) -> None:
    end_of_text = 1
    updates = engine.ask(ignore_eos=False, logit_bias={str(end_of_text): 100.0})
    assert text_of(updates) == ""
    assert updates[-1].finish_reasons == ["stop"]


def test_a_logit_bias_decides_the_token(engine: Engine) -> None:
    tokenizer = engine.backend._engine.get_tokenizer()
    [token] = tokenizer.encode("e", add_special_tokens=False)
    assert text_of(engine.ask(logit_bias={str(token): 100.0})) == "e" * 8


def test_log_probabilities_come_one_entry_a_token_in_the_form_of_tritons_vllm_backend(engine: Engine) -> None:
    updates = engine.ask(logprobs=2)
    positions = [position for update in updates for position in (update.logprobs or [[]])[0]]
    assert len(positions) == 8
    for position in positions:
        assert len(position) in (2, 3)
        for token, found in position.items():
            assert isinstance(token, int)
            assert found.keys() == {"logprob", "rank", "decoded_token"}
    likeliest = [max(found["logprob"] for found in position.values()) for position in positions]
    assert updates[-1].cumulative_logprobs == [pytest.approx(sum(likeliest), abs=1e-3)]
    json.dumps(positions, allow_nan=False)


def test_without_asking_there_are_no_log_probabilities(engine: Engine) -> None:
    assert all(update.logprobs is None and update.cumulative_logprobs is None for update in engine.ask())


def test_two_answers_are_made_at_the_same_time(engine: Engine) -> None:
    async def both() -> list[float]:
        spans = []

        async def one(text: str) -> None:
            times = []
            async for _ in engine.stream(engine.generation(text, max_tokens=64)):
                times.append(time.monotonic())
            spans.append((times[0], times[-1]))

        await asyncio.gather(one("one, two, three"), one("four, five, six"))
        return spans

    (start_a, end_a), (start_b, end_b) = engine.run(both())
    assert max(start_a, start_b) < min(end_a, end_b)


def test_a_conversation_goes_through_the_models_chat_template(engine: Engine) -> None:
    turn = {"role": "user", "content": "Hello"}
    as_messages = engine.ask(text=None, messages=[turn])
    # The tokenizer puts the begin token in front of a text itself.
    as_text = engine.ask(text="<|user|>Hello</s><|assistant|>")
    assert text_of(as_messages) == text_of(as_text)
    assert as_messages[0].input_tokens == as_text[0].input_tokens


def test_what_the_chat_template_refuses_is_the_callers_mistake(engine: Engine) -> None:
    turn = {"role": "user", "content": "Hello"}
    error = refusal(engine, text=None, messages=[turn, turn])
    assert (error.code, error.field) == ("invalid_argument", "messages")
    assert "Conversation roles must alternate" in error.message


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_with_both_numbers(engine: Engine) -> None:
    error = refusal(engine, text="the sea " * CONTEXT)
    assert (error.code, error.field) == ("invalid_argument", "text_input")
    tokens = int(error.message.split()[0])
    assert tokens >= CONTEXT
    assert error.message == f"{tokens} tokens, but the model's context is {CONTEXT}; shorten the prompt"


def test_a_prompt_of_megabytes_is_refused_without_reading_it(engine: Engine) -> None:
    error = refusal(engine, text="x" * 5_000_000)
    assert error.message.startswith("5000000 characters, but the model's context is 256")


def test_a_prompt_that_fits_gets_an_answer_up_to_the_end_of_the_context(engine: Engine) -> None:
    updates = engine.ask(text="sea " * 50, max_tokens=CONTEXT)
    assert updates[-1].finish_reasons == ["length"]
    assert updates[0].input_tokens + tokens_of(updates) == CONTEXT


def test_a_combination_that_vllm_refuses_is_the_callers_mistake(engine: Engine) -> None:
    error = refusal(engine, n=2, temperature=0.0)
    assert error.code == "invalid_argument"
    assert error.field.startswith("sampling_parameters")
    assert "greedy" in error.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_bias", {"hello": 1.0}),
        ("logit_bias", {"1000000": 1.0}),
        ("logit_bias", {"5": 1e39}),
        ("stop_token_ids", [1000000]),
    ],
)
def test_token_ids_and_biases_out_of_bounds_are_refused_and_the_engine_lives(
    engine: Engine, field: str, value: Any
) -> None:
    error = refusal(engine, min_tokens=4, **{field: value})
    assert (error.code, error.field) == ("invalid_argument", f"sampling_parameters.{field}")
    assert tokens_of(engine.ask()) == 8


def test_a_refused_request_leaves_the_engine_at_work(engine: Engine) -> None:
    refusal(engine, text="the sea " * CONTEXT)
    assert idle(engine)
    assert tokens_of(engine.ask()) == 8


def refused(error: errors.RequestError) -> None:
    raise AssertionError(error)


def idle(engine: Engine) -> bool:
    return (
        engine.backend.stats().running == 0
        and not engine.backend._engine.output_processor.has_unfinished_requests()
    )


def test_an_aborted_request_gets_no_further_update_and_frees_its_place(engine: Engine) -> None:
    async def scenario() -> int:
        generation = engine.generation(max_tokens=200)
        updates: list[backend.Update] = []
        engine.backend.submit(generation, updates.append, refused)
        await until(lambda: len(updates) > 1 and engine.backend.stats().running == 1)
        assert engine.backend.stats().kv_cache_usage > 0
        engine.backend.abort(generation.id)
        received = len(updates)
        await until(lambda: idle(engine))
        return len(updates) - received

    assert engine.run(scenario()) == 0


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
def test_a_request_aborted_at_any_moment_of_its_submission_frees_its_place(
    engine: Engine, turns: int
) -> None:
    async def scenario() -> None:
        generation = engine.generation("sea " * 50, max_tokens=200)
        engine.backend.submit(generation, lambda update: None, refused)
        for _ in range(turns):
            await asyncio.sleep(0)
        engine.backend.abort(generation.id)
        await asyncio.sleep(0)
        await until(lambda: idle(engine))

    engine.run(scenario())


def test_this_version_of_vllm_hands_out_outputs_by_callback(engine: Engine) -> None:
    assert vllm_requests.by_callback(engine.backend._engine)


def test_every_step_counts(engine: Engine) -> None:
    before = engine.backend.stats().steps
    engine.ask(max_tokens=20)
    assert engine.backend.stats().steps >= before + 20


def test_to_abort_what_is_not_there_has_no_effect(engine: Engine) -> None:
    async def scenario() -> None:
        engine.backend.abort("unknown")
        await engine.backend.check()

    engine.run(scenario())


def test_a_model_without_a_chat_template_says_so(
    environment: None, tmp_path: Path, tiny: Path, engine: Engine
) -> None:
    from vllm.tokenizers import get_tokenizer

    from tritonllm.runtime import prompts

    directory = models.tiny_llama(tmp_path / "plain", chat_template=False)
    prompt_tokenizer = prompts.PromptTokenizer(get_tokenizer(str(directory)), CONTEXT)
    with pytest.raises(errors.RequestError) as caught:
        engine.run(prompt_tokenizer.tokens(None, [{"role": "user", "content": "Hello"}]))
    prompt_tokenizer.close()
    assert (caught.value.code, caught.value.field) == ("invalid_argument", "messages")
    assert "no chat template; send the whole prompt as `text_input`" in caught.value.message


_PROCESS = """
import asyncio, json, sys
from tritonllm.runtime import vllm_engine

async def main():
    backend = vllm_engine.VllmBackend(json.loads(sys.argv[1]))
    await backend.start()
    print("ready", flush=True)
    await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main())
"""


@contextlib.contextmanager
def engine_process(
    tmp_path: Path, arguments: dict[str, Any]
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """An engine in a process of its own, ready, with the processes below it."""
    script = tmp_path / "engine_process.py"
    script.write_text(_PROCESS)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    children: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line.strip() == "ready" for line in lines), (tmp_path / "log").read_text()[-4000:]
        children = psutil.Process(process.pid).children(recursive=True)
        yield process, children
    finally:
        process.kill()
        process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def test_vllms_processes_die_with_a_process_that_is_killed(tmp_path: Path, tiny: Path) -> None:
    with engine_process(tmp_path, ARGUMENTS | {"model": str(tiny)}) as (process, children):
        names = [child.name() for child in children]
        assert any("VLLM::EngineCor" in name for name in names), names
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # A second or two; left alone they stay for ever.
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive


def test_a_dead_engine_fails_every_request_and_the_check(
    tmp_path: Path, environment: None, tiny: Path
) -> None:
    # Those of earlier tests may not have ended yet.
    before = psutil.Process().children()
    engine = Engine(tiny)
    try:
        children = [child for child in psutil.Process().children() if child not in before]
        [core] = [child for child in children if "EngineCor" in child.name()]

        async def scenario() -> list[BaseException | list[backend.Update]]:
            # More than run at once, so that many are left whenever the kill arrives.
            generations = [engine.generation(max_tokens=200) for _ in range(40)]
            tasks = [asyncio.create_task(engine.updates(generation)) for generation in generations]
            await until(lambda: engine.backend.stats().running == 8)
            core.kill()
            return await asyncio.gather(*tasks, return_exceptions=True)

        results = engine.run(scenario())
        failed = [result for result in results if not isinstance(result, list)]
        assert all(result[-1].finished for result in results if isinstance(result, list))
        assert [type(error) for error in failed] == [errors.RequestError] * len(failed)
        assert {error.code for error in failed} == {"engine_failure"}
        assert results[-1] in failed
        assert refusal(engine).code == "engine_failure"
        with pytest.raises(Exception, match="EngineCore"):
            engine.run(engine.backend.check())
    finally:
        engine.close()


def test_a_gptq_model_answers_as_its_dequantized_weights_do(tmp_path: Path) -> None:
    import torch
    import transformers

    gptq.quantize(models.tiny_llama(tmp_path / "model"), tmp_path / "gptq", tmp_path / "plain", group_size=32)
    engine = Engine(tmp_path / "gptq")
    found = engine.ask("one two three", max_tokens=1, logprobs=0)[-1].logprobs
    engine.close()

    [ids] = transformers.AutoTokenizer.from_pretrained(tmp_path / "plain")(
        "one two three", return_tensors="pt"
    )["input_ids"]
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    with torch.no_grad():
        expected = plain(ids[None]).logits[0, -1].log_softmax(-1)
    best = int(expected.argmax())
    assert found is not None
    assert found[0][0][best]["logprob"] == pytest.approx(float(expected[best]), abs=0.02)
