"""The search: Optuna chooses the next configuration and keeps the trials in SQLite, so that a search can be continued."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc

from tritonllm.bench import failures, results
from tritonllm.tuning import reasons, space, trials

_STUDY = "tritonllm"
_TRIAL = "trial"
# A configuration that was not measured breaks the objectives more than any that was: TPE learns to stay away from it.
_UNUSABLE = 1e6
_SAME_AGAIN = 5
_ENOUGH_FOR_IMPORTANCE = 8
_STATES = optuna.trial.TrialState


@contextlib.contextmanager
def opened(file: Path, axes: Sequence[space.Axis], *, maximized: bool, seed: int) -> Iterator[Search]:
    """The search in a file, which is created if it is missing.

    Args:
        file: SQLite's.
        axes: to choose from.
        maximized: whether more of the objective is better.
        seed: of the choices.

    Raises:
        failures.BenchmarkFailed: the file cannot be read or written, for example because the disk is full.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        try:
            yield Search(storage, axes, maximized=maximized, seed=seed)
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = str(getattr(error.__cause__ or error, "orig", None) or error)
        raise failures.BenchmarkFailed(f"{file} cannot be written: {reason}; is the disk full?") from None


class Search:
    """Chooses configurations by what is known of those before."""

    def __init__(
        self, storage: optuna.storages.RDBStorage, axes: Sequence[space.Axis], *, maximized: bool, seed: int
    ) -> None:
        self._axes = axes
        self._random = random.Random(seed)
        self._study = optuna.create_study(
            storage=storage,
            study_name=_STUDY,
            load_if_exists=True,
            direction="maximize" if maximized else "minimize",
        )
        known = self._study.get_trials(deepcopy=False)
        # Continued with the same seed, it would draw the same configurations again.
        self._study.sampler = optuna.samplers.TPESampler(seed=seed + len(known))
        self._seed(len(known))
        for trial in known:
            if trial.state is _STATES.RUNNING:
                self._study.tell(trial.number, state=_STATES.FAIL)

    def _seed(self, count: int) -> None:
        for _ in range(count):
            self._random.random()

    def ask(self) -> tuple[optuna.Trial, dict[str, Any]] | None:
        """The next configuration, the start configuration first; None if all were tried.

        Returns:
            What `tell` and `drop` take, and the values by the name of their axis.
        """
        tried = {self._key(trial.values) for trial in self.trials()}
        if not tried:
            return self._suggest({axis.name: axis.start for axis in self._axes})
        if len(tried) >= space.size(self._axes):
            return None
        for _ in range(_SAME_AGAIN):
            asked, values = self._suggest(None)
            if self._key(values) not in tried:
                return asked, values
            self.drop(asked)
        while True:
            values = {axis.name: self._random.choice(axis.values) for axis in self._axes}
            if self._key(values) not in tried:
                return self._suggest(values)

    def tell(self, asked: optuna.Trial, trial: trials.Trial) -> None:
        """Keeps a trial.

        Args:
            asked: from `ask`.
            trial: how it ended.
        """
        asked.set_user_attr(_TRIAL, _encoded(trial))
        asked.set_constraint("objectives", _UNUSABLE if trial.value is None else trial.violation)
        if trial.value is None:
            self._study.tell(asked, state=_STATES.PRUNED)
        else:
            self._study.tell(asked, trial.value)

    def drop(self, asked: optuna.Trial) -> None:
        """Forgets a configuration that was not tried to its end."""
        self._study.tell(asked, state=_STATES.FAIL)

    def trials(self) -> list[trials.Trial]:
        """The trials that are kept, in their order."""
        kept = self._study.get_trials(deepcopy=False, states=(_STATES.COMPLETE, _STATES.PRUNED))
        return [_decoded(n, trial.user_attrs[_TRIAL]) for n, trial in enumerate(kept)]

    def importances(self) -> dict[str, float]:
        """The share of each axis in how good a configuration is, by PED-ANOVA; empty if too few were measured.

        Source: S. Watanabe, A. Bansal, F. Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
        Arbitrary Subspaces", IJCAI 2023. It needs no scikit-learn, as fANOVA does.
        """
        values = [trial.value for trial in self.trials() if trial.value is not None]
        if len(values) < _ENOUGH_FOR_IMPORTANCE or len(set(values)) < 2:
            return {}
        return optuna.importance.get_param_importances(self._study)

    def _suggest(self, fixed: Mapping[str, Any] | None) -> tuple[optuna.Trial, dict[str, Any]]:
        if fixed is not None:
            self._study.enqueue_trial(
                {
                    axis.name: axis.values.index(fixed[axis.name])
                    if axis.ordered
                    else _text(fixed[axis.name])
                    for axis in self._axes
                }
            )
        asked = self._study.ask()
        values: dict[str, Any] = {}
        for axis in self._axes:
            if axis.ordered:
                # Its place rather than the number: steps of a doubling are equally far apart.
                values[axis.name] = axis.values[asked.suggest_int(axis.name, 0, len(axis.values) - 1)]
            else:
                texts = {_text(value): value for value in axis.values}
                values[axis.name] = texts[asked.suggest_categorical(axis.name, list(texts))]
        return asked, values

    def _key(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(_text(values[axis.name]) for axis in self._axes)


def _text(value: Any) -> str:
    """A value as Optuna keeps it: it takes `true` and 1 for the same."""
    return space.shown(value)


def _encoded(trial: trials.Trial) -> dict[str, Any]:
    return {
        "values": dict(trial.values),
        "outcome": trial.outcome.value,
        "reason": trial.reason,
        "value": trial.value,
        "violation": trial.violation,
        "result": None if trial.result is None else trial.result.encoded(),
    }


def _decoded(number: int, kept: Mapping[str, Any]) -> trials.Trial:
    outcome = reasons.Outcome(kept["outcome"])
    result = None if kept["result"] is None else results.decoded(kept["result"])
    return trials.Trial(
        number, kept["values"], outcome, kept["reason"], kept["value"], kept["violation"], result
    )
