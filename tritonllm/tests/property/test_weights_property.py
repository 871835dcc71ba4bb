"""Whatever goes wrong and however often: every byte is right, or nothing is published and the reason has a name."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

import hub_faults
import hub_server
import weights_files
from integration import syncing
from tritonllm.weights import failures

VERSIONS = [weights_files.model(60_000, shards=2), weights_files.model(40_000, shards=3)]
WRITES: list[dict[str, bytes]] = [weights_files.needed(files) for files in VERSIONS]

PATTERNS = ["*/revision/*", "*/tree/*", "*/resolve/*", "*.safetensors", "*/model-00001*", "*.json", "*"]
faults: st.SearchStrategy[hub_server.Fault] = st.one_of(
    st.builds(hub_faults.cut, st.integers(0, 50_000), st.booleans()),
    st.sampled_from([429, 500, 503, 403, 404, 416]).map(hub_faults.status),
    st.integers(-70_000, 70_000).map(hub_faults.wrong_length),
    st.sampled_from(
        [hub_faults.wrong_bytes, hub_faults.no_range, hub_faults.other_range, hub_faults.portal, None]
    ).map(lambda fault: fault or (lambda answer: None)),
    st.sampled_from(["GatedRepo", "RepoNotFound", "RevisionNotFound", "EntryNotFound"]).map(
        lambda code: hub_faults.status(404, X_Error_Code=code)
    ),
)
breaks = st.tuples(st.sampled_from(PATTERNS), faults, st.integers(1, 4))


def broken(
    one: tuple[str, hub_server.Fault, int],
) -> Callable[[syncing.Setup], None]:
    return lambda setup: setup.server.fault(*one)


def moved(version: int) -> Callable[[syncing.Setup], None]:
    def move(setup: syncing.Setup) -> None:
        setup.server.add(syncing.REPO, VERSIONS[version])

    return move


def run(refresh: bool) -> Callable[[syncing.Setup], None]:
    def sync(setup: syncing.Setup) -> None:
        before = {place.commit for place in setup.cache.published()}
        try:
            published = setup.sync(refresh=refresh, max_wait_seconds=0.1)
        except failures.ALL:
            assert {place.commit for place in setup.cache.published()} == before
        else:
            assert syncing.content(published.directory) in WRITES
            assert setup.find() == published or published.downloaded
        assert all(syncing.content(place.directory) in WRITES for place in setup.cache.published())

    return sync


steps = st.one_of(
    breaks.map(broken), breaks.map(broken), st.sampled_from([0, 1]).map(moved), st.booleans().map(run)
)


@settings(deadline=None, max_examples=50)
@given(st.lists(steps, min_size=1, max_size=10))
def test_every_byte_is_right_or_nothing_is_published(chosen: list[Callable[[syncing.Setup], None]]) -> None:
    with syncing.running() as setup:
        setup.server.add(syncing.REPO, VERSIONS[0])
        for step in [*chosen, run(refresh=False)]:
            step(setup)
        setup.server.heal()
        published = setup.sync(refresh=True)
        assert syncing.content(published.directory) in WRITES
        # A commit that the branch has left is gone on with when it is asked for.
        assert not any(published.commit in name for name in setup.leftovers())
