"""A request for text as a request of OpenAI's API: the route and the body. Pure.

A conversation goes to `/chat/completions` as it is, so the chat template is the upstream's; a text goes to `/completions`.
Fields: https://platform.openai.com/docs/api-reference/chat/create and, for `api: vllm`,
https://docs.vllm.ai/en/latest/serving/openai_compatible_server/.
"""

from __future__ import annotations

from typing import Any

from tritonllm.engines.openai import OpenAIArgs
from tritonllm.runtime import backend, conversations

# Sampling parameters that OpenAI's API has under the same name; others are translated, or vLLM's.
_SAME = {"n", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "logit_bias"}
_TRANSLATED = {"max_tokens", "logprobs", "structured_outputs"}

# What a conversation can come with that OpenAI's API has under the same name.
_CHAT = {"tools", "tool_choice", "parallel_tool_calls", "reasoning_effort"}


def request(args: OpenAIArgs, generation: backend.Generation) -> tuple[str, dict[str, Any]]:
    """The route below the base URL, and the body.

    Args:
        args: of the engine.
        generation: what to generate.

    Raises:
        RequestError: `invalid_argument`: the upstream's API has no such parameter.
    """
    given = generation.sampling.given()
    body: dict[str, Any] = {
        "model": args.model,
        "stream": True,
        # The tokens are counted by the upstream, and told in the last chunk.
        "stream_options": {"include_usage": True},
        **{name: given.pop(name) for name in list(given) if name in _SAME},
    }
    further = {name: given[name] for name in given if name not in _TRANSLATED}
    if further and args.api == "openai":
        raise conversations.invalid(f"sampling_parameters.{next(iter(further))}", _unknown("this parameter"))
    body |= further
    if generation.messages is None:
        return "completions", body | _completion(args, generation, given)
    return "chat/completions", body | _chat(args, generation, given)


def _completion(args: OpenAIArgs, generation: backend.Generation, given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"prompt": generation.text}
    for name in ("max_tokens", "logprobs"):
        if name in given:
            found[name] = given[name]
    if "structured_outputs" in given:
        if args.api == "openai":
            raise conversations.invalid(
                "sampling_parameters.structured_outputs", _unknown("a form of the answer without `messages`")
            )
        found["structured_outputs"] = given["structured_outputs"]
    return found


def _chat(args: OpenAIArgs, generation: backend.Generation, given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"messages": [_message(args, turn) for turn in generation.messages or []]}
    if "max_tokens" in given:
        found[args.max_tokens_field] = given["max_tokens"]
    if "logprobs" in given:
        found |= {"logprobs": True, "top_logprobs": given["logprobs"]}
    if "structured_outputs" in given:
        found |= _structured(args, given["structured_outputs"])
    chat = generation.chat
    found |= {name: chat[name] for name in chat if name in _CHAT}
    if "chat_template_kwargs" in chat:
        if args.api == "openai":
            raise conversations.invalid(
                "chat_options.chat_template_kwargs", _unknown("variables of a chat template")
            )
        found["chat_template_kwargs"] = chat["chat_template_kwargs"]
    return found


def _message(args: OpenAIArgs, turn: dict[str, Any]) -> dict[str, Any]:
    """A message; earlier reasoning is part of vLLM's API only."""
    return {name: turn[name] for name in turn if name != "reasoning" or args.api == "vllm"}


def _structured(args: OpenAIArgs, wanted: dict[str, Any]) -> dict[str, Any]:
    """The form of the answer, as the upstream's API asks for it."""
    if args.api == "vllm":
        return {"structured_outputs": wanted}
    field = "sampling_parameters.structured_outputs"
    if wanted.get("json_object"):
        return {"response_format": {"type": "json_object"}}
    if (schema := wanted.get("json")) is None:
        raise conversations.invalid(field, f"{_unknown('this form')}; use `json` or `json_object`")
    if isinstance(schema, str):
        schema = conversations.parse_json(field, schema)
    # An answer that only resembles the schema would not be what was asked for.
    described = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def _unknown(what: str) -> str:
    return f"the upstream's API does not have {what}"
