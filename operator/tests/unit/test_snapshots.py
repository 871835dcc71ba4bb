"""What a snapshot is, where the order of things matters."""

from __future__ import annotations

import asyncio

from tritonllm_operator import kube, names, objects, snapshots


class GivenBack(kube.Kube):
    """The API server while Helm gives a pool back to its chart: the Deployment is changed, then the endpoint deleted.

    All of that happens between its first answer and its second; endpoints are the most, and take longest.
    """

    def __init__(self) -> None:
        self.managed = True

    async def list(self, kind: kube.Kind, namespace: str = "", selector: str = "") -> list[objects.Resource]:
        if kind == kube.ENDPOINTS:
            await asyncio.sleep(0)
        managed, self.managed = self.managed, False
        if kind == kube.ENDPOINTS and managed:
            return [{"metadata": {"name": "chat", "creationTimestamp": "x"}, "spec": {"pool": "llm"}}]
        if kind == kube.DEPLOYMENTS:
            mark = {names.OPERATOR: str(managed).lower()}
            return [{"metadata": {"name": "llm", "labels": {names.POOL: "llm"}, "annotations": mark}}]
        return []


def test_no_pool_seems_to_be_the_operators_and_without_its_endpoints_while_it_is_given_back() -> None:
    lists = snapshots.Snapshots(GivenBack())
    seen = asyncio.run(lists.get("prod", 0)).of("llm")
    gone = not seen.endpoints
    assert seen.deployment
    managed = seen.deployment["metadata"]["annotations"][names.OPERATOR] == "true"
    assert not (gone and managed)
