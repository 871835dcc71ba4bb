"""Keys and limits as OpenAI's own client meets them, with the real routes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import gateway_server
import scripted_upstream
from scripted_upstream import end, piece
from tritonllm.gateway import app, stack
from tritonllm.gateway.keys import KeyFile

ENTRIES: dict[str, dict[str, Any]] = {
    "any": {},
    "none": {"models": ["other"]},
    "few": {"requestsPerMinute": 1},
    "short": {"tokensPerMinute": 5},
    "one": {"concurrentRequests": 1},
}
HELLO: Any = [{"role": "user", "content": "Hello"}]


@contextlib.contextmanager
def serving(tmp_path: Path) -> Iterator[tuple[gateway_server.Served, scripted_upstream.ScriptedUpstream]]:
    upstream = scripted_upstream.ScriptedUpstream([piece("Hi"), end(" there")])
    entries = {name: {"sha256": hashlib.sha256(f"sk-{name}".encode()).hexdigest(), **entry} for name, entry in ENTRIES.items()}  # fmt: skip
    (tmp_path / "keys.json").write_text(json.dumps(entries))
    settings = stack.Settings(keys=KeyFile([tmp_path / "keys.json"]))
    with gateway_server.serve(stack.build(app.create_app(upstream), upstream, settings)) as served:
        yield served, upstream


def client(served: gateway_server.Served, name: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=f"sk-{name}", max_retries=0)


def test_the_client_raises_what_belongs_to_each_refusal(tmp_path: Path) -> None:
    with serving(tmp_path) as (served, _):
        with client(served, "wrong") as wrong, pytest.raises(openai.AuthenticationError) as refused:
            wrong.chat.completions.create(model="chat", messages=HELLO)
        assert refused.value.code == "invalid_api_key"

        with client(served, "none") as none:
            with pytest.raises(openai.PermissionDeniedError) as forbidden:
                none.chat.completions.create(model="chat", messages=HELLO)
            assert (forbidden.value.code, forbidden.value.param) == ("model_not_allowed", "model")
            assert [model.id for model in none.models.list()] == []
            with pytest.raises(openai.NotFoundError):
                none.models.retrieve("chat")

        with client(served, "few") as few:
            few.chat.completions.create(model="chat", messages=HELLO)
            with pytest.raises(openai.RateLimitError) as limited:
                few.chat.completions.create(model="chat", messages=HELLO)
            assert limited.value.code == "rate_limit_exceeded"
            assert 50 <= int(limited.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("stream", [False, True])
def test_the_tokens_of_an_answer_count_against_the_key(
    stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving(tmp_path) as (served, _), client(served, "short") as short:
        found: Any = short.chat.completions.create(model="chat", messages=HELLO, stream=stream)
        if stream:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in found if chunk.choices) == "Hi there"  # fmt: skip
        with pytest.raises(openai.RateLimitError, match="tokensPerMinute"):
            short.chat.completions.create(model="chat", messages=HELLO)
        counts = httpx.get(f"{served.url}/metrics").text
    assert 'tritonllm_gateway_input_tokens_total{endpoint="chat",key="short"} 7.0' in counts
    assert 'tritonllm_gateway_output_tokens_total{endpoint="chat",key="short"} 2.0' in counts
    line = next(json.loads(record.message) for record in caplog.records if record.name.endswith("access"))
    assert (line["key"], line["endpoint"], line["finish_reason"]) == ("short", "chat", "stop")
    assert "Hello" not in caplog.text.replace("sk-", "")


def test_a_client_that_leaves_a_stream_frees_its_place(tmp_path: Path) -> None:
    with serving(tmp_path) as (served, upstream), client(served, "one") as one:
        upstream.held = True
        stream = one.chat.completions.create(model="chat", messages=HELLO, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError, match="concurrentRequests"):
            one.chat.completions.create(model="chat", messages=HELLO)
        stream.close()
        upstream.held = False
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(openai.RateLimitError):
                one.chat.completions.create(model="chat", messages=HELLO)
                return
        pytest.fail("the place stays taken")


def test_wrong_keys_by_the_thousand_are_refused_and_others_do_not_notice(tmp_path: Path) -> None:
    with serving(tmp_path) as (served, upstream):
        statuses: list[int] = []

        def guess(start: int) -> None:
            with httpx.Client(base_url=served.url, verify=False, timeout=30) as guesser:
                for number in range(start, start + 500):
                    answer = guesser.post(
                        "/v1/chat/completions", headers={"Authorization": f"Bearer sk-{number}"}
                    )
                    statuses.append(answer.status_code)

        threads = [threading.Thread(target=guess, args=[index * 500]) for index in range(4)]
        for thread in threads:
            thread.start()
        waits: list[float] = []
        with client(served, "any") as good:
            while any(thread.is_alive() for thread in threads):
                began = time.monotonic()
                good.chat.completions.create(model="chat", messages=HELLO)
                waits.append(time.monotonic() - began)
        assert statuses == [401] * 2000
        assert len(upstream.asked) == len(waits) > 0
        assert statistics.median(waits) < 1
        counts = httpx.get(f"{served.url}/metrics").text
    assert 'requests_total{endpoint="",key="",route="/v1/chat/completions",status="401"} 2000.0' in counts
