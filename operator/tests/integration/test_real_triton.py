"""Pods of the real Triton, run by `tritonllm serve`, in the hands of the operator."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import httpx
import pytest

import pool
import serving
from api_server import ApiServer
from pool import Pool, endpoint, until

SLOW = {"type": "simulated", "args": {"reply": "echo", "inter_token_seconds": 0.05}}
PROMPT = "apple banana " * 20


class Asking(threading.Thread):
    """Streams, one after another, until it is told to end.

    Attributes:
        texts: the whole text of each answer.
        problems: what went wrong.
    """

    def __init__(self, address: str, over: threading.Event) -> None:
        super().__init__()
        self._url = f"http://{address}:8000/v2/models/chat/generate_stream"
        self._over = over
        self.texts: list[str] = []
        self.problems: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self.texts.append(self._ask())
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.problems.append(repr(error))

    def _ask(self) -> str:
        body = {"text_input": PROMPT, "max_tokens": 30, "stream": True}
        text = ""
        with httpx.stream("POST", self._url, json=body, timeout=60, trust_env=False) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    told = json.loads(line.removeprefix("data:"))
                    if "error" in told:
                        raise ValueError(told["error"])
                    text += told["text_output"]
        return text


@pytest.mark.timeout(300)
def test_a_policy_edited_under_load_fails_no_request_and_each_answer_is_under_one_policy(
    api_server: ApiServer, llm: Pool, tmp_path: Path
) -> None:
    llm.install()
    llm.create("llmendpoints", endpoint(phrases=["apple"], engine=SLOW))
    with contextlib.ExitStack() as stack:
        operator = stack.enter_context(pool.operating(api_server, tmp_path, llm.name, resync=5))
        until(lambda: llm.get("configmaps", "llm-endpoints"), operator.story)
        addresses = serving.ADDRESSES[:2]
        for number, address in enumerate(addresses):
            stack.enter_context(serving.pod(llm, number, address, tmp_path))
        until(llm.told, lambda: (llm.status(), operator.story()), 60)
        over = threading.Event()
        askers = [Asking(address, over) for address in addresses for _ in range(2)]
        for asker in askers:
            asker.start()
        try:
            for word in ("banana", "apple", "banana"):
                answered = [len(asker.texts) for asker in askers]
                until(
                    lambda answered=answered: all(
                        len(asker.texts) > before or asker.problems
                        for asker, before in zip(askers, answered, strict=True)
                    ),
                    seconds=60,
                )
                llm.ban("chat", word)
                until(llm.told, lambda: (llm.status(), operator.story()), 60)
        finally:
            over.set()
            for asker in askers:
                asker.join()
        assert [asker.problems for asker in askers] == [[]] * len(askers)
        texts = [text for asker in askers for text in asker.texts]
        kinds = {("apple" in text, "banana" in text) for text in texts}
        assert kinds == {(True, False), (False, True)}, texts
        # What is live now is the last one, on both.
        for address in addresses:
            asker = Asking(address, over)
            assert "banana" not in asker._ask()
