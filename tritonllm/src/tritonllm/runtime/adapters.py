"""The LoRA adapters of a running engine: loaded while a pipeline wants them, removed after their last use.

Each pipeline process says which adapters it wants. The engine has what all of them want together: while an endpoint is
reloaded, the old pipeline and the new one are both there, and there can be several processes of each. An adapter that
is no longer wanted stays until the last request that uses it has ended. Another revision of an adapter is another
adapter for the engine, with an id of its own, so that requests of both can run side by side.

One event loop, the backend's, owns everything here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from tritonllm import errors
from tritonllm.runtime import adapter_files, backend
from tritonllm.weights import lock

log = logging.getLogger(__name__)

State = Literal["Loading", "Ready", "Missing", "Updating", "Refused"]
"""Missing: its files are not there yet; they are looked for again and again. Updating: so are they, and meanwhile the
version that the engine had before answers."""

_AGAIN_SECONDS = 2.0


class Loaded:
    """One adapter of the engine.

    Attributes:
        adapter: what was asked for.
        id: what the engine knows it by; never used twice.
        state: see `State`.
        message: why it is not Ready.
        former: the version of the same name that answers until its files are there; kept as by a request.
        commit: of its repository, once it is known.
        settled: done once it is no longer Loading.
        owners: pipeline processes that want it.
        users: number of requests that use it.
        unused: set once there is neither.

    Args:
        adapter: see above.
        number: see `id`.
        settled: see above.
    """

    def __init__(self, adapter: adapter_files.Adapter, number: int, settled: asyncio.Future[None]) -> None:
        self.adapter = adapter
        self.id = number
        self.state: State = "Loading"
        self.message = ""
        self.commit = adapter.commit
        self.settled = settled
        self.owners: set[object] = set()
        self.users = 0
        self.unused = asyncio.Event()
        self.former: Loaded | None = None

    def serves(self, adapter: adapter_files.Adapter) -> bool:
        """Whether it is what is asked for. Its commit can be known to one pipeline and not yet to another."""
        same = self.adapter.model_copy(update={"commit": adapter.commit}) == adapter
        return same and adapter.commit in (None, self.commit)

    def described(self) -> dict[str, Any]:
        """For pipelines."""
        return {
            "name": self.adapter.name,
            "state": "Updating" if self.state == "Missing" and self.former else self.state,
            "message": self.message,
            "commit": self.commit,
        }


def unsupported(wanted: Sequence[adapter_files.Adapter]) -> list[dict[str, Any]]:
    """What an engine says that was started without support of adapters."""
    message = "the engine runs without `enable_lora: true`"
    return [
        {"name": each.name, "state": "Refused", "message": message, "commit": each.commit} for each in wanted
    ]


class Adapters:
    """See above.

    Args:
        loop: the event loop that owns it.
        engine: loads and removes them.
        weights: root of the weights volume.
        model: directory of the model.
        again_seconds: how often missing files are looked for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: backend.Backend,
        weights: Path,
        model: Path,
        *,
        again_seconds: float = _AGAIN_SECONDS,
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._weights = weights
        self._model = model
        self._again_seconds = again_seconds
        self._ids = itertools.count(1)
        self._known: dict[adapter_files.Adapter, Loaded] = {}
        self._wanted: dict[object, dict[str, Loaded]] = {}
        self._told: dict[object, Callable[[list[dict[str, Any]]], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # The engine loads one after another anyway.
        self._turn = asyncio.Lock()

    def want(
        self,
        owner: object,
        wanted: Sequence[adapter_files.Adapter],
        tell: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        """Takes note of all adapters that a pipeline process wants.

        Args:
            owner: the process.
            wanted: with unique names.
            tell: called at once and after each change with how they are, in this order; see `Loaded.described`.
        """
        before = self._wanted.get(owner, {})
        self._wanted[owner] = {adapter.name: self._get(adapter) for adapter in wanted}
        self._told[owner] = tell
        for loaded in self._wanted[owner].values():
            loaded.owners.add(owner)
        for loaded in before.values():
            if loaded not in self._wanted[owner].values():
                self._disown(loaded, owner)
        self._tell(owner)

    def forget(self, owner: object) -> None:
        """Takes note that a pipeline process is gone."""
        self._told.pop(owner, None)
        for loaded in self._wanted.pop(owner, {}).values():
            self._disown(loaded, owner)

    def use(self, owner: object, name: str) -> Loaded:
        """Keeps an adapter for a request, until `release`.

        Args:
            owner: the pipeline process that sent the request.
            name: of one of its adapters.

        Raises:
            RequestError: `model_not_found`.
        """
        if owner in self._wanted:
            loaded = self._wanted[owner].get(name)
        else:
            # A client that calls the engine itself has what the newest pipeline has.
            every = reversed(self._wanted.values())
            loaded = next((wanted[name] for wanted in every if name in wanted), None)
        if loaded is None:
            raise errors.RequestError("model_not_found", "lora_name", f"there is no adapter `{name}`")
        if loaded.state == "Missing" and loaded.former:
            loaded = loaded.former
        loaded.users += 1
        return loaded

    def release(self, loaded: Loaded) -> None:
        """Takes note that a request does not use an adapter any more."""
        loaded.users -= 1
        self._remove_unused(loaded)

    async def close(self) -> None:
        """Ends what is going on; the engine is closed next."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _get(self, adapter: adapter_files.Adapter) -> Loaded:
        loaded = next((each for each in self._known.values() if each.serves(adapter)), None)
        if loaded is None:
            loaded = Loaded(adapter, next(self._ids), self._loop.create_future())
            former = next((each for each in self._known.values() if _precedes(each, adapter)), None)
            if former is not None:
                former.users += 1
                loaded.former = former
            self._known[adapter] = loaded
            task = self._loop.create_task(self._run(loaded))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return loaded

    def _disown(self, loaded: Loaded, owner: object) -> None:
        loaded.owners.discard(owner)
        self._remove_unused(loaded)

    def _remove_unused(self, loaded: Loaded) -> None:
        if loaded.owners or loaded.users or self._known.get(loaded.adapter) is not loaded:
            return
        # Who wants it again gets a new one.
        del self._known[loaded.adapter]
        loaded.unused.set()
        self._drop_former(loaded)

    def _drop_former(self, loaded: Loaded) -> None:
        former, loaded.former = loaded.former, None
        if former is not None:
            self.release(former)

    async def _run(self, loaded: Loaded) -> None:
        """The life of an adapter in the engine."""
        with contextlib.ExitStack() as held:
            while not await self._load(loaded, held):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(loaded.unused.wait(), self._again_seconds)
                    return
            await loaded.unused.wait()
            if loaded.state == "Ready":
                await self._remove(loaded)

    async def _load(self, loaded: Loaded, held: contextlib.ExitStack) -> bool:
        """Loads an adapter; returns whether there is nothing left to try."""
        name = loaded.adapter.name
        try:
            found = await asyncio.to_thread(adapter_files.locate, loaded.adapter, self._weights)
            held.enter_context(lock.in_use(found.directory))
            loaded.commit = found.commit
            await asyncio.to_thread(adapter_files.check, found.directory, self._model)
            async with self._turn:
                await self._engine.add_adapter(loaded.id, name, str(found.directory))
        except adapter_files.Missing as error:
            self._set(loaded, "Missing", str(error))
            return False
        except (adapter_files.Refused, backend.AdapterRefused) as error:
            self._set(loaded, "Refused", str(error))
        except Exception as error:
            log.exception("the adapter %s could not be loaded", name)
            self._set(loaded, "Refused", f"it could not be loaded: {error!r}")
        else:
            self._set(loaded, "Ready", "")
        return True

    async def _remove(self, loaded: Loaded) -> None:
        try:
            await self._engine.remove_adapter(loaded.id)
        except Exception:
            # Where the engine is dead, the next one starts without it.
            log.exception("the adapter %s could not be removed", loaded.adapter.name)
        else:
            log.info("the adapter %s is removed", loaded.adapter.name)

    def _set(self, loaded: Loaded, state: State, message: str) -> None:
        if (loaded.state, loaded.message) == (state, message):
            return
        loaded.state, loaded.message = state, message
        if state != "Missing":
            self._drop_former(loaded)
        if not loaded.settled.done():
            loaded.settled.set_result(None)
        log.log(
            logging.INFO if state == "Ready" else logging.ERROR,
            "the adapter %s is %s%s",
            loaded.adapter.name,
            state.lower(),
            f": {message}" if message else "",
        )
        for owner in loaded.owners:
            self._tell(owner)

    def _tell(self, owner: object) -> None:
        self._told[owner]([loaded.described() for loaded in self._wanted[owner].values()])


def _precedes(loaded: Loaded, adapter: adapter_files.Adapter) -> bool:
    return loaded.adapter.name == adapter.name and loaded.state == "Ready"
