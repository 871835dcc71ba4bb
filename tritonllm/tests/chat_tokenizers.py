"""A small tokenizer with the control tokens of chat models, and the deltas that an engine makes of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, pre_tokenizers
from tokenizers import models as tokenizer_models

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|python_tag|>")
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<｜User｜>", "<h1>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}{{ message.tool_call_id }}"
    "{% for call in message.tool_calls %}<tool_call>{{ call.id }}{{ call.function.name }}"
    "{% for key, value in call.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if enable_thinking is defined %}thinking={{ enable_thinking }}{% endif %}{{ shade }}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make(directory: Path, template: str | None = TEMPLATE) -> Any:
    """Makes a tokenizer of bytes and loads it as vLLM does."""
    from vllm.tokenizers import get_tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(
        tokenizer_models.BPE({character: number for number, character in enumerate(alphabet)}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([tokenizers.AddedToken(tag, normalized=False) for tag in TAGS])
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text('{"model_type": "llama"}')
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": template,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return get_tokenizer(str(directory))


def deltas(tokenizer: Any, text: str, *, skip_special_tokens: bool) -> Iterator[tuple[str, list[int]]]:
    """Text and ids of each token of an answer, as an engine hands them out; bytes of a character come with its last."""
    stream = decoders.DecodeStream(skip_special_tokens=skip_special_tokens)
    for token in tokenizer.encode(text, add_special_tokens=False):
        yield stream.step(tokenizer._tokenizer, token) or "", [token]
