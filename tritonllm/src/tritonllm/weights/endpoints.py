"""What endpoints want from a cache of weights: which source each means, where it is, and all of them brought here.

Used by `serve`, which starts engines on published directories, and by `tritonllm weights sync`, which makes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tritonllm.weights import failures, layout, lock, marker, report, selection, sync

if TYPE_CHECKING:
    from tritonllm import api


def source(endpoint: api.LLMEndpoint) -> sync.Source | None:
    """Which weights of the Hub an endpoint wants; None where it wants none."""
    model = endpoint.spec.model
    if model is None or model.repo is None:
        return None
    wanted = selection.Wanted(allow_pickle=model.allow_pickle, remote_code=model.trust_remote_code)
    return sync.Source(model.repo, model.revision, wanted, endpoint.commit)


def pinned(cache: layout.Cache, endpoints: Iterable[api.LLMEndpoint]) -> list[api.LLMEndpoint]:
    """The endpoints, each with the commit that this cache has for its revision, where it has one.

    So the directory of its weights is known, and rendering stays pure.
    """
    found: list[api.LLMEndpoint] = []
    for endpoint in endpoints:
        wants = source(endpoint)
        commit = wants and (wants.commit or cache.recorded(wants.repo, wants.revision))
        found.append(endpoint.at(commit) if commit else endpoint)
    return found


def missing(cache: layout.Cache, endpoint: api.LLMEndpoint) -> str | None:
    """What keeps an endpoint's weights from being served, in words; None where nothing does."""
    wants = source(endpoint)
    if wants is None or sync.find(cache, wants) is not None:
        return None
    commit = wants.commit or cache.recorded(wants.repo, wants.revision)
    if commit is None:
        return f"there are no weights of {wants.repo} at {wants.revision} in {cache.root}"
    snapshot = cache.snapshot(wants.repo, commit)
    directory, found = snapshot.directory, marker.of(snapshot, snapshot.directory)
    if found is None:
        return f"the weights of {wants.repo} in {directory} are not complete"
    if found.format != "safetensors" and not wants.wanted.allow_pickle:
        return f"{directory} has weights that can run code when they are loaded, and `allowPickle` is not set"
    return f"{directory} lacks the Python files that `trustRemoteCode` asks for"


@contextlib.contextmanager
def in_use(endpoints: Iterable[api.LLMEndpoint], root: str) -> Iterator[None]:
    """Keeps the weights of endpoints from being cleaned up while they are served, and notes that they were used.

    Args:
        endpoints: that are served.
        root: of the weights.
    """
    with contextlib.ExitStack() as held:
        for endpoint in endpoints:
            directory = endpoint.directory(root)
            if directory is not None and Path(directory).is_dir():
                held.enter_context(lock.in_use(Path(directory)))
                marker.touch(Path(directory))
        yield


def bring(
    cache: layout.Cache,
    endpoints: Sequence[api.LLMEndpoint],
    options: sync.Options,
    *,
    done: Callable[[report.Result], None] = lambda result: None,
    bug: Callable[[Exception], None] = lambda error: None,
) -> list[report.Result]:
    """Makes the weights of several endpoints complete. One that fails does not stop the others.

    What several of them want is downloaded once, with all that they allow together; what an endpoint does not allow
    it does not get.

    Args:
        cache: where the weights shall be.
        endpoints: who wants them.
        options: how to get them.
        done: told of each result as soon as it is there.
        bug: told of what should never happen, while it is handled.

    Returns:
        One result for each endpoint, in their order.
    """
    sources = {endpoint.name: source(endpoint) for endpoint in endpoints}
    synced: dict[sync.Source, sync.Published | report.Problem] = {}
    results: list[report.Result] = []
    for endpoint in endpoints:
        wants = sources[endpoint.name]
        if wants is None:
            result = report.Result(endpoint.name, note=_nothing(endpoint))
        else:
            shared = _joined(wants, sources.values())
            if shared not in synced:
                synced[shared] = _guarded(lambda s=shared: sync.sync(cache, s, options), bug)
            outcome = synced[shared]
            if isinstance(outcome, sync.Published):
                outcome = _guarded(lambda w=wants, o=outcome: _allowed(w, o), bug)
            result = report.Result(
                endpoint.name,
                wants.repo,
                published=outcome if isinstance(outcome, sync.Published) else None,
                problem=outcome if isinstance(outcome, report.Problem) else None,
            )
        results.append(result)
        done(result)
    return results


def _nothing(endpoint: api.LLMEndpoint) -> str:
    model = endpoint.spec.model
    if model is None:
        return f"the {endpoint.spec.engine.type} engine needs no weights"
    if model.image is not None:
        return f"its weights are in the image {model.image}, so there is nothing to download"
    return f"its weights are at spec.model.path {model.path}, so there is nothing to download"


def _joined(wants: sync.Source, others: Iterable[sync.Source | None]) -> sync.Source:
    """The same weights with all that anybody allows of them."""
    place = (wants.repo, wants.revision, wants.commit)
    together = wants.wanted
    for other in others:
        if other is not None and (other.repo, other.revision, other.commit) == place:
            together = together.joined(other.wanted)
    return dataclasses.replace(wants, wanted=together)


def _allowed(wants: sync.Source, published: sync.Published) -> sync.Published:
    """What was published, if this endpoint allows all of it.

    Raises:
        NoSafetensors: another endpoint allowed what this one does not.
    """
    found = marker.read(published.directory)
    if found is not None and not found.serves(wants.wanted):
        files = [selection.RemoteFile(file.path, file.size, "") for file in found.files]
        selection.select(files, wants.wanted, wants.repo)
    return published


def _guarded(
    attempt: Callable[[], sync.Published], bug: Callable[[Exception], None]
) -> sync.Published | report.Problem:
    try:
        return attempt()
    except failures.Failure as failure:
        return report.Problem(failure.reason, str(failure), failure.exit_code)
    except Exception as error:
        bug(error)
        return report.internal(error)
