"""What an author of an endpoint in front of an upstream is told, and what the owner of a pool has to permit."""

from __future__ import annotations

from typing import Any

import pytest

from tritonllm import allow, api, render
from tritonllm.engines import openai

URL = "https://api.example.com/v1"


def problems(**args: Any) -> dict[str, str]:
    found = openai.OPENAI.check({"url": URL, "model": "m"} | args)
    return {path.removeprefix("spec.engine.args."): message for path, message in found}


def endpoint(**args: Any) -> api.LLMEndpoint:
    engine = {"type": "openai", "args": {"url": URL, "model": "m"} | args}
    return api.LLMEndpoint.model_validate(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": "chat"},
            "spec": {"pool": "llm", "engine": engine, "guardrails": {}},
        }
    )


def test_usual_arguments_are_right() -> None:
    assert problems() == {}
    assert problems(api_key_name="team-a", api="vllm", max_num_seqs=8, max_model_len=8192) == {}


@pytest.mark.parametrize(
    "url",
    ["http://vllm:8000/v1", "http://nim.models.svc:8000/v1", "http://10.0.0.7/v1", "http://[fd00::7]/v1"],
)
def test_plain_http_is_for_the_cluster_and_private_networks(url: str) -> None:
    assert problems(url=url) == {}


@pytest.mark.parametrize(
    "url", ["http://api.example.com/v1", "http://8.8.8.8/v1", "http://svc.example.com/v1"]
)
def test_plain_http_to_another_host_has_to_be_asked_for(url: str) -> None:
    assert problems(url=url)["url"].startswith("http:// to a host outside of the cluster")
    assert problems(url=url, allow_http=True) == {}


@pytest.mark.parametrize(
    "url",
    [
        "https://sk-secret@api.example.com/v1",
        "https://user:sk-secret@api.example.com/v1",
        "https://api.example.com/v1?api_key=sk-secret",
        "https://api.example.com/v1#sk-secret",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    message = problems(url=url)["url"]
    assert "use `api_key_name`" in message
    assert "sk-secret" not in message


@pytest.mark.parametrize(
    "url", ["", "api.example.com/v1", "ftp://a/v1", "https://", "https://a:port/", "https://a b/"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    assert "must be the base URL of an OpenAI API" in problems(url=url)["url"]


@pytest.mark.parametrize("name", ["sk-proj-abc", "nvapi-abc", "../token", "a/b", "", ".hidden", "x" * 64])
def test_the_key_itself_and_paths_are_no_names_of_a_key_and_not_shown(name: str) -> None:
    message = problems(api_key_name=name)["api_key_name"]
    assert "must be the name of a file with the key" in message
    assert not name or name not in message


def test_a_key_in_an_argument_of_its_own_is_refused_and_not_shown() -> None:
    assert problems(api_key="sk-secret") == {
        "api_key": "an upstream has no argument `api_key`; did you mean `api_key_name`?"
    }


def test_url_and_model_are_required() -> None:
    found = dict(openai.OPENAI.check({}))
    assert found == {"spec.engine.args.url": "is required", "spec.engine.args.model": "is required"}


def test_weights_are_not_supported() -> None:
    with pytest.raises(ValueError, match="`model` is not supported by engine type openai"):
        api.Spec.model_validate(
            {"pool": "llm", "model": {"path": "a"}, "engine": {"type": "openai"}, "guardrails": {}}
        )


def test_what_is_rendered_has_the_name_of_the_key_only() -> None:
    rendered = render.repository([endpoint(api_key_name="team-a")], weights="/weights")
    assert b'"api_key_name": "team-a"' in rendered["chat-engine"]["1/model.json"]


@pytest.mark.parametrize(
    ("entry", "args", "permitted"),
    [
        (None, {}, False),
        ({"url": URL}, {}, True),
        ({"url": f"{URL}/"}, {}, True),
        ({"url": "https://api.example.com"}, {}, False),
        ({"url": "https://api.example.com.evil.org/v1"}, {}, False),
        ({"url": URL}, {"api_key_name": "team-a"}, False),
        ({"url": URL, "apiKeys": ["team-a"]}, {"api_key_name": "team-a"}, True),
        ({"url": URL, "apiKeys": ["team-a"]}, {"api_key_name": "team-b"}, False),
        ({"url": URL, "apiKeys": ["*"]}, {"api_key_name": "team-b"}, True),
        ({"url": "*"}, {}, True),
        ({"url": "*", "apiKeys": ["*"]}, {"api_key_name": "team-b"}, True),
    ],
)
def test_the_owner_of_a_pool_permits_an_upstream_together_with_its_keys(
    entry: dict[str, Any] | None, args: dict[str, Any], permitted: bool
) -> None:
    allowed = allow.Allow.model_validate({"upstreams": [entry] if entry else []})
    found = allow.problems(endpoint(**args), allowed)
    assert (found == []) is permitted
    assert all(path == "spec.engine.args.url" and "allow.upstreams" in message for path, message in found)


def test_an_author_who_owns_the_server_may_ask_any_upstream() -> None:
    assert allow.problems(endpoint(api_key_name="team-a"), allow.EVERYTHING) == []
