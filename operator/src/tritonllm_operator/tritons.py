"""The Tritons of a pool's pods: what they are asked, the loads and unloads under way, and those that failed."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from tritonllm_operator import facts, metrics, progress, triton
from tritonllm_operator.facts import Attempt, Pod
from tritonllm_operator.loads import Load, Unload

LOG = logging.getLogger(__name__)

# How long a pod may take to answer before the others go on without it; less for one that was silent just now.
_TIMEOUT, _SHORT_TIMEOUT, _JUST_NOW = 2.0, 0.2, 15.0
# Changes that take longer go on while the pool is looked at again: a pod that hangs delays only itself.
_STEPS_SECONDS = 2.0
_FIRST_RETRY, _LAST_RETRY = 2.0, 60.0


class Tritons:
    """What is remembered between two looks.

    Attributes:
        secret: of the pool; empty where it has to be read again.
        attempts: loads that failed, as in `facts.World`.
        busy: loads and unloads under way, by pod and model.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        """Knows nothing at first; `changed` is called when a load or an unload has ended."""
        self.secret = ""
        self.attempts: dict[tuple[str, str, str], Attempt] = {}
        self.busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._changed = changed
        self._silent: dict[str, float] = {}
        # Of pods that have started: these don't change.
        self._unreadable: dict[str, facts.Reports] = {}

    def forget(self, alive: Collection[str]) -> None:
        """Forgets the pods that are gone."""
        self._silent = {name: since for name, since in self._silent.items() if name in alive}
        self._unreadable = {name: known for name, known in self._unreadable.items() if name in alive}
        self.attempts = {key: value for key, value in self.attempts.items() if key[0] in alive}

    async def ask(self, pod: Pod) -> Pod:
        """The pod with what its Triton holds, or why it does not say."""
        if not (pod.address and pod.running):
            return pod
        if not pod.started:
            pod = replace(pod, stages=await progress.said(pod.address, progress.LOADING))
        pod = replace(pod, weights=pod.weights or await self._unreadable_by(pod))
        now = time.monotonic()
        timeout = _SHORT_TIMEOUT if now - self._silent.get(pod.name, -_JUST_NOW) < _JUST_NOW else _TIMEOUT
        try:
            async with triton.Triton(pod.name, pod.address, self.secret) as asked:
                models = await asked.models(timeout)
        except triton.Refused as error:
            if timeout == _TIMEOUT:
                self._silent[pod.name] = now
            # One that still boots need not answer yet.
            return replace(pod, silent=error.trouble) if self._denied(error) or pod.started else pod
        self._silent.pop(pod.name, None)
        for model in [model for name, model in self.busy if name == pod.name]:
            models[model] = replace(models.get(model, facts.ModelState("")), state=facts.LOADING)
        return replace(pod, models=models)

    async def _unreadable_by(self, pod: Pod) -> facts.Reports:
        """The endpoints that a pod without an init container has left out since it started, in the form of its report."""
        known = self._unreadable.get(pod.name)
        if known is None:
            said = await progress.said(pod.address, progress.UNREADABLE)
            known = {name: {"reason": facts.UNREADABLE, "message": why} for name, why in said.items()}
            if pod.started:
                self._unreadable[pod.name] = known
        return known

    async def change(self, steps: Sequence[Load | Unload], pods: Sequence[Pod]) -> None:
        """Does all steps at once, and waits a little for their ends."""
        addresses = {pod.name: pod.address for pod in pods}
        tasks = [asyncio.create_task(self._step(step, addresses[step.pod])) for step in steps]
        self.busy |= {(step.pod, step.model): task for step, task in zip(steps, tasks, strict=True)}
        await asyncio.wait(tasks, timeout=_STEPS_SECONDS)

    async def _step(self, step: Load | Unload, address: str) -> None:
        verb = type(step).__name__.lower()
        outcome = "done"
        began = time.monotonic()
        try:
            async with triton.Triton(step.pod, address, self.secret) as asked:
                if isinstance(step, Load):
                    await asked.load(step.model, step.config)
                    self.attempts.pop((step.pod, step.model, step.spec_hash), None)
                else:
                    await asked.unload(step.model)
            LOG.info("%s of %s on pod %s took %.2f s", verb, step.model, step.pod, time.monotonic() - began)
        except triton.Refused as error:
            outcome = "failed"
            LOG.warning("%s of %s on pod %s failed: %s", verb, step.model, step.pod, error)
            self._denied(error)
            if isinstance(step, Load):
                self._failed((step.pod, step.model, step.spec_hash), error.trouble)
        finally:
            metrics.STEPS.labels(verb, outcome).inc()
            del self.busy[step.pod, step.model]
        self._changed()

    def _denied(self, error: triton.Refused) -> bool:
        """Whether the secret was refused; it is then read again."""
        denied = error.trouble.reason == "ModelControlDenied"
        if denied:
            self.secret = ""
        return denied

    def _failed(self, key: tuple[str, str, str], trouble: facts.Trouble) -> None:
        tries = self.attempts[key].tries + 1 if key in self.attempts else 1
        wait = datetime.timedelta(seconds=min(_FIRST_RETRY * 2 ** (tries - 1), _LAST_RETRY))
        self.attempts[key] = Attempt(trouble, datetime.datetime.now(datetime.UTC) + wait, tries)
