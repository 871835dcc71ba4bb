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
    engine = endpoint.spec.engine
    wanted = selection.Wanted(
        allow_pickle=model.allow_pickle,
        remote_code=model.trust_remote_code,
        layout=engine.definition.weights_layout(engine.args),
    )
    requested = endpoint.resolved is not None and endpoint.resolved.request is not None
    return sync.Source(model.repo, model.revision, wanted, endpoint.commit, refresh=requested)


def adapter_source(endpoint: api.LLMEndpoint, adapter: api.Adapter) -> sync.Source | None:
    """Which adapter of the Hub an endpoint wants; None if it is not from there."""
    if adapter.repo is None:
        return None
    wanted = selection.Wanted(adapter=True)
    return sync.Source(adapter.repo, adapter.revision, wanted, endpoint.adapter_commit(adapter))


def sources(endpoint: api.LLMEndpoint) -> list[sync.Source]:
    """All that an endpoint wants from the Hub: its weights and its adapters."""
    found = [source(endpoint), *(adapter_source(endpoint, adapter) for adapter in endpoint.spec.adapters)]
    return [each for each in found if each is not None]


def directories(endpoint: api.LLMEndpoint, root: str) -> list[Path]:
    """Where all that is: the directories of its weights and its adapters, as far as they are known, and those of `_named`."""
    found = [
        endpoint.directory(root),
        *(endpoint.adapter_directory(adapter, root) for adapter in endpoint.spec.adapters),
    ]
    return [*(Path(directory) for directory in found if directory is not None), *_named(endpoint, root)]


def paths(endpoint: api.LLMEndpoint, root: str) -> list[Path]:
    """Those of the directories that do not come from the Hub."""
    own = endpoint.directory(root) if source(endpoint) is None else None
    others = [
        endpoint.adapter_directory(each, root) for each in endpoint.spec.adapters if each.path is not None
    ]
    return [
        *(Path(directory) for directory in (own, *others) if directory is not None),
        *_named(endpoint, root),
    ]


def _named(endpoint: api.LLMEndpoint, root: str) -> list[Path]:
    """The directories of the weights volume that arguments of the engine name, such as that of a draft model."""
    engine = endpoint.spec.engine
    named = map(Path, engine.definition.directories(engine.args))
    return [directory for directory in named if directory.is_relative_to(root)]


def pinned(cache: layout.Cache, endpoints: Iterable[api.LLMEndpoint]) -> list[api.LLMEndpoint]:
    """The endpoints, each with the commits that this cache has for its revisions, where it has some.

    So the directories of its weights and adapters are known, and rendering stays pure.
    """
    found: list[api.LLMEndpoint] = []
    for endpoint in endpoints:
        wants = source(endpoint)
        commit = wants and (wants.commit or cache.recorded(wants.repo, wants.revision))
        with_commit = endpoint.at(commit) if commit else endpoint
        commits = {
            adapter.name: known
            for adapter in endpoint.spec.adapters
            if (asked := adapter_source(endpoint, adapter)) is not None
            and (known := asked.commit or cache.recorded(asked.repo, asked.revision)) is not None
        }
        found.append(with_commit.with_adapters_at(commits) if commits else with_commit)
    return found


def missing_adapters(cache: layout.Cache, endpoint: api.LLMEndpoint) -> list[str]:
    """Names of an endpoint's adapters that come from the Hub and are not complete."""
    wanted = {adapter.name: adapter_source(endpoint, adapter) for adapter in endpoint.spec.adapters}
    return [name for name, asked in wanted.items() if asked is not None and sync.find(cache, asked) is None]


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
    if not found.has_layout(wants.wanted):
        return f"{directory} lacks the weights that the endpoint's `load_format` reads"
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
            for directory in directories(endpoint, root):
                if directory.is_dir():
                    held.enter_context(lock.in_use(directory))
                    marker.touch(directory)
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
        A result for each endpoint, in their order, followed by one for each of its adapters.
    """
    everything = [wants for endpoint in endpoints for wants in sources(endpoint)]
    synced: dict[sync.Source, sync.Published | report.Problem] = {}
    results: list[report.Result] = []

    def take(result: report.Result, wants: sync.Source | None) -> None:
        if wants is not None:
            outcome = _brought(cache, wants, everything, synced, options, bug)
            result = dataclasses.replace(
                result,
                repo=wants.repo,
                published=outcome if isinstance(outcome, sync.Published) else None,
                problem=outcome if isinstance(outcome, report.Problem) else None,
            )
        results.append(result)
        done(result)

    for endpoint in endpoints:
        wants = source(endpoint)
        take(report.Result(endpoint.name, note="" if wants else _nothing(endpoint)), wants)
        for adapter in endpoint.spec.adapters:
            note = "" if adapter.repo else f"it is at {adapter.path}, so there is nothing to download"
            result = report.Result(endpoint.name, adapter=adapter.name, revision=adapter.revision, note=note)
            take(result, adapter_source(endpoint, adapter))
    return results


def _brought(
    cache: layout.Cache,
    wants: sync.Source,
    everything: Sequence[sync.Source],
    synced: dict[sync.Source, sync.Published | report.Problem],
    options: sync.Options,
    bug: Callable[[Exception], None],
) -> sync.Published | report.Problem:
    """What became of one source; what several want is in `synced` once."""
    shared = _joined(wants, everything)
    if shared not in synced:
        synced[shared] = _guarded(lambda: sync.sync(cache, shared, options), bug)
    outcome = synced[shared]
    if isinstance(outcome, sync.Published):
        published = outcome
        outcome = _guarded(lambda: _allowed(wants, published), bug)
    return outcome


def _nothing(endpoint: api.LLMEndpoint) -> str:
    model = endpoint.spec.model
    if model is None:
        return f"the {endpoint.spec.engine.type} engine needs no weights"
    if model.image is not None:
        return f"its weights are in the image {model.image}, so there is nothing to download"
    return f"its weights are at spec.model.path {model.path}, so there is nothing to download"


def _joined(wants: sync.Source, others: Iterable[sync.Source]) -> sync.Source:
    """The same weights with all that anybody allows of them."""
    place = (wants.repo, wants.revision, wants.commit, wants.wanted.adapter)
    together = wants.wanted
    for other in others:
        if (other.repo, other.revision, other.commit, other.wanted.adapter) == place:
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
