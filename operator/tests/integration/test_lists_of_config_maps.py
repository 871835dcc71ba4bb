"""A list of phrases in a ConfigMap is live on every pod, and its edits are those of the endpoint."""

from __future__ import annotations

import model_control
import pool
from pool import Operator, Pool, endpoint, until
from tritonllm_operator import names

REF = {"configMapRef": {"name": "words", "key": "list.txt"}}
CHAT = endpoint(guardrails={"output": [{"name": "words", "action": "Mask", "banned": REF}]})
PLAIN = endpoint("plain")


def words(*lines: str, of: str = "llm") -> pool.Json:
    labels = {names.POOL: of, names.COMPONENT: names.PHRASES}
    return {"metadata": {"name": "words", "labels": labels}, "data": {"list.txt": "\n".join(lines)}}


def live(llm: Pool, *phrases: str) -> bool:
    """Whether all pods hold these phrases, and pods to come would."""
    banned = llm.file()["chat"]["guardrails"]["output"][0]["banned"]
    same = endpoint(phrases=phrases)
    return banned == {"phrases": list(phrases)} and llm.live(same) and llm.condition("Loaded")[0] == "True"


def test_edits_of_a_list_are_live_on_every_pod_and_a_list_that_is_gone_changes_nothing(
    llm: Pool, operator: Operator
) -> None:
    def told() -> object:
        return llm.status(), operator.story()

    llm.as_left(endpoint(), PLAIN)
    until(llm.as_wanted, told)
    llm.edit("chat", guardrails=CHAT["spec"]["guardrails"])
    until(lambda: llm.condition("Accepted")[1] == "InvalidPhraseList", told)
    assert "there is no ConfigMap `words`" in llm.condition("Accepted")[2]
    assert llm.condition("Ready")[:2] == ("True", "ServingFormerVersion")
    assert llm.live(endpoint())

    llm.create("configmaps", words("# ours", "first", "second"))
    until(lambda: live(llm, "first", "second"), told)
    assert llm.condition("Accepted")[0] == "True"

    llm.patch("configmaps", "words", {"data": {"list.txt": "third"}})
    until(lambda: live(llm, "third"), told)
    assert llm.status()["plan"]["action"] == "InPlace"
    assert llm.revision() is None

    llm.patch("configmaps", "words", {"data": {"list.txt": "secret" * 50}})
    until(lambda: llm.condition("Accepted")[1] == "InvalidPhraseList", told)
    assert "secret" not in str(llm.status())
    assert "secret" not in str(llm.events())
    assert llm.live(endpoint(phrases=["third"]))

    llm.patch("configmaps", "words", {"data": {"list.txt": "third"}})
    until(lambda: llm.condition("Accepted")[0] == "True", told)
    # Its owner takes it back.
    llm.patch("configmaps", "words", {"metadata": {"labels": {names.POOL: None}}})
    until(lambda: llm.condition("Accepted")[1] == "InvalidPhraseList", told)
    llm.patch("configmaps", "words", {"metadata": {"labels": {names.POOL: "llm"}}})
    until(lambda: llm.condition("Accepted")[0] == "True", told)
    llm.delete("configmaps", "words")
    until(lambda: llm.condition("Accepted")[1] == "InvalidPhraseList", told)
    assert llm.live(endpoint(phrases=["third"]))
    assert llm.file()["chat"]["guardrails"]["output"][0]["banned"] == {"phrases": ["third"]}
    for done in model_control.changes(llm.tritons.values()):
        assert {model for _, model in done} == {"chat", "chat-guardrail"}


def test_a_list_of_another_pool_is_not_there(llm: Pool, operator: Operator) -> None:
    llm.as_left(endpoint())
    until(llm.as_wanted, operator.story)
    llm.create("configmaps", words("first", of="other"))
    llm.edit("chat", guardrails=CHAT["spec"]["guardrails"])
    until(lambda: llm.condition("Accepted")[1] == "InvalidPhraseList", operator.story)
    assert llm.live(endpoint())
    # For all pools of the namespace.
    llm.patch("configmaps", "words", {"metadata": {"labels": {names.POOL: ""}}})
    until(lambda: live(llm, "first"), lambda: (llm.status(), operator.story()))
