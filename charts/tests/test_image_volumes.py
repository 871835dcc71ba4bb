"""Weights from an image: a volume of the pods by its digest, where Kubernetes can, and where the engine looks for them."""

from __future__ import annotations

import json
from dataclasses import replace

import kubernetes_validate
import pytest

import chart
from tritonllm import api, files
from tritonllm_operator import accept, facts, names
from worlds import resource, stable

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
IMAGE = f"registry.example.com/models/llama@sha256:{DIGEST}"
OTHER = f"registry.example.com/models/qwen@sha256:{'0' * 64}"
VALUES = {
    "weights": {"enabled": False},
    "endpoints": [chart.endpoint(model={"image": IMAGE, "subPath": "models/8b"})],
}
NEWEST = "--kube-version=1.36.0"


def endpoint() -> api.LLMEndpoint:
    found, problems = files.parse(
        json.dumps(resource(model={"image": IMAGE, "subPath": "models/8b"}, engine={})), ""
    )
    assert problems == []
    return found[0]


def test_the_image_is_a_read_only_volume_where_the_engine_looks() -> None:
    documents = chart.render(VALUES, NEWEST)
    spec = chart.pod(documents)
    (volume,) = [each for each in spec["volumes"] if "image" in each]
    assert volume["image"] == {"reference": IMAGE, "pullPolicy": "IfNotPresent"}
    (mount,) = [
        one for one in chart.container(spec, "server")["volumeMounts"] if one["name"] == volume["name"]
    ]
    assert mount["readOnly"] is True
    assert mount["mountPath"] == api.image_directory(IMAGE)
    assert endpoint().directory("/weights") == f"{mount['mountPath']}/models/8b"
    for document in documents:
        if document["kind"] == "Deployment":
            kubernetes_validate.validate(document, "1.36", strict=True)


def test_without_other_weights_nothing_is_downloaded_and_no_volume_is_made() -> None:
    documents = chart.render(VALUES, NEWEST)
    assert "initContainers" not in chart.pod(documents)
    assert "PersistentVolumeClaim" not in {each["kind"] for each in documents}


def test_an_image_of_two_endpoints_is_mounted_once_beside_those_of_the_pool() -> None:
    both = [
        chart.endpoint(name, model={"image": IMAGE}, engine={"args": {"gpu_memory_utilization": 0.4}})
        for name in ("a", "b")
    ]
    documents = chart.render({"endpoints": both, "weights": {"images": [OTHER]}}, NEWEST)
    found = [each["image"]["reference"] for each in chart.pod(documents)["volumes"] if "image" in each]
    assert found == [OTHER, IMAGE]
    annotations = chart.one(documents, "Deployment")["metadata"]["annotations"]
    assert annotations[names.IMAGES].split() == found


def test_an_api_server_without_image_volumes_is_named() -> None:
    with pytest.raises(
        chart.Refused, match=r"as in Kubernetes 1\.33 or later, and this is v1\.32\.4: upgrade"
    ):
        chart.render(VALUES, "--kube-version=1.32.4")
    assert chart.render(VALUES, "--kube-version=1.33.0")


@pytest.mark.parametrize("image", ["registry.example.com/models/llama:8b", "llama", f"{IMAGE}00"])
def test_a_tag_is_refused_because_it_can_change(image: str) -> None:
    with pytest.raises(chart.Refused, match="/endpoints/0/spec/model/image"):
        chart.render({"endpoints": [chart.endpoint(model={"image": image})]}, NEWEST)


def test_the_operator_refuses_an_endpoint_whose_image_the_pods_do_not_mount() -> None:
    wanted = resource(model={"image": IMAGE}, engine={"args": {}})

    def refusal(*images: str) -> facts.Trouble | None:
        pool = stable(gpus=1, images=frozenset(images))
        (judged,) = accept.judge(replace(pool, endpoints=[wanted]), {})
        return judged.refusal

    told = refusal(OTHER)
    assert told is not None
    assert told.reason == "ImageNotMounted"
    assert "add it to the pool's weights.images" in told.message
    assert refusal(OTHER, IMAGE) is None
