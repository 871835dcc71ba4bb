"""What the ConfigMap of a pool says of each revision of the pods, and how far it is believed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tritonllm import api, files
from tritonllm_operator import accept, adapters, names, pools, revisions
from tritonllm_operator.facts import Pod, World
from tritonllm_operator.objects import Resource
from tritonllm_operator.pools import Pool
from tritonllm_operator.revisions import Endpoints


def kept(world: World) -> dict[str, dict[str, api.LLMEndpoint]]:
    """The endpoints of each revision, with the commits that pods and Jobs have reported since."""
    found: dict[str, dict[str, api.LLMEndpoint]] = {}
    for revision, items in (world.files.revisions if world.files else {}).items():
        reports = [seen.weights for seen in (*world.pods, *world.jobs) if seen.revision == revision]
        found[revision] = {
            name: adapters.reported(
                _reported(endpoint, [report.get(name, {}) for report in reports]), reports
            )
            for name, endpoint in revisions.endpoints(items).items()
        }
    return found


def foreign(world: World, kept: Mapping[str, Endpoints]) -> dict[str, dict[str, Resource]]:
    """The entries of each revision that this version can't read; a newer one may have written them."""
    return {
        revision: found
        for revision, items in (world.files.revisions if world.files else {}).items()
        if (found := revisions.unreadable(items, kept[revision]))
    }


def complete(
    world: World,
    pool: Pool,
    wanted: Endpoints,
    kept: Mapping[str, Endpoints],
    foreign: Mapping[str, Mapping[str, Resource]],
) -> dict[str, dict[str, api.LLMEndpoint]]:
    """The endpoints of each revision that there is: as the pods hold them, where the ConfigMap does not say.

    The entries that are `foreign` can't be compared here, so what the pods hold of them counts, too.
    """
    found = {revision: revisions.shared(endpoints, wanted) for revision, endpoints in kept.items()}
    for revision, entries in foreign.items():
        held = _held(wanted, world.pods, revision)
        found[revision] |= {name: held[name] for name in entries.keys() & held.keys()}
    for revision in {pool.revision, *(pod.revision for pod in world.pods)} - found.keys():
        found[revision] = _held(wanted, world.pods, revision)
    return found


def _held(wanted: Endpoints, pods: Sequence[Pod], revision: str) -> dict[str, api.LLMEndpoint]:
    """What the pods of a revision boot from where its file is not there: new pods all, others what they hold."""
    held = [pod.models for pod in pods if pod.revision == revision and pod.started and pod.models is not None]
    if not held:
        return dict(wanted)
    engines = {model: state.spec_hash for models in held for model, state in models.items()}
    return {
        name: endpoint
        for name, endpoint in wanted.items()
        if engines.get(endpoint.engine_name) == revisions.engine_hash(endpoint)
    }


def restore(
    world: World,
    judged: Sequence[accept.Judged],
    kept: Mapping[str, dict[str, api.LLMEndpoint]],
    foreign: Mapping[str, Mapping[str, Resource]],
) -> set[tuple[str, str]]:
    """Puts back what was accepted of endpoints whose present version is not, where the ConfigMap says something else.

    Anybody may have edited the ConfigMap. What was accepted is known by its hash in `status`, which the operator alone
    writes; the text comes from the ConfigMap as it was before. `kept` is corrected here.

    Returns:
        Revision and name of what is not as it was accepted and can't be put back: no pod is changed to it.
    """
    doubtful: set[tuple[str, str]] = set()
    for item in judged:
        if item.endpoint is not None and not item.rehearsal:
            continue
        accepted = (item.resource.get("status") or {}).get("policyHash")
        for revision, endpoints in kept.items():
            found = endpoints.get(item.name)
            if found is None:
                if item.name not in foreign.get(revision, {}):
                    continue
            elif found.is_classifier or revisions.policy_hash(found) == accepted:
                continue
            before = world.recorded.revisions.get(revision, ()) if world.recorded else ()
            texts = [each for each in before if files.name_of(each) == item.name]
            former = revisions.endpoints(texts).get(item.name)
            if former is not None and not former.is_classifier and revisions.policy_hash(former) == accepted:
                endpoints[item.name] = former
            else:
                doubtful.add((revision, item.name))
    return doubtful


def data(
    before: pools.Files | None,
    wanted: Mapping[str, Endpoints],
    needed: Mapping[str, frozenset[str]],
    marks: Mapping[str, str],
    unreadable: Mapping[str, Mapping[str, Resource]],
) -> dict[str, str] | None:
    """The ConfigMap's content, where what is there means something else."""
    if (
        before is not None
        and before.revisions.keys() == wanted.keys()
        and (before.needed, before.marks) == (needed, marks)
        and all(
            _means(before.revisions[revision], endpoints, unreadable[revision])
            for revision, endpoints in wanted.items()
        )
    ):
        return None
    return {
        names.key(revision): revisions.text(
            endpoints.values(), needed.get(revision, ()), unreadable[revision]
        )
        for revision, endpoints in wanted.items()
    }


def _means(items: Sequence[Resource], endpoints: Endpoints, unreadable: Mapping[str, Resource]) -> bool:
    """Whether a file says this, in whatever words: those of another version of the operator may differ."""
    wanted = revisions.resources(endpoints.values())
    if len(items) != len(wanted) + len(unreadable):
        return False
    if items == wanted:
        return True
    read = revisions.endpoints(items)
    return revisions.resources(read.values()) == wanted and revisions.unreadable(items, read) == unreadable


def _reported(endpoint: api.LLMEndpoint, reports: Sequence[Mapping[str, str]]) -> api.LLMEndpoint:
    commit = next((report["commit"] for report in reports if "commit" in report), None)
    return endpoint if commit is None or revisions.resolved(endpoint) else endpoint.at(commit)
