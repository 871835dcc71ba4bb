"""How the next token of a sequence is chosen from the model's logits, by the sampling parameters of its request.

The processors are those of transformers, in the order of vLLM's sampler, so that at temperature 0 both choose the same
token. Random numbers differ: the same seed gives the same answer of one engine.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Any

import torch
import transformers

# As in vLLM: below the first, sampling is greedy; below the second, logits would overflow.
_GREEDY_BELOW = 1e-5
_LEAST_TEMPERATURE = 1e-2
# JSON has neither infinity nor NaN. The value is that of vLLM's server.
_LEAST_LOGPROB = -9999.0


class Sampler:
    """Chooses the tokens of one answer.

    Args:
        given: sampling parameters that are set; see `sampling.SamplingParameters`.
        choice: index of the answer among those of its request.
        prompt_tokens: number of tokens of the prompt.
        stop_tokens: tokens that end the answer, which `min_tokens` forbids at first.
        bad_words: token ids of what must not be generated.
        device: of the logits.
    """

    def __init__(
        self,
        given: dict[str, Any],
        *,
        choice: int,
        prompt_tokens: int,
        stop_tokens: Collection[int],
        bad_words: list[list[int]],
        device: torch.device,
    ) -> None:
        self._processors: Any = transformers.LogitsProcessorList(
            _processors(given, prompt_tokens, sorted(stop_tokens), bad_words, device)
        )
        temperature = given.get("temperature", 1.0)
        self._greedy = temperature < _GREEDY_BELOW
        if not self._greedy:
            self._processors += _warpers(given, max(temperature, _LEAST_TEMPERATURE))
        self._device = device
        seed = given.get("seed")
        self._generator = torch.Generator(device)
        self._generator.manual_seed(secrets.randbits(63) if seed is None else seed + choice)

    def choose(self, tokens: list[int], logits: torch.Tensor) -> torch.Tensor:
        """The next token.

        Args:
            tokens: of prompt and answer so far.
            logits: float32, one for each token of the vocabulary.

        Returns:
            Its id, a tensor without dimensions on the logits' device.
        """
        if self._processors:
            scores = self._processors(torch.tensor([tokens], device=self._device), logits[None].clone())
        else:
            scores = logits[None]
        if self._greedy:
            return scores[0].argmax()
        # The token whose exponential variable comes first is distributed as the probabilities. Unlike `multinomial`, this
        # does not end the process if a model's logits are no numbers.
        probabilities = scores[0].softmax(dim=-1)
        return (
            probabilities / torch.empty_like(probabilities).exponential_(generator=self._generator)
        ).argmax()


class AnswerPenalty:
    """The presence and frequency penalties of OpenAI's API, a processor that transformers does not have.

    Args:
        presence: subtracted from the logit of each token that is in the answer.
        frequency: subtracted for each time that it is.
        prompt_tokens: number of tokens before the answer.
    """

    def __init__(self, presence: float, frequency: float, prompt_tokens: int) -> None:
        self._presence = presence
        self._frequency = frequency
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Arguments and result are those of `transformers.LogitsProcessor`, each of shape [1, …]."""
        counts = torch.zeros_like(scores)
        answer = input_ids[:, self._prompt_tokens :]
        counts.scatter_add_(1, answer, torch.ones_like(answer, dtype=scores.dtype))
        return scores - self._frequency * counts - self._presence * (counts > 0)


def logprobs(
    logits: torch.Tensor, token: int, alternatives: int, decode: Callable[[list[int]], str]
) -> dict[int, dict[str, Any]]:
    """The log probabilities of one position, before any sampling parameter, as in Triton's vLLM backend.

    Args:
        logits: float32, one for each token of the vocabulary.
        token: that was chosen.
        alternatives: number of the most likely tokens to include.
        decode: makes text of token ids.

    Returns:
        The chosen token and the most likely ones.
    """
    values = logits.log_softmax(dim=-1)
    top = values.topk(min(alternatives, len(values)))
    chosen = float(values[token])
    found = {token: (chosen, int((values > chosen).sum()) + 1)}
    for rank, (value, other) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True), 1):
        found.setdefault(other, (value, rank))
    return {
        # The comparison is false for NaN, too.
        each: {
            "logprob": value if value > _LEAST_LOGPROB else _LEAST_LOGPROB,
            "rank": rank,
            "decoded_token": decode([each]),
        }
        for each, (value, rank) in found.items()
    }


def _processors(
    given: dict[str, Any],
    prompt_tokens: int,
    stop_tokens: list[int],
    bad_words: list[list[int]],
    device: torch.device,
) -> list[Any]:
    """Those that change which token is the most likely."""
    found: list[Any] = []
    if bad_words:
        found.append(transformers.NoBadWordsLogitsProcessor(bad_words))
    if given.get("min_tokens") and stop_tokens:
        found.append(
            transformers.MinNewTokensLengthLogitsProcessor(
                prompt_tokens, given["min_tokens"], stop_tokens, device=str(device)
            )
        )
    if given.get("logit_bias"):
        # Not as a list: some versions refuse token 0 there.
        biases: Any = {(int(token),): float(bias) for token, bias in given["logit_bias"].items()}
        found.append(transformers.SequenceBiasLogitsProcessor(biases))
    if (repetition := given.get("repetition_penalty", 1.0)) != 1:
        found.append(transformers.RepetitionPenaltyLogitsProcessor(float(repetition)))
    presence, frequency = given.get("presence_penalty", 0.0), given.get("frequency_penalty", 0.0)
    if presence or frequency:
        found.append(AnswerPenalty(presence, frequency, prompt_tokens))
    return found


def _warpers(given: dict[str, Any], temperature: float) -> list[Any]:
    """Those that only change how likely the other tokens are."""
    found: list[Any] = []
    if temperature != 1:
        found.append(transformers.TemperatureLogitsWarper(float(temperature)))
    if given.get("min_p"):
        found.append(transformers.MinPLogitsWarper(given["min_p"]))
    if given.get("top_k", 0) > 0:
        found.append(transformers.TopKLogitsWarper(given["top_k"]))
    if given.get("top_p", 1.0) < 1:
        found.append(transformers.TopPLogitsWarper(float(given["top_p"])))
    return found
