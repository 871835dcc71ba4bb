"""Adapters in a pool: changed in place, downloaded beside running pods, and told one by one."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import worlds
from tritonllm import api
from tritonllm_operator import facts, names, plan, status

SQL = {"name": "sql", "repo": "acme/sql"}
LEGAL = {"name": "legal", "path": "legal"}
TOLD = {"commit": "a" * 40, "source": "acme/sql@main"}
DOWNLOADS = {"downloads": True, "shared_weights": True}


def chat(*listed: Mapping[str, str], commits: Mapping[str, str] | None = None) -> dict[str, Any]:
    found = worlds.vllm(commit=worlds.COMMIT, enable_lora=True, max_cpu_loras=4)
    resolved = found["resolved"] | ({"adapters": dict(commits)} if commits else {})
    return found | {"spec": found["spec"] | {"adapters": list(listed)}, "resolved": resolved}


def edited(before: dict[str, Any], after: dict[str, Any], **more: Any) -> facts.World:
    """A pool that serves an endpoint whose adapters have been changed."""
    wanted = {key: value for key, value in after.items() if key != "resolved"}
    return replace(worlds.stable(before, **DOWNLOADS), endpoints=[wanted], **more)


def job(
    *, finished: datetime.timedelta | None = datetime.timedelta(0), **told: Mapping[str, str]
) -> facts.Job:
    over = None if finished is None else worlds.NOW - finished
    weights = {name.replace("_", ":"): entry for name, entry in told.items()}
    return facts.Job("", None if finished is None else True, over, weights)


def test_an_edit_of_adapters_changes_the_pipeline_in_place_and_starts_their_download() -> None:
    decided = plan.decide(edited(chat(), chat(SQL)))
    assert worlds.actions(decided) == {"chat": "InPlace"}
    assert worlds.steps(decided) == {("load", "llm-1", "chat")}
    assert decided.aim.start_job == ""
    assert decided.acts
    assert decided.aim.revision is None
    # The Job reads the file that is written before it is started.
    assert decided.data is not None
    assert "acme/sql" in decided.data[names.key("")]
    assert names.sync_job("llm", "") == "llm-sync-first"


def test_an_adapter_at_a_commit_is_downloaded_like_any_other() -> None:
    pinned = SQL | {"revision": "c" * 40}
    assert plan.decide(edited(chat(), chat(pinned))).aim.start_job == ""


def test_what_needs_no_download_starts_none() -> None:
    assert plan.decide(edited(chat(), chat(LEGAL))).aim.start_job is None
    alone = edited(chat(), chat(SQL))
    assert alone.pool is not None
    unshared = replace(alone, pool=replace(alone.pool, shared_weights=False))
    assert plan.decide(unshared).aim.start_job is None


def test_a_download_that_goes_on_is_waited_for_and_its_result_is_written_down() -> None:
    going = plan.decide(edited(chat(SQL), chat(SQL), jobs=[job(finished=None)]))
    assert (going.aim.start_job, going.aim.delete_jobs) == (None, ())
    done = plan.decide(edited(chat(SQL), chat(SQL), jobs=[job(chat_sql=TOLD)]))
    assert (done.aim.start_job, done.aim.delete_jobs) == (None, ())
    assert done.wanted["chat"].resolved == api.Resolved(commit=worlds.COMMIT, adapters={"sql": "a" * 40})
    assert done.data is not None
    assert "a" * 40 in done.data[names.key("")]


def test_the_job_of_an_earlier_edit_makes_room_for_the_next_one() -> None:
    newer = SQL | {"revision": "v2"}
    decided = plan.decide(
        edited(chat(SQL, commits={"sql": "a" * 40}), chat(newer), jobs=[job(chat_sql=TOLD)])
    )
    assert decided.aim.delete_jobs == ("",)
    assert decided.wanted["chat"].resolved == api.Resolved(commit=worlds.COMMIT)


def test_a_download_that_failed_is_tried_again_after_a_while() -> None:
    failed = {"reason": "GatedRepo", "message": "ask", "source": "acme/sql@main"}
    recent = plan.decide(edited(chat(SQL), chat(SQL), jobs=[job(chat_sql=failed)]))
    assert (recent.aim.start_job, recent.aim.delete_jobs) == (None, ())
    later = plan.decide(edited(chat(SQL), chat(SQL), jobs=[job(finished=facts.RETRY, chat_sql=failed)]))
    assert later.aim.delete_jobs == ("",)


def test_while_the_engine_is_to_be_replaced_its_pods_keep_their_adapters() -> None:
    before, after = chat(SQL, commits={"sql": "a" * 40}), chat(LEGAL)
    after["spec"]["engine"] = {"type": "vllm", "args": {"enable_lora": True, "max_model_len": 1024}}
    decided = plan.decide(edited(before, after))
    assert worlds.actions(decided) == {"chat": "Roll"}
    assert not decided.steps


def told(*states: Mapping[str, str], **more: Any) -> list[dict[str, Any]]:
    """The adapters in the status, if each pod says one of these of `sql`."""
    endpoint = chat(SQL)
    world = worlds.stable(endpoint, pods=len(states), **DOWNLOADS)
    pods = [
        replace(
            pod,
            models={**(pod.models or {}), "chat": replace((pod.models or {})["chat"], adapters=[state])},
        )
        for pod, state in zip(world.pods, states, strict=True)
    ]
    world = replace(world, pods=pods, **more)
    return status.build(world, plan.decide(world), "chat")["adapters"]


def state(name: str, message: str = "") -> dict[str, str]:
    return {"name": "sql", "state": name, "message": message}


def test_the_status_tells_the_worst_of_all_pods_with_the_reason() -> None:
    assert told(state("Ready"), state("Ready")) == [{"name": "sql", "state": "Ready", "message": ""}]
    assert told(state("Ready"), state("Refused", "rank 64 is too much")) == [
        {"name": "sql", "state": "Refused", "message": "pod llm-2: rank 64 is too much"}
    ]


def test_the_status_tells_why_files_are_missing() -> None:
    failed = {"reason": "GatedRepo", "message": "ask its authors", "source": "acme/sql@main"}
    (found,) = told(state("Missing", "not downloaded"), jobs=[job(chat_sql=failed)])
    assert found["message"] == "GatedRepo: ask its authors"


def test_the_status_tells_what_keeps_a_download_from_its_end() -> None:
    waits = replace(job(finished=None), trouble=facts.Trouble("PodNotCreated", "exceeded quota"))
    (found,) = told(state("Missing", "not downloaded"), jobs=[waits])
    assert found["message"] == "PodNotCreated: exceeded quota"


def test_a_pod_with_another_version_says_nothing_about_this_one() -> None:
    world = edited(chat(), chat(SQL))
    (found,) = status.build(world, plan.decide(world), "chat")["adapters"]
    assert (found["name"], found["state"]) == ("sql", "Loading")
    assert "no pod has the present version" in found["message"]
