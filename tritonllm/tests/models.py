"""Tiny models for tests: real ones as far as vLLM is concerned, but random, small and made on the spot."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

# Enough English for a few hundred merges; what the model says is noise whatever the text.
_TEXT = """
The engine reads a prompt, makes one token after another, and stops where it is told to stop. A client asks
for a short story about the sea, for the capital of a country, for three names of a cat, for a poem in the
style of an old sailor. Somebody counts from one to twenty: one, two, three, four, five, six, seven, eight,
nine, ten, and so on. The weather is fine today, the train is late again, and nobody knows where the keys
are. Please write it down, say it twice, and send it to all of us before the end of the week. Thank you!
"""

# Special tokens, and all tokens with them.
_SPECIAL = ("<s>", "</s>")
THOUGHTS = ("<think>", "</think>")
"""What models that reason put around their reasoning."""

_SIZE = 768

_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if loop.index0 and messages[loop.index0 - 1]['role'] == message['role'] %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tiny_llama(
    directory: Path,
    *,
    chat_template: bool = True,
    context: int = 2048,
    words: bool = False,
    thoughts: bool = False,
) -> Path:
    """Makes a Llama of 0.65 million random parameters, the same ones every time.

    Args:
        directory: where to; made when missing, left alone when the model is there.
        chat_template: whether the tokenizer has one. Its own refuses two turns of one role in a row.
        context: the most tokens of prompt and answer.
        words: whether each token is one of `vocabulary()`, so that answers look like prose to guardrails.
            Otherwise tokens are bytes and pieces of English words, and answers are noise.
        thoughts: whether each of `THOUGHTS` is a token, as parsers of reasoning want it.

    Returns:
        The directory, ready to be served.
    """
    if (directory / "model.safetensors").exists():
        return directory
    import torch
    import transformers

    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _word_tokenizer() if words else _tokenizer()
    if thoughts:
        tokenizer.add_tokens(list(THOUGHTS))
    config = transformers.LlamaConfig(
        vocab_size=_save(tokenizer, directory, _CHAT_TEMPLATE if chat_template else None),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(directory)
    return directory


def vocabulary() -> list[str]:
    """The pronounceable words of a model with `words`, none of them an English one."""
    syllables = [consonant + vowel for consonant in "dflmnrtvz" for vowel in "aeio"]
    # A stride without a common divisor mixes their beginnings.
    every = ["".join(parts) for parts in itertools.product(syllables, repeat=3)]
    return [every[61 * number % len(every)] for number in range(_SIZE - len(_SPECIAL))]


def _tokenizer() -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer, in which any text comes back as it was."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    return tokenizer


def _word_tokenizer() -> tokenizers.Tokenizer:
    """A tokenizer of whole words with spaces between them."""
    import tokenizers
    from tokenizers import models, pre_tokenizers

    numbers = {token: number for number, token in enumerate([*_SPECIAL, *vocabulary()])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(numbers, unk_token=_SPECIAL[0]))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _save(tokenizer: tokenizers.Tokenizer, directory: Path, chat_template: str | None) -> int:
    """Writes the tokenizer. Returns its size."""
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
    }
    if chat_template is not None:
        config["chat_template"] = chat_template
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    return tokenizer.get_vocab_size()
