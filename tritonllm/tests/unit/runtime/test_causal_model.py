"""Sequences that share a batch have the logits that each has alone, whatever the architecture does with positions."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers

from tritonllm.runtime import causal_model

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
MAMBA: dict[str, Any] = {
    "head_dim": 16,
    "mamba_d_ssm": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
}
CONFIGS: dict[str, Any] = {
    "rotary positions": transformers.LlamaConfig(**SIZES),
    "a sliding window": transformers.MistralConfig(**SIZES, sliding_window=8),
    "learned positions": transformers.GPT2Config(
        vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=128
    ),
    "positions of the mask": transformers.BloomConfig(vocab_size=300, hidden_size=64, n_layer=2, n_head=4),
    "a recurrent state": transformers.FalconH1Config(
        **SIZES,
        **MAMBA,
    ),
}
LENGTHS = (5, 21, 13)
TOKENS = 12


@pytest.fixture(params=CONFIGS)
def network(request: pytest.FixtureRequest) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(
            CONFIGS[request.param], dtype=torch.float32
        ).eval()


@torch.inference_mode()
def test_sequences_that_join_and_leave_are_as_when_they_are_alone(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prompts of several parts.
    monkeypatch.setattr(causal_model, "PREFILL_TOKENS", 6)
    texts = [_tokens(length + TOKENS, seed=length) for length in LENGTHS]
    expected = [network(torch.tensor([text])).logits[0] for text in texts]
    model = causal_model.CausalModel(network)
    place: list[int] = list(LENGTHS)
    batches: list[tuple[causal_model.Batch, list[int]]] = []

    def check(rows: list[int], logits: torch.Tensor) -> None:
        for row, scores in zip(rows, logits, strict=True):
            torch.testing.assert_close(scores, expected[row][place[row] - 1], rtol=0, atol=1e-4)

    def step() -> None:
        for batch, rows in batches:
            logits = batch.step([texts[row][place[row]] for row in rows])
            for row in rows:
                place[row] += 1
            check(rows, logits)

    for row, length in enumerate(LENGTHS):
        batch, logits = model.start(texts[row][:length])
        check([row], logits)
        if batches and model.joins:
            batches[0][0].join(batch)
            batches[0][1].append(row)
        else:
            batches.append((batch, [row]))
        step()
    if model.joins:
        # The longest leaves, and with it the padding of the others.
        batches[0][0].select([2, 0])
        batches = [(batches[0][0], [2, 0])]
        assert batches[0][0].cache.get_seq_length() == max(batches[0][0].lengths)
    for _ in range(TOKENS - len(LENGTHS) - 1):
        step()


@torch.inference_mode()
def test_a_copied_sequence_goes_on_like_the_original(network: Any) -> None:
    text = _tokens(9, seed=1)
    batch, _ = causal_model.CausalModel(network).start(text)
    batch.select([0, 0, 0])
    logits = batch.step([4, 4, 5])
    torch.testing.assert_close(
        logits[0], network(torch.tensor([[*text, 4]])).logits[0, -1], rtol=0, atol=1e-4
    )
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)


def test_a_model_without_a_cache_of_keys_and_values_is_refused() -> None:
    mamba = transformers.AutoModelForCausalLM.from_config(
        transformers.MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1)
    )
    with pytest.raises(ValueError, match="models of type mamba keep no `past_key_values`"):
        causal_model.CausalModel(mamba)


def _tokens(count: int, seed: int) -> list[int]:
    numbers = random.Random(seed)
    return [numbers.randrange(2, 300) for _ in range(count)]
