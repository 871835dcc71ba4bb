"""Sequence classification by transformers: texts in, a score for each label of the model out.

No text is truncated: one with more tokens than the model reads at once is classified in overlapping parts, and its score
for a label is the highest of its parts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import transformers

from tritonllm.engines.classifier import ClassifierArgs

# What tokenizers without a limit give as theirs is far beyond this.
_NO_LIMIT = 1 << 20
# Some models count positions from 2 on.
_SPARE_POSITIONS = 2


class SequenceClassifier:
    """A classifier in this process.

    Args:
        directory: of the weights.
        trust_remote_code: whether Python code in the directory is run.
        args: of the endpoint.

    Raises:
        ValueError: the model is not a classifier of texts with labels.
    """

    def __init__(self, directory: str, *, trust_remote_code: bool, args: ClassifierArgs) -> None:
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **options)
        if not self._tokenizer.is_fast:
            raise ValueError("the classifier needs a `tokenizer.json`; its repository has none")
        loaded, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            directory, output_loading_info=True, **options
        )
        if missing := sorted(report["missing_keys"]):
            # Such a model would answer, with random scores.
            raise ValueError(
                f"the model in {directory} is no sequence classifier: its weights lack {', '.join(missing[:3])}"
            )
        config = loaded.config
        if config.problem_type == "regression":
            raise ValueError(
                "the model is a regression (`problem_type` in its config.json), and has no labels"
            )
        self.labels = [str(config.id2label[index]) for index in range(config.num_labels)]
        self._independent = config.problem_type == "multi_label_classification" or config.num_labels == 1
        self._device = _device(args.device)
        self._model = loaded.eval().to(self._device)
        self._length = _length(self._tokenizer, config, args)
        self._batch = args.max_batch_size

    def classify(self, texts: list[str]) -> list[list[float]]:
        """Scores texts.

        Args:
            texts: any number.

        Returns:
            For each text the score of each of `labels`, 0 to 1: probabilities that add up to 1, or independent ones if
            the model's `problem_type` is `multi_label_classification` or it has a single label.
        """
        if not texts:
            return []
        parts = self._tokenizer(
            texts,
            truncation=True,
            max_length=self._length,
            stride=self._length // 4,
            return_overflowing_tokens=True,
        )
        texts_of_parts = parts.pop("overflow_to_sample_mapping")
        found = [[0.0] * len(self.labels) for _ in texts]
        count = len(texts_of_parts)
        for start in range(0, count, self._batch):
            some = slice(start, min(start + self._batch, count))
            batch = self._tokenizer.pad(
                {name: values[some] for name, values in parts.items()}, return_tensors="pt"
            ).to(self._device)
            for text, scores in zip(texts_of_parts[some], self._scores(batch), strict=True):
                found[text] = [max(pair) for pair in zip(found[text], scores, strict=True)]
        return found

    @torch.inference_mode()
    def _scores(self, batch: Any) -> list[list[float]]:
        logits = self._model(**batch).logits.float()
        scores = logits.sigmoid() if self._independent else logits.softmax(dim=-1)
        return scores.cpu().tolist()


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _length(tokenizer: Any, config: Any, args: ClassifierArgs) -> int:
    limits = [args.max_length or math.inf]
    if tokenizer.model_max_length < _NO_LIMIT:
        limits.append(tokenizer.model_max_length)
    elif positions := getattr(config, "max_position_embeddings", None):
        limits.append(positions - _SPARE_POSITIONS)
    shortest = min(limits)
    return 512 if math.isinf(shortest) else int(shortest)
