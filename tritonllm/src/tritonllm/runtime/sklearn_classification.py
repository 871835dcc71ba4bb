"""Classification of texts by scikit-learn: texts in, the probability of each class of the model out."""

from __future__ import annotations

from pathlib import Path

import joblib

from tritonllm.engines.classifier import ClassifierArgs


class SklearnClassifier:
    """A classifier in this process. Loading it runs what its files say.

    Args:
        directory: with `model.joblib`, and `vectorizer.joblib` if the model does not take texts itself.
        args: of the endpoint.

    Raises:
        ValueError: the model gives no probabilities.
    """

    def __init__(self, directory: str, args: ClassifierArgs) -> None:
        files = Path(directory)
        self._model = joblib.load(files / "model.joblib")
        vectorizer = files / "vectorizer.joblib"
        self._vectorizer = joblib.load(vectorizer) if vectorizer.exists() else None
        if not hasattr(self._model, "predict_proba"):
            raise ValueError(
                f"the model in {files / 'model.joblib'} has no `predict_proba`: it gives no probabilities; wrap it in"
                " scikit-learn's CalibratedClassifierCV"
            )
        self.labels = [str(label) for label in self._model.classes_]
        self._batch = args.max_batch_size

    def classify(self, texts: list[str]) -> list[list[float]]:
        """Scores texts.

        Args:
            texts: any number.

        Returns:
            For each text the probability of each of `labels`, which add up to 1.
        """
        found: list[list[float]] = []
        for start in range(0, len(texts), self._batch):
            some = texts[start : start + self._batch]
            read = some if self._vectorizer is None else self._vectorizer.transform(some)
            found += self._model.predict_proba(read).tolist()
        return found
