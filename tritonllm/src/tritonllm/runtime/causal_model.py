"""A causal model of transformers that computes the logits of several sequences at once, which join and leave between steps.

The sequences of a `Batch` share one KV cache, padded on the left to the longest. Models whose layers have a state other
than keys and values, such as Falcon-H1's, can't be padded: their sequences have a batch each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from transformers import cache_utils

# A prompt is computed in parts of so many tokens, which bounds the memory of its activations, and the time until the engine
# is seen to be alive.
PREFILL_TOKENS = 512


class CausalModel:
    """The forward pass of a model.

    Args:
        model: any causal model of transformers, on its device.

    Attributes:
        device: of the model.
        joins: whether batches can be joined.

    Raises:
        ValueError: the model keeps no KV cache in the form of transformers' `Cache`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parameters = inspect.signature(model.forward).parameters
        if "past_key_values" not in self._parameters:
            raise ValueError(
                f"models of type {model.config.model_type} keep no `past_key_values`, which engine type transformers needs;"
                " use engine type vllm"
            )
        self.device: torch.device = model.device
        # A window is a matter of the mask, too, and full layers can be padded.
        paddable = (cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer)
        layers = transformers.DynamicCache(config=model.config).layers
        self.joins = all(type(layer) in paddable for layer in layers)

    def start(
        self, prompt: Sequence[int], on_part: Callable[[], None] = lambda: None
    ) -> tuple[Batch, torch.Tensor]:
        """Computes a prompt.

        Args:
            prompt: token ids.
            on_part: called after each part of it.

        Returns:
            A batch of one sequence, and the logits of its next token, of shape [1, vocabulary].
        """
        cache = (
            transformers.DynamicCache()
            if self.joins
            else transformers.DynamicCache(config=self._model.config)
        )
        step = PREFILL_TOKENS if self.joins else len(prompt)
        logits = torch.empty(0)
        for start in range(0, len(prompt), step):
            part = torch.tensor([prompt[start : start + step]], device=self.device)
            end = start + part.shape[1]
            positions = torch.arange(start, end, device=self.device)[None]
            logits = self.forward(
                part, torch.ones((1, end), dtype=torch.long, device=self.device), positions, cache
            )
            on_part()
        return Batch(self, cache, [len(prompt)]), logits

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        """Appends tokens to the cache.

        Args:
            tokens: ids, of shape [sequences, tokens].
            mask: 1 for each token of the sequence, 0 for padding; those in the cache included.
            positions: of `tokens`.
            cache: of transformers.

        Returns:
            The logits of the tokens that come next, float32 of shape [sequences, vocabulary].
        """
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
        known = {name: value for name, value in options.items() if name in self._parameters}
        made = self._model(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
            **known,
        )
        return made.logits[:, -1].float()


class Batch:
    """Sequences with a common KV cache; made by `CausalModel.start`.

    Attributes:
        cache: keys and values of each layer, of shape [sequences, heads, tokens, size].
        lengths: number of tokens of each sequence in the cache.
    """

    def __init__(self, model: CausalModel, cache: Any, lengths: list[int]) -> None:
        self._model = model
        self.cache = cache
        self.lengths = lengths

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Appends one token to each sequence.

        Args:
            tokens: ids, one for each sequence.

        Returns:
            The logits of the tokens that come next, float32 of shape [sequences, vocabulary].
        """
        device = self._model.device
        lengths = torch.tensor(self.lengths, device=device)[:, None]
        width = max(self.lengths)
        mask = (torch.arange(width + 1, device=device)[None] >= width - lengths).long()
        ids = torch.tensor(tokens, device=device)[:, None]
        logits = self._model.forward(ids, mask, lengths, self.cache)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """Keeps some of the sequences, in this order; one that is named several times is copied."""
        width = max(self.lengths)
        self.lengths = [self.lengths[row] for row in rows]
        self.cache.reorder_cache(torch.tensor(rows, device=self._model.device))
        if (excess := width - max(self.lengths)) > 0:
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[..., excess:, :], layer.values[..., excess:, :]

    def join(self, other: Batch) -> None:
        """Appends the sequences of another batch, which must not be used any more."""
        missing = max(other.lengths) - max(self.lengths)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([_pad(mine.keys, missing), _pad(theirs.keys, -missing)])
            mine.values = torch.cat([_pad(mine.values, missing), _pad(theirs.values, -missing)])
        self.lengths = [*self.lengths, *other.lengths]


def _pad(states: torch.Tensor, tokens: int) -> torch.Tensor:
    """Puts zeros before the first token; which are not attended to."""
    return torch.nn.functional.pad(states, (0, 0, max(0, tokens), 0))
