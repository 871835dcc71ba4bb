"""Images of the sources as they are, built and brought into the cluster only when those changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from harness import commands
from harness.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
_REPOSITORY = "tritonllm-e2e"
# What .dockerignore lets into a build, and what says how it goes.
_SOURCES = (
    *("pyproject.toml", "uv.lock", "operator/pyproject.toml"),
    *("tritonllm/pyproject.toml", "tritonllm/src", "model_repository"),
)
_OPERATOR_SOURCES = (*_SOURCES, "operator/src")
_RECIPES = ("images/versions.env", "images/build-tools.txt", ".dockerignore")


def versions() -> dict[str, str]:
    """images/versions.env; a variable of the environment with the same name comes first."""
    lines = (ROOT / "images/versions.env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: os.environ.get(name, value) for name, _, value in pairs}


def triton_cpu(target: str) -> str:
    """Builds a target of images/triton-cpu unless an image of these sources is there.

    Returns:
        Its name, with a tag that stands for the sources.

    Raises:
        commands.Failed: it can't be built.
    """
    return _of_sources(f"triton-cpu-{target}", "images/triton-cpu", _SOURCES, "--target", target)


def operator() -> str:
    """The same for images/operator."""
    return _of_sources("operator", "images/operator", _OPERATOR_SOURCES)


def with_files(base: str, directory: Path) -> str:
    """The same for an image that has the files of a directory in `/data`.

    Args:
        base: the image that it is made from.
        directory: without folders in it.
    """
    digest = hashlib.sha256(base.encode())
    for file in sorted(directory.iterdir()):
        digest.update(f"{file.name}\0{file.stat().st_size}\0{file.stat().st_mtime_ns}\0".encode())
    image = f"{_REPOSITORY}/{directory.name}:{digest.hexdigest()[:16]}"
    return _built(image, "--file", "-", str(directory), stdin=f"FROM {base}\nCOPY . /data/\n")


def before(base: str) -> str:
    """The same for an image whose own code is that of `upgrade/before`.

    Args:
        base: the image that it is made from.
    """
    recipe = ROOT / "e2e/upgrade/before"
    digest = _digest(base, (str(recipe.relative_to(ROOT)),))
    name = base.rpartition(":")[0].rpartition("/")[2]
    return _built(f"{_REPOSITORY}/before-{name}:{digest}", "--build-arg", f"IMAGE={base}", str(recipe))


def _of_sources(name: str, recipe: str, sources: tuple[str, ...], *options: str) -> str:
    arguments = {name: value for name, value in versions().items() if name == "DEBIAN_IMAGE"}
    digest = _digest(sorted(arguments.items()), (*sources, *_RECIPES, recipe))
    given = [part for pair in arguments.items() for part in ("--build-arg", "=".join(pair))]
    file = str(ROOT / recipe / "Dockerfile")
    return _built(f"{_REPOSITORY}/{name}:{digest}", *options, *given, "--file", file, str(ROOT))


def _built(image: str, *arguments: str, stdin: str | None = None) -> str:
    if not _exists(image):
        # --force-rm: a build that is interrupted leaves no container behind.
        commands.run(["docker", "build", "--force-rm", "--tag", image, *arguments], stdin=stdin, seconds=2400)
        _remove_older(image)
    return image


def load(cluster: Cluster, image: str) -> str:
    """Brings an image into a cluster, unless it is there; returns its name."""
    cluster.load(image)
    return image


def pulled(cluster: Cluster, image: str) -> str:
    """An image that nodes pull themselves, or that is loaded where docker has it; returns its name."""
    if _exists(image):
        cluster.load(image)
    return image


def _digest(arguments: object, sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr(arguments).encode())
    for source in sources:
        path = ROOT / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_mode}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _exists(image: str) -> bool:
    return bool(commands.run(["docker", "images", "--quiet", image]).strip())


def _remove_older(image: str) -> None:
    repository = image.rpartition(":")[0]
    listed = commands.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", repository]).split()
    if older := [other for other in listed if other != image]:
        commands.run(["docker", "rmi", *older])
