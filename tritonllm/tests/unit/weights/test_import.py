"""What `weights import` makes of directories that people bring along."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import caches
import pytest
from caches import REPO

import lora_files
from tritonllm.weights import check, failures, importing, layout, progress, selection, sync, volume

COMMIT = caches.commit("a")


@pytest.fixture
def cache(tmp_path: Path) -> layout.Cache:
    return layout.Cache(tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return caches.fill(tmp_path / "brought")


def source(revision: str = "main", commit: str | None = COMMIT, **wanted: Any) -> sync.Source:
    return sync.Source(REPO, revision, selection.Wanted(**wanted), commit)


def hub_cache(root: Path, model: Path) -> Path:
    """The same files as huggingface_hub keeps them: links to blobs that are named by digest."""
    snapshot = root / "models--acme--tiny" / "snapshots" / COMMIT
    blobs = root / "models--acme--tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in model.iterdir():
        content = path.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        if path.suffix == ".json":
            name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        (blobs / name).write_bytes(content)
        (snapshot / path.name).symlink_to(f"../../blobs/{name}")
    return snapshot


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_an_adapter_is_imported_for_endpoints_that_list_it(cache: layout.Cache, tmp_path: Path) -> None:
    brought = lora_files.adapter(tmp_path / "lora")
    (brought / "README.md").write_text("# An adapter")
    published = importing.import_directory(cache, brought, source(adapter=True))
    assert names(published.directory) == [layout.MARKER, "adapter_config.json", "adapter_model.safetensors"]
    assert sync.find(cache, source(commit=None, adapter=True)) is not None
    assert sync.find(cache, source(commit=None)) is None


def test_what_serving_needs_is_copied_and_served_from_then_on(cache: layout.Cache, model: Path) -> None:
    published = importing.import_directory(cache, model, source())
    assert names(published.directory) == [layout.MARKER, "config.json", "model.safetensors", "tokenizer.json"]
    for name in names(published.directory)[1:]:
        assert (published.directory / name).read_bytes() == (model / name).read_bytes()
    assert sync.find(cache, source(commit=None)) == sync.Published(
        published.directory, COMMIT, published.size, downloaded=False
    )
    (checked,) = check.verify(cache, full=True)
    assert checked.problems == ()
    assert list(cache.staged()) == []
    assert len(names(model)) == 6


def test_links_are_followed_and_what_is_published_has_none(
    cache: layout.Cache, model: Path, tmp_path: Path
) -> None:
    snapshot = hub_cache(tmp_path / "hub", model)
    published = importing.import_directory(cache, snapshot, source())
    assert not any(path.is_symlink() for path in published.directory.iterdir())
    shutil.rmtree(tmp_path / "hub")
    (checked,) = check.verify(cache, full=True)
    assert checked.problems == ()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_blob_with_other_bytes_than_its_name_says_is_found(
    cache: layout.Cache, model: Path, tmp_path: Path, name: str
) -> None:
    snapshot = hub_cache(tmp_path / "hub", model)
    blob = (snapshot / name).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(failures.Corrupt, match=f"{name} has other bytes"):
        importing.import_directory(cache, snapshot, source())
    assert list(cache.published()) == list(cache.staged()) == []


def test_a_directory_in_its_place_is_marked_where_it_is(cache: layout.Cache) -> None:
    place = caches.fill(cache.snapshot(REPO, COMMIT).directory)
    inode = (place / "model.safetensors").stat().st_ino
    published = importing.import_directory(cache, place, source())
    assert published.directory == place
    assert (place / "model.safetensors").stat().st_ino == inode
    # What nobody serves is not ours to throw away.
    assert (place / "README.md").exists()
    (checked,) = check.verify(cache, full=True)
    assert checked.problems == ()


def test_links_in_the_place_itself_become_files(cache: layout.Cache, model: Path) -> None:
    place = cache.snapshot(REPO, COMMIT).directory
    place.mkdir(parents=True)
    for path in model.iterdir():
        (place / path.name).symlink_to(path)
    importing.import_directory(cache, place, source())
    assert not any(path.is_symlink() for path in place.iterdir())
    assert len(names(model)) == 6


def test_a_place_that_was_filled_by_half_gives_way_to_a_whole_directory(
    cache: layout.Cache, model: Path
) -> None:
    place = cache.snapshot(REPO, COMMIT).directory
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"half")
    importing.import_directory(cache, model, source())
    (checked,) = check.verify(cache, full=True)
    assert checked.problems == ()


def test_to_import_again_changes_nothing(cache: layout.Cache, model: Path) -> None:
    first = importing.import_directory(cache, model, source())
    marked = (first.directory / layout.MARKER).read_bytes()
    shutil.rmtree(model)
    model.mkdir()
    again = importing.import_directory(cache, model, source())
    assert (again.downloaded, (first.directory / layout.MARKER).read_bytes()) == (False, marked)


def test_code_comes_only_where_it_is_allowed_and_can_be_added_later(cache: layout.Cache, model: Path) -> None:
    published = importing.import_directory(cache, model, source())
    assert "modeling.py" not in names(published.directory)
    assert sync.find(cache, source(remote_code=True)) is None
    importing.import_directory(cache, model, source(remote_code=True))
    assert "modeling.py" in names(published.directory)
    assert sync.find(cache, source(remote_code=True)) is not None
    (checked,) = check.verify(cache, full=True)
    assert checked.problems == ()


def test_pickle_comes_only_where_it_is_allowed(cache: layout.Cache, model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(failures.NoSafetensors, match=r"pytorch_model\.bin"):
        importing.import_directory(cache, model, source())
    published = importing.import_directory(cache, model, source(allow_pickle=True))
    assert "pytorch_model.bin" in names(published.directory)
    assert sync.find(cache, source()) is None


def test_the_revision_leads_to_the_commit_that_was_imported_last(cache: layout.Cache, model: Path) -> None:
    importing.import_directory(cache, model, source())
    importing.import_directory(cache, model, source(commit=caches.commit("b")))
    assert cache.recorded(REPO, "main") == caches.commit("b")
    importing.import_directory(cache, model, source())
    assert cache.recorded(REPO, "main") == COMMIT


def test_a_commit_as_revision_is_recorded_nowhere(cache: layout.Cache, model: Path) -> None:
    importing.import_directory(cache, model, source(revision=COMMIT))
    assert not (cache.home(REPO) / "refs").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            "model.safetensors is no safeten",
        ),
        ("model.safetensors", caches.tensors()[:-1], "model.safetensors has 63 bytes of tensors"),
        (
            "model.safetensors.index.json",
            b'{"weight_map": {"w": "two.safetensors"}}',
            "names two.safetensors",
        ),
    ],
)
def test_what_can_be_no_model_is_named_before_anything_is_copied(
    cache: layout.Cache, model: Path, name: str, content: bytes, said: str
) -> None:
    (model / name).write_bytes(content)
    shown: list[progress.State] = []
    with pytest.raises(failures.Corrupt, match=said):
        importing.import_directory(cache, model, source(), shown.append)
    assert shown == []
    assert list(cache.published()) == list(cache.staged()) == []
    assert cache.recorded(REPO, "main") is None


def test_a_link_that_leads_nowhere_is_named(cache: layout.Cache, model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(model / "pruned")
    with pytest.raises(failures.Corrupt, match=r"config\.json can't be read: No such file"):
        importing.import_directory(cache, model, source())
    assert list(cache.published()) == list(cache.staged()) == []


def test_links_in_a_circle_end(cache: layout.Cache, model: Path) -> None:
    (model / "sub").symlink_to(model)
    (model / "self.json").symlink_to(model / "self.json")
    with pytest.raises(failures.Corrupt, match=r"self\.json can't be read"):
        importing.import_directory(cache, model, source())
    (model / "self.json").unlink()
    importing.import_directory(cache, model, source())


def test_a_file_that_changes_while_it_is_read_is_not_published(
    cache: layout.Cache, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the look at the files and the first byte.
    monkeypatch.setattr(volume, "room", lambda *_: (model / "tokenizer.json").write_bytes(b"{}"))
    with pytest.raises(failures.Corrupt, match=r"tokenizer\.json changed while it was read"):
        importing.import_directory(cache, model, source())
    assert list(cache.published()) == list(cache.staged()) == []


def test_a_volume_without_room_is_told_before_the_first_byte(cache: layout.Cache, model: Path) -> None:
    size = 1 << 43
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (model / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        # A file with a hole takes no room where it is.
        file.truncate(8 + len(header) + size)
    with pytest.raises(failures.DiskFull, match=r"needs 8796\.09 GB more and .* has [\d.]+ GB free"):
        importing.import_directory(cache, model, source())
    assert list(cache.published()) == list(cache.staged()) == []


def test_an_interrupted_import_leaves_nothing_that_piles_up(
    cache: layout.Cache, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tritonllm.weights.staging._SILENT_SECONDS", 0)
    caches.stage(cache, attempt="1")
    caches.stage(cache, attempt="2")
    importing.import_directory(cache, model, source())
    assert list(cache.staged()) == []
    (checked,) = check.verify(cache, full=True)
    assert checked.problems == ()


def test_an_import_beside_a_download_ends_with_a_whole_directory(cache: layout.Cache, model: Path) -> None:
    with caches.child(caches.DOWNLOADING, cache.snapshot(REPO, COMMIT).lock):
        importing.import_directory(cache, model, source())
    (checked,) = check.verify(cache, full=True)
    assert checked.problems == ()


@pytest.mark.parametrize("commit", [None, "main", "abc", "A" * 40])
def test_what_is_no_commit_is_a_mistake(cache: layout.Cache, model: Path, commit: str | None) -> None:
    with pytest.raises(ValueError, match="is no commit"):
        importing.import_directory(cache, model, source(commit=commit))
    assert not cache.root.exists()


def test_what_is_no_directory_is_a_mistake(cache: layout.Cache, model: Path) -> None:
    with pytest.raises(ValueError, match="is no directory"):
        importing.import_directory(cache, model / "config.json", source())
