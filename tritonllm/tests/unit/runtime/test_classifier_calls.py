"""How a pipeline calls classifiers: by BLS, and over HTTP once Triton has begun to end the pipeline."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http import server
from typing import Any

import numpy as np
import pytest

import fake_backend_utils
from fake_backend_utils import InferenceRequest, InferenceResponse, Tensor, TritonError
from tritonllm import errors
from tritonllm.ipc import names
from tritonllm.runtime import classifier_calls

LABELS = [b"fine", b"insult"]


def scored(request: InferenceRequest) -> InferenceResponse:
    """The answer of a classifier: a text's score is the number in it."""
    texts = request.inputs[0].as_numpy()
    assert texts.shape == (len(texts), 1)
    scores = [[1 - float(text), float(text)] for [text] in texts]
    labels = np.array([LABELS] * len(texts), dtype=np.object_)
    return InferenceResponse([Tensor("label", labels), Tensor("score", np.array(scores, dtype=np.float32))])


class Asked:
    """Classifiers, and the answers that come."""

    def __init__(self) -> None:
        self.answers: queue.Queue[object] = queue.Queue()
        self.classifiers = classifier_calls.TritonClassifiers(["toxicity"])

    def ask(self, *texts: str) -> None:
        self.classifiers.call("toxicity", texts, self.answers.put)

    def answer(self) -> Any:
        return self.answers.get(timeout=30)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.delenv(names.TRITON, raising=False)
    monkeypatch.setattr(InferenceRequest, "call", scored, raising=False)
    made = Asked()
    yield made
    made.classifiers.close()


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that are asked of Triton's HTTP port, which answers as a classifier does."""
    paths: list[str] = []

    class Handler(server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            [tensor] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
            count = tensor["shape"][0]
            scores = [score for text in tensor["data"] for score in (1 - float(text), float(text))]
            labels = [label.decode() for label in LABELS] * count
            outputs = [
                {"name": "score", "shape": [count, 2], "data": scores},
                {"name": "label", "shape": [count, 2], "data": labels},
            ]
            body = json.dumps({"outputs": outputs}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=[0.01])
        thread.start()
        monkeypatch.setenv(names.TRITON, f"http://127.0.0.1:{http.server_address[1]}")
        yield paths
        http.shutdown()
        thread.join()


def test_every_text_gets_the_score_of_every_label(asked: Asked) -> None:
    asked.ask("0.25", "0.75")
    assert asked.answer() == [{"fine": 0.75, "insult": 0.25}, {"fine": 0.25, "insult": 0.75}]


def test_what_triton_says_of_a_call_that_fails_is_passed_on(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = InferenceResponse(error=TritonError("Request for unknown model: 'toxicity' is not found"))
    monkeypatch.setattr(InferenceRequest, "call", lambda _: unknown)
    asked.ask("0.5")
    error = asked.answer()
    assert isinstance(error, errors.RequestError)
    assert error.code == "unavailable"
    assert "'toxicity' is not found" in error.message


def test_a_call_that_triton_does_not_answer_any_more_is_asked_again_and_answered_once(
    asked: Asked, triton: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()

    def never(request: InferenceRequest) -> InferenceResponse:
        begun.set()
        released.wait(30)
        return scored(request)

    monkeypatch.setattr(InferenceRequest, "call", never)
    asked.ask("0.25")
    assert begun.wait(30)
    asked.classifiers.leave()
    assert asked.answer() == [{"fine": 0.75, "insult": 0.25}]
    released.set()
    asked.ask("0.5")
    assert asked.answer() == [{"fine": 0.5, "insult": 0.5}]
    assert asked.answers.empty()
    assert triton == ["/v2/models/toxicity/infer"] * 2


def test_a_call_that_is_refused_because_the_model_ends_is_asked_over_http(
    asked: Asked, triton: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: InferenceRequest) -> InferenceResponse:
        raise fake_backend_utils.TritonModelException("BLS is only supported during the 'execute' function.")

    monkeypatch.setattr(InferenceRequest, "call", refused)
    asked.ask("0.25")
    assert asked.answer() == [{"fine": 0.75, "insult": 0.25}]
    assert len(triton) == 1
