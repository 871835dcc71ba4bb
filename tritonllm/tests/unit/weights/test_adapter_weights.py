"""Adapters in the cache of weights: which files, from where, and what a failure of one does to the rest."""

from __future__ import annotations

import json
from pathlib import Path

import caches
import pytest

import lora_files
from tritonllm import api
from tritonllm.runtime import adapter_files
from tritonllm.weights import (
    check,
    endpoints,
    failures,
    hub,
    layout,
    lock,
    marker,
    report,
    retention,
    selection,
    sync,
)

A = "a" * 40
ADAPTER = selection.Wanted(adapter=True)
NAMES = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "training_args.bin",
]


def remote(names: list[str]) -> list[selection.RemoteFile]:
    return [selection.RemoteFile(name, 1, "0" * 40) for name in names]


def endpoint(*adapters: dict[str, str]) -> api.LLMEndpoint:
    spec = {
        "pool": "llm",
        "model": {"repo": caches.REPO},
        "engine": {"args": {"enable_lora": True, "max_cpu_loras": 8}},
        "adapters": list(adapters),
        "guardrails": {},
    }
    return api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": "chat"}, "spec": spec}
    )


def publish(cache: layout.Cache, repo: str, digit: str = "b", revision: str = "main") -> layout.Snapshot:
    """A complete directory of an adapter."""
    snapshot = cache.snapshot(repo, digit * 40)
    lora_files.adapter(snapshot.directory)
    files = tuple(
        marker.File(name, (snapshot.directory / name).stat().st_size, "0" * 64) for name in selection.ADAPTER
    )
    marker.write(
        snapshot.directory, marker.Marker(repo, digit * 40, ADAPTER, "safetensors", files, ADAPTER.digest())
    )
    ref = cache.ref(repo, revision)
    ref.parent.mkdir(exist_ok=True)
    ref.write_text(f"{digit * 40}\n")
    return snapshot


@pytest.fixture
def cache(tmp_path: Path) -> layout.Cache:
    return layout.Cache(tmp_path)


def test_an_adapter_is_two_files() -> None:
    chosen = selection.select(remote(NAMES), ADAPTER, "acme/sql")
    assert [file.path for file in chosen.files] == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize("lacking", selection.ADAPTER)
def test_a_repository_that_lacks_one_of_them_is_no_adapter(lacking: str) -> None:
    names = [name for name in [*NAMES, "adapter_model.bin"] if name != lacking]
    with pytest.raises(failures.NoSafetensors, match=f"acme/sql has no {lacking}"):
        selection.select(remote(names), ADAPTER, "acme/sql")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_that_is_given_as_a_model_is_refused_with_that_word(name: str) -> None:
    with pytest.raises(
        failures.NoSafetensors, match=r"is a LoRA adapter and no model; list it in `spec\.adapters`"
    ):
        selection.select(
            remote(["adapter_config.json", name]), selection.Wanted(allow_pickle=True), "acme/sql"
        )


def test_a_model_is_not_loaded_with_an_adapter_that_lies_beside_it() -> None:
    names = ["config.json", "model.safetensors", "adapter_model.safetensors"]
    chosen = selection.select(remote(names), selection.Wanted(), "acme/base")
    assert [file.path for file in chosen.files] == ["config.json", "model.safetensors"]


def test_a_model_is_no_adapter_and_the_other_way_round(cache: layout.Cache) -> None:
    model, adapter = caches.publish(cache, "a"), publish(cache, "acme/sql")
    assert not check_marker(model).serves(ADAPTER)
    assert not check_marker(adapter).serves(selection.Wanted())
    assert check_marker(adapter).serves(ADAPTER)
    assert not [problem for each in check.verify(cache) for problem in each.problems]


def check_marker(snapshot: layout.Snapshot) -> marker.Marker:
    found = marker.read(snapshot.directory)
    assert found is not None
    return found


def test_the_marker_of_a_model_is_one_that_earlier_versions_read(cache: layout.Cache) -> None:
    directory = caches.publish(cache, "a").directory
    assert json.loads((directory / layout.MARKER).read_text())["wanted"].keys() == {
        "allow_pickle",
        "remote_code",
    }


def test_adapters_are_pinned_kept_and_in_use_like_weights(cache: layout.Cache) -> None:
    caches.publish(cache, "a", revision="main")
    snapshot = publish(cache, "acme/sql")
    given = endpoint({"name": "sql", "repo": "acme/sql"}, {"name": "legal", "path": "legal"})
    (pinned,) = endpoints.pinned(cache, [given])
    assert pinned.commit == A
    assert pinned.adapter_commit(pinned.spec.adapters[0]) == snapshot.commit
    with endpoints.in_use([pinned], str(cache.root)):
        assert lock.is_used(snapshot.directory)
    needed = retention.needs(cache, endpoints.sources(given), endpoints.paths(given, str(cache.root)))
    assert needed.cover(snapshot)
    assert cache.root / "legal" in needed.directories
    assert endpoints.missing_adapters(cache, given) == []
    assert endpoints.missing_adapters(cache, endpoint({"name": "x", "repo": "acme/x"})) == ["x"]


def test_a_draft_model_on_the_volume_is_kept_and_in_use_like_weights(cache: layout.Cache) -> None:
    caches.publish(cache, "a", revision="main")
    draft = publish(cache, "acme/draft").directory
    given = endpoint()
    given.spec.engine.args["speculative_config"] = {"model": str(draft), "tokenizer": "/elsewhere"}
    with endpoints.in_use([given], str(cache.root)):
        assert lock.is_used(draft)
    assert endpoints.paths(given, str(cache.root)) == [draft]


def test_an_adapter_that_can_not_be_had_is_told_and_fails_nothing_else(cache: layout.Cache) -> None:
    caches.publish(cache, "a", revision="main")
    publish(cache, "acme/sql")
    given = endpoint(
        {"name": "sql", "repo": "acme/sql"},
        {"name": "gated", "repo": "acme/gated"},
        {"name": "legal", "path": "legal"},
    )

    def refuse() -> hub.Hub:
        raise failures.GatedRepo("ask its authors")

    results = endpoints.bring(cache, [given], sync.Options(refuse))
    assert [(each.name, each.problem and each.problem.reason) for each in results] == [
        ("chat", None),
        ("chat:sql", None),
        ("chat:gated", "GatedRepo"),
        ("chat:legal", None),
    ]
    assert report.exit_code(results) == 0
    assert report.line(results[2]) == "chat:gated: GatedRepo: ask its authors"
    assert json.loads(report.message(results))["endpoints"] == {
        "chat:gated": {
            "reason": "GatedRepo",
            "message": "ask its authors",
            "source": "acme/gated@main",
        },
        "chat": {"commit": A},
        "chat:sql": {"commit": "b" * 40, "source": "acme/sql@main"},
        "chat:legal": {},
    }


def test_an_engine_finds_an_adapter_by_its_commit_or_by_the_recorded_one(cache: layout.Cache) -> None:
    snapshot = publish(cache, "acme/sql")
    for commit in (None, snapshot.commit):
        found = adapter_files.locate(
            adapter_files.Adapter(name="sql", repo="acme/sql", commit=commit), cache.root
        )
        assert found == (snapshot.directory, snapshot.commit)
    (snapshot.directory / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(adapter_files.Missing, match="has not been downloaded completely"):
        adapter_files.locate(adapter_files.Adapter(name="sql", repo="acme/sql"), cache.root)
    with pytest.raises(adapter_files.Missing, match="acme/x at main has not been downloaded"):
        adapter_files.locate(adapter_files.Adapter(name="x", repo="acme/x"), cache.root)
