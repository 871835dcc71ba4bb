import pytest

import client
import servers
from answer import Failure


def test_a_server_that_runs_already_is_named_with_its_process() -> None:
    url = "http://localhost:8000/v2/models/chat/generate_stream"
    assert servers.ready_made(f"new=triton={url}=42") == client.Target("new", "triton", url, pid=42)
    assert servers.ready_made(f"new=triton={url}").pid is None


@pytest.mark.parametrize("text", ["new", "new=http://localhost", "new=grpc=http://localhost", "=triton="])
def test_a_server_in_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(Failure, match=r"NAME=KIND=URL\[=PID\]"):
        servers.ready_made(text)


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(Failure, match=r"http://127.0.0.1:9/v1/models does not list a model"):
        servers.ready_made("theirs=openai=http://127.0.0.1:9/v1/completions")
