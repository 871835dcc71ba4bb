"""Answers of two servers to the same prompts at temperature 0: how many are equal, and where others part."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

from tritonllm.bench import failures, targets, workload

PROMPTS = (
    "What is the capital of France?",
    "Explain in two sentences why the sky is blue.",
    "List the planets of the solar system, from the sun outwards.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Translate into German: The train leaves at half past nine.",
    "A shirt costs 20 euros after a discount of 20 %. What did it cost before? Show the steps.",
    "Summarize the story of Romeo and Juliet in three sentences.",
    "Write a JSON object with the keys name, age and city.",
)
"""Asked where there is no dataset; synthetic prompts have no answer worth a comparison."""

_CONTEXT = 40


class Asked(NamedTuple):
    """A prompt, and how long the answer may be.

    Attributes:
        text: of the prompt.
        max_tokens: None leaves the length to the server.
    """

    text: str
    max_tokens: int | None


class Divergence(NamedTuple):
    """Two answers to one prompt that are not equal.

    Attributes:
        prompt: that was asked.
        at: number of characters that are equal.
        a: A's answer around that place.
        b: B's.
    """

    prompt: str
    at: int
    a: str
    b: str


class Agreement(NamedTuple):
    """How far two servers give the same answers.

    Attributes:
        prompts: number of prompts.
        equal: number of equal answers.
        prefix: mean share of an answer that is equal from its start, 0 to 1; of the longer answer.
        divergences: one for each pair that is not equal, those that part first before the others.
    """

    prompts: int
    equal: int
    prefix: float
    divergences: tuple[Divergence, ...]


def agreement(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Agreement:
    """Compares answers.

    Args:
        prompts: at least one.
        a: A's answers to them.
        b: B's.
    """
    shares: list[float] = []
    parted: list[Divergence] = []
    for prompt, one, other in zip(prompts, a, b, strict=True):
        at = next(
            (n for n, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other))
        )
        longer = max(len(one), len(other))
        shares.append(at / longer if longer else 1.0)
        if one != other:
            parted.append(Divergence(prompt, at, _around(one, at), _around(other, at)))
    parted.sort(key=lambda each: each.at)
    return Agreement(len(shares), len(shares) - len(parted), sum(shares) / len(shares), tuple(parted))


def ask(server: targets.Server, asked: workload.Workload, prompts: Sequence[Asked]) -> list[str]:
    """The answers of a server at temperature 0, one request at a time.

    Args:
        server: to ask.
        asked: whose route, further fields and timeout count.
        prompts: to send.

    Raises:
        failures.BenchmarkFailed: a request fails.
    """
    return [_answer(server, asked, prompt) for prompt in prompts]


def _answer(server: targets.Server, asked: workload.Workload, prompt: Asked) -> str:
    url, body = _request(server, asked, prompt)
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=asked.timeout) as answer:
            return _text(asked.api, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(500).decode(errors="replace")
        raise failures.BenchmarkFailed(f"{url} answers {error.code} {error.reason}: {said}") from None
    except OSError as error:
        raise failures.BenchmarkFailed(
            f"{url} does not answer: {getattr(error, 'reason', error)}; is the server alive?"
        ) from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise failures.BenchmarkFailed(f"{url} does not answer as that API does") from None


def _request(server: targets.Server, asked: workload.Workload, prompt: Asked) -> tuple[str, dict[str, Any]]:
    """The URL and the body of a request."""
    sampling = {"temperature": 0, "seed": asked.seed, **asked.extra}
    if prompt.max_tokens is not None:
        sampling["max_tokens"] = prompt.max_tokens
    match asked.api:
        case workload.Api.triton:
            url = f"{server.url}{workload.generate_stream(server.model)}"
            return url, {
                "text_input": prompt.text,
                "stream": True,
                "sampling_parameters": json.dumps(sampling),
            }
        case workload.Api.completions:
            return f"{server.url}/v1/completions", {
                "model": server.model,
                "prompt": prompt.text,
                **sampling,
            }
        case workload.Api.chat:
            messages = [{"role": "user", "content": prompt.text}]
            return f"{server.url}/v1/chat/completions", {
                "model": server.model,
                "messages": messages,
                **sampling,
            }


def _text(api: workload.Api, body: bytes) -> str:
    """The text of an answer."""
    if api is workload.Api.triton:
        events = [
            json.loads(line.removeprefix(b"data:")) for line in body.splitlines() if line.startswith(b"data:")
        ]
        for event in events:
            if "error" in event:
                raise failures.BenchmarkFailed(f"Triton answers {event['error']}")
        return "".join(event["text_output"] for event in events)
    choice = json.loads(body)["choices"][0]
    return (choice["message"].get("content") if api is workload.Api.chat else choice["text"]) or ""


def _around(text: str, at: int) -> str:
    start, end = max(0, at - _CONTEXT), at + _CONTEXT
    before, after = "…" if start else "", "…" if end < len(text) else ""
    return f"{before}{text[start:at]}⟨{text[at:end]}⟩{after}"
