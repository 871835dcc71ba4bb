"""What happens to each endpoint, as its status and `tritonllm plan` show it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonllm import api
from tritonllm_operator import accept, revisions
from tritonllm_operator.loads import Load, Unload
from tritonllm_operator.pools import Pool


@dataclass(frozen=True)
class Decision:
    """What happens to one endpoint; `status.plan` shows it before it is done.

    Attributes:
        action: None, InPlace, Roll or Reject.
        models: that are loaded or unloaded.
        message: why, where it needs a word.
        disruptive: no pod of the pool serves for a while.
    """

    action: str = "None"
    models: tuple[str, ...] = ()
    message: str = ""
    disruptive: bool = False


def decision(
    item: accept.Judged,
    pool: Pool | None = None,
    running: revisions.Endpoints | None = None,
    steps: Sequence[Load | Unload] = (),
) -> Decision:
    """What happens to an endpoint, with what the pods boot from; None where they have not begun to."""
    if item.endpoint is None or pool is None:
        return Decision("Reject", message=item.refusal.message if item.refusal else "")
    # What its owner wants, which a rehearsal does not do.
    endpoint = item.endpoint
    hashes = revisions.hashes(endpoint)
    word = "only shown, nothing is done" if item.rehearsal else ""
    if running is None:
        return Decision(message=word or "the pool's pods will start with it")
    if why := _why_roll(endpoint, running):
        return Decision("Roll", tuple(hashes), "; ".join(filter(None, (why, word))), pool.roll_is_downtime)
    before = revisions.hashes(running[item.name])
    changed = [model for model in hashes if hashes[model] != before[model]]
    repaired = [] if item.rehearsal else [step.model for step in steps if step.model in hashes]
    models = tuple(sorted({*changed, *repaired}))
    if models:
        return Decision("InPlace", models, word or ("" if changed else "pods had something else loaded"))
    return Decision(message=word)


def _why_roll(endpoint: api.LLMEndpoint, running: revisions.Endpoints) -> str:
    """Why running pods can't be changed to it; empty where they can."""
    before = running.get(endpoint.name)
    if before is None:
        return "its engine is new"
    if new := sorted(endpoint.classifiers.keys() - running.keys()):
        return f"its rules ask {', '.join(new)}, which is new"
    if revisions.engine_hash(endpoint) != revisions.engine_hash(before):
        return "its engine is changed"
    return "" if revisions.same_engine(endpoint, before) else "spec.model.revision is resolved again"
