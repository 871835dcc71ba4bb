"""What the pods of each revision boot from: endpoints as text and back, and which of them differ. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from tritonllm import api, files
from tritonllm.render import canonical, config
from tritonllm_operator import adapters, memo
from tritonllm_operator.facts import Pod
from tritonllm_operator.objects import Resource

Endpoints = Mapping[str, api.LLMEndpoint]
"""By name."""


def text(
    endpoints: Iterable[api.LLMEndpoint],
    needed: Iterable[str] = (),
    unreadable: Mapping[str, Resource] = MappingProxyType({}),
) -> str:
    """The file of a revision: the same endpoints give the same bytes.

    A pod is not ready without those that are `needed`; what a newer version has written (`unreadable`) stays as it is.
    """
    items = [*resources(endpoints), *(item for _, item in sorted(unreadable.items()))]
    found: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": items}
    if names := ",".join(sorted(needed)):
        found["metadata"] = {"annotations": {files.NEEDED: names}}
    return canonical.dumps(found)


def resources(endpoints: Iterable[api.LLMEndpoint]) -> list[Resource]:
    """The endpoints as a file has them, by name."""
    return [resource(endpoint) for endpoint in sorted(endpoints, key=lambda item: item.name)]


@memo.once
def size(endpoint: api.LLMEndpoint) -> int:
    """How many bytes an endpoint takes in a file."""
    return len(canonical.dumps(resource(endpoint)).encode()) + 1


@memo.once
def resource(endpoint: api.LLMEndpoint) -> Resource:
    """An endpoint as the file has it: what its owner wrote, and the commit."""
    found = {
        "apiVersion": endpoint.api_version,
        "kind": endpoint.kind,
        "metadata": {"name": endpoint.name},
        "spec": endpoint.spec.given() | {"guardrails": endpoint.spec.guardrails.given()},
    }
    # The operator's business, and unknown to the images of earlier versions.
    found["spec"].pop("benchmark", None)
    if endpoint.resolved is not None:
        found["resolved"] = endpoint.resolved.given()
    return found


def endpoints(items: Iterable[Resource]) -> dict[str, api.LLMEndpoint]:
    """Reads a file's endpoints, but for what this version can't read; `unreadable` says what that is."""
    found = (files.resource(item, deep=False, config_maps={})[0] for item in items)
    return {endpoint.name: endpoint for endpoint in found if endpoint is not None}


def unreadable(items: Iterable[Resource], read: Container[str]) -> dict[str, Resource]:
    """The entries of a file that this version has not read, by name: a newer version may have written them."""
    return {name: item for item in items if (name := files.name_of(item)) and name not in read}


def shared(found: Endpoints, known: Endpoints) -> dict[str, api.LLMEndpoint]:
    """The same endpoints, each the known object where that says the same: what is computed from it, is then once."""
    return {
        name: known[name] if name in known and resource(known[name]) == resource(endpoint) else endpoint
        for name, endpoint in found.items()
    }


@memo.once
def hashes(endpoint: api.LLMEndpoint) -> Mapping[str, str]:
    """`spec_hash` of each of the endpoint's models, engine first."""
    return {model.name: model.parameters["spec_hash"].string_value for model in config.models(endpoint)}


def engine_hash(endpoint: api.LLMEndpoint) -> str:
    """`spec_hash` of the engine: what can't be changed on a running pod."""
    return hashes(endpoint)[endpoint.engine_name]


def policy_hash(endpoint: api.LLMEndpoint) -> str:
    """`spec_hash` of the pipeline: of the policy, and all else that can be changed on a running pod."""
    return hashes(endpoint)[endpoint.name]


def holds(pod: Pod, endpoint: api.LLMEndpoint) -> bool:
    """Whether a pod has all models of an endpoint ready in this version."""
    return all(
        (state := pod.model(model)).ready and state.spec_hash == wanted
        for model, wanted in hashes(endpoint).items()
    )


def model_config(endpoint: api.LLMEndpoint, name: str) -> str:
    """The complete configuration of one of the endpoint's models, as Triton takes it with a load."""
    model = next(model for model in config.models(endpoint) if model.name == name)
    return json_format.MessageToJson(model, preserving_proto_field_name=True, indent=None)


def name(wanted: Endpoints, before: str) -> str:
    """What a revision with these engines is called.

    Without the revision before it, an endpoint that was removed in place and comes back would give the pods the name that
    they have already, and they would not be rolled.
    """
    engines = sorted(
        (item.name, engine_hash(item), *filter(None, [_request(item)])) for item in wanted.values()
    )
    return hashlib.sha256(canonical.dumps([before, engines]).encode()).hexdigest()[:10]


def new_engines(wanted: Endpoints, running: Endpoints) -> list[str]:
    """Endpoints that running pods can't be changed to, because their engine is new or another, sorted."""
    return sorted(
        name
        for name, endpoint in wanted.items()
        if name not in running or not same_engine(endpoint, running[name])
    )


def same_engine(one: api.LLMEndpoint, other: api.LLMEndpoint) -> bool:
    """Whether two versions of an endpoint have the same engine, with weights that were resolved by the same request."""
    return engine_hash(one) == engine_hash(other) and _request(one) == _request(other)


def requested(endpoint: api.LLMEndpoint, value: str | None, known: api.LLMEndpoint | None) -> api.LLMEndpoint:
    """The endpoint with the request of its author to resolve the revision of its weights again.

    Without a value of the annotation `names.RESOLVE`, the request of the version that the pods boot from holds: taking it
    away resolves nothing.
    """
    if _weights(endpoint) is None or endpoint.commit is not None:
        return endpoint
    request = hashlib.sha256(value.encode()).hexdigest()[:10] if value else known and _request(known)
    return endpoint.requested(request) if request else endpoint


def in_place(running: Endpoints, wanted: Endpoints) -> dict[str, api.LLMEndpoint]:
    """What pods of a revision hold once all that can be changed in place is changed.

    These are the endpoints that are still wanted, each with its old engine and weights and everything else as wanted. New
    endpoints are for a revision of their own, and so are rules that ask a new classifier.
    """
    return {
        name: old if wanted[name].classifiers.keys() - running.keys() else _in_place(old, wanted[name])
        for name, old in running.items()
        if name in wanted
    }


def _in_place(old: api.LLMEndpoint, new: api.LLMEndpoint) -> api.LLMEndpoint:
    if same_engine(old, new):
        return with_commit(new, old)
    kept = {"engine": old.spec.engine, "model": old.spec.model, "adapters": old.spec.adapters}
    return old.model_copy(update={"spec": new.spec.model_copy(update=kept)})


def with_commit(new: api.LLMEndpoint, known: api.LLMEndpoint | None) -> api.LLMEndpoint:
    """The endpoint at the commit that the same or an earlier version knows, so that the Hub is not asked again."""
    new = adapters.with_commits(new, known)
    commit = known and resolved(known)
    if resolved(new) or known is None or not commit:
        return new
    return new.at(commit) if _weights(new) == _weights(known) else new


def resolved(endpoint: api.LLMEndpoint) -> str | None:
    """The commit of its weights that a download has told; None before."""
    return endpoint.resolved and endpoint.resolved.commit


def _weights(endpoint: api.LLMEndpoint) -> tuple[str, str, str | None] | None:
    model = endpoint.spec.model
    return (model.repo, model.revision, _request(endpoint)) if model and model.repo else None


def _request(endpoint: api.LLMEndpoint) -> str | None:
    return endpoint.resolved and endpoint.resolved.request


def wants_download(endpoint: api.LLMEndpoint) -> bool:
    """Whether the endpoint's weights come from the Hub and no pod or Job has reported yet that they are there."""
    return _weights(endpoint) is not None and resolved(endpoint) is None
