"""Operators end, API servers restart, namespaces go: what is wanted is reached all the same, and nothing else written."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pool
from api_server import ApiServer
from pool import Operator, Pool, endpoint, until, until_as_wanted
from tritonllm_operator import kube

CHAT, CODE = endpoint(), endpoint("code")
CRASHES = 12
REQUESTS = "tritonllm_operator_api_requests_total"


@pytest.fixture
def operator(api_server: ApiServer, llm: Pool, tmp_path: Path) -> Iterator[Operator]:
    """An operator of the test's own."""
    with pool.operating(api_server, tmp_path, llm.name) as operator:
        yield operator


def until_looks_were_all(operator: Operator, looks: float, lists: float) -> None:
    """Waits until all that was listed since is what looks list: once each endpoints, what has a pool's label, and ReplicaSets.

    A look is counted when it is over.
    """
    once = len((kube.ENDPOINTS, *kube.OF_POOLS, kube.REPLICA_SETS))

    def looks_were_all() -> bool:
        return operator.count(REQUESTS, method="GET") - lists == once * (operator.passes() - looks)

    until(looks_were_all, operator.story)


def again(operator: Operator) -> None:
    """Restarts an operator and waits until it has looked around."""
    operator.stop()
    operator.start()
    until(operator.passes, operator.story)


def test_the_same_world_is_never_written_to(api_server: ApiServer, llm: Pool, tmp_path: Path) -> None:
    with pool.operating(api_server, tmp_path, llm.name, resync=0.2) as operator:
        llm.as_left(CHAT, CODE)
        until_as_wanted(llm, operator, "chat", "code")
        operator.until_looked(2)
        before, writes = llm.versions(), operator.writes()
        operator.until_looked(5)
        assert operator.writes() == writes
        again(operator)
        operator.until_looked(5)
        assert operator.writes() == 0
    assert llm.versions() == before


def test_an_operator_whose_renderer_is_newer_writes_nothing(
    api_server: ApiServer, llm: Pool, tmp_path: Path
) -> None:
    with pool.operating(api_server, tmp_path, llm.name) as operator:
        llm.as_left(CHAT)
        until_as_wanted(llm, operator)
        before = llm.versions()
    newer = "from tritonllm.render import config\nconfig.RENDERER = '2'\n"
    with pool.operating(api_server, tmp_path, llm.name, resync=0.2, code=newer) as operator:
        until(operator.passes, operator.story)
        operator.until_looked(3)
        assert operator.writes() == 0
        # It is the newer one: what it loads says so.
        llm.ban("chat", "other")
        until(lambda: all(len(triton.done) == 2 for triton in llm.tritons.values()), operator.story)
        (triton, _) = llm.tritons.values()
        assert triton.models["chat"].config.parameters["renderer"].string_value == "2"
    assert before


def test_what_was_deleted_while_the_operator_was_away_is_cleaned_when_it_is_back(
    llm: Pool, operator: Operator
) -> None:
    llm.as_left(CHAT, CODE)
    until_as_wanted(llm, operator, "chat", "code")
    operator.stop()
    llm.delete("llmendpoints", "code")
    assert llm.get("llmendpoints", "code") is None
    llm.ban("chat", "edited meanwhile")
    operator.start()
    until(
        lambda: all(("unload", "code-engine") in item.done for item in llm.tritons.values()), operator.story
    )
    until_as_wanted(llm, operator)
    until(lambda: set(llm.file()) == {"chat"}, operator.story)


def test_an_operator_killed_at_any_point_of_many_edits_reaches_the_last_one(
    llm: Pool, operator: Operator
) -> None:
    llm.as_left(CHAT)
    llm.run()
    until_as_wanted(llm, operator)
    chance = random.Random(4)
    for number in range(20):
        if number % 5 == 3:
            llm.edit("chat", engine={"args": {"seed": number}})
        else:
            llm.ban("chat", f"word{number}")
        if number % 2:
            # Anywhere between the event and the last write.
            point = chance.randrange(6)
            until(lambda point=point: operator.writes() >= point or llm.as_wanted(), operator.story)
            operator.kill()
            operator.start()
    until_as_wanted(llm, operator)
    assert llm.file(llm.revision() or "")["chat"]["engine"]["args"] == {"seed": 18}


def test_an_edit_during_an_outage_of_the_api_server_is_found(
    api_server: ApiServer, llm: Pool, operator: Operator
) -> None:
    llm.as_left(CHAT)
    until_as_wanted(llm, operator)
    for word in ("first", "second"):
        api_server.restart()
        llm.ban("chat", word)
        until_as_wanted(llm, operator)
    # And its watches are alive: it hears of what comes now.
    llm.ban("chat", "third")
    until_as_wanted(llm, operator)


def test_a_pool_that_is_uninstalled_and_installed_again_serves_again(llm: Pool, operator: Operator) -> None:
    llm.as_left(CHAT)
    until_as_wanted(llm, operator)
    llm.uninstall()
    until(lambda: llm.condition("Accepted")[1] == "PoolNotFound", lambda: (llm.status(), operator.story()))
    assert llm.condition("Ready")[0] == "False"
    assert "helm install llm" in llm.condition("Accepted")[2]
    llm.install()
    llm.run()
    until_as_wanted(llm, operator)


def test_a_namespace_that_ends_is_no_reason_to_complain(llm: Pool, operator: Operator) -> None:
    llm.as_left(CHAT)
    until_as_wanted(llm, operator)
    llm.client.delete(f"/api/v1/namespaces/{llm.name}").raise_for_status()
    llm.ban("chat", "too late")
    until_as_wanted(llm, operator)
    # Nothing can be made there any more: neither the file nor an Event.
    llm.delete("configmaps", "llm-endpoints")
    until(lambda: operator.count("tritonllm_operator_passes_total", outcome="ending"), operator.story)
    llm.delete("llmendpoints", "chat")
    llm.uninstall()
    assert "can't be" not in operator.log.read_text()


def test_an_endpoint_that_moves_to_another_pool_leaves_the_former_one(
    make_pool: Callable[..., Pool], llm: Pool, operator: Operator
) -> None:
    other = make_pool(pool="other")
    llm.as_left(CHAT, CODE)
    other.as_left(endpoint("third", pool="other"))
    until_as_wanted(llm, operator, "chat", "code")
    other.run()
    llm.edit("code", pool="other")
    until(lambda: other.as_wanted("code"), lambda: (llm.status("code"), operator.story()))
    until(
        lambda: all(("unload", "code-engine") in item.done for item in llm.tritons.values()), operator.story
    )
    assert llm.as_wanted("chat")
    assert llm.status("code")["url"].startswith("http://other.")


def test_files_longer_than_a_line_of_the_client_are_watched_all_the_same(
    llm: Pool, operator: Operator
) -> None:
    long = [f"{number} {'forbidden ' * 20}" for number in range(1000)]
    llm.as_left(endpoint(phrases=long))
    until_as_wanted(llm, operator)
    data = (llm.get("configmaps", "llm-endpoints") or {})["data"]
    assert len(data["revision-.yaml"]) > 2**17
    looks, lists = operator.passes(), operator.count(REQUESTS, method="GET")
    llm.patch("configmaps", "llm-endpoints", {"metadata": {"annotations": {"test/nudge": "1"}}})
    operator.until_looked(0)
    # A watch that breaks begins anew with a list of everything.
    until_looks_were_all(operator, looks, lists)


def test_an_edit_of_a_policy_is_one_look_and_one_that_confirms_it(llm: Pool, operator: Operator) -> None:
    llm.as_left(CHAT, CODE)
    until(operator.passes, operator.story)
    looks, lists = operator.passes(), operator.count(REQUESTS, method="GET")
    for number in range(5):
        llm.ban("chat", f"word{number}")
        until_as_wanted(llm, operator)
    until_looks_were_all(operator, looks, lists)
    assert operator.passes() - looks <= 2 * 5
