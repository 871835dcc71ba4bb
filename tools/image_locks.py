"""Resolves what the images install, with hashes, from the package index; half a minute.

    python tools/image_locks.py             # writes what changed; versions that still fit stay
    python tools/image_locks.py --check     # exits with 1 if something would change

images/triton/container.txt is a list of the kind of packages that NVIDIA's container has: resolved, not read from one.
What tritonllm adds there is images/triton/requirements.txt, with what the build leaves alone held at that list's versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRITON = ROOT / "images/triton"
sys.path.insert(0, str(TRITON))
import missing  # noqa: E402

# The last day on which NVIDIA's container of versions.env can have been filled.
_CONTAINER_DATE = "2026-07-26"
_PROJECT = "tritonllm/pyproject.toml"
_KNOWN = ("images/triton/container.in", "--override", "images/triton/container.in")
# NVIDIA's containers have this Python on both architectures; the tests run on an older one where it is not there.
_CONTAINER = ("--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_35")
# The hashes are of all files of a release, whatever the architecture.
_HASHED = ("--exclude-newer", "7 days", "--generate-hashes")


class Unresolvable(Exception):
    """No versions fit; the message is the resolver's."""


class Unreachable(Exception):
    """The package index did not answer; the message is the resolver's."""


def container() -> str:
    """What the container holds."""
    return _resolve(TRITON / "container.txt", *_KNOWN, *_CONTAINER, "--exclude-newer", _CONTAINER_DATE)


def added() -> str:
    """What tritonllm needs beside it."""
    return _resolve(TRITON / "requirements.txt", _PROJECT, *_CONTAINER, *_HASHED, held=True)


def tested() -> str:
    """The same, and what its tests need."""
    inputs = (_PROJECT, "images/triton/test-requirements.in")
    return _resolve(TRITON / "test-requirements.txt", *inputs, *_CONTAINER, *_HASHED, held=True)


def build_tools() -> str:
    """What builds the images."""
    return _resolve(
        ROOT / "images/build-tools.txt",
        "images/build-tools.in",
        "--universal",
        "--python-version",
        "3.11",
        *_HASHED,
    )


def beside_vllm() -> str:
    """What tritonllm and the container's vLLM need together. Nothing installs this: that it resolves is the point."""
    return _resolve(None, _PROJECT, *_KNOWN, *_CONTAINER, held=True)


def outputs() -> dict[Path, str]:
    """Every lock and what should be in it."""
    return {
        TRITON / "container.txt": container(),
        TRITON / "requirements.txt": added(),
        TRITON / "test-requirements.txt": tested(),
        ROOT / "images/build-tools.txt": build_tools(),
    }


def _resolve(current: Path | None, *arguments: str, held: bool = False) -> str:
    """Resolves, and prefers the versions that the current file has.

    Raises:
        Unresolvable: no versions fit.
        Unreachable: the package index did not answer.
    """
    # Without the workspace's own settings, which are for an older Triton, on one architecture.
    command = (
        os.environ.get("UV") or "uv",
        "pip",
        "compile",
        "--no-config",
        "--quiet",
        "--no-header",
        "--no-annotate",
    )
    with tempfile.TemporaryDirectory() as directory:
        made, constraints = Path(directory, "made.txt"), Path(directory, "held.txt")
        if current is not None and current.exists():
            shutil.copy(current, made)
        lines = missing.held((TRITON / "container.txt").read_text().splitlines()) if held else []
        constraints.write_text("\n".join(lines))
        done = subprocess.run(
            [*command, *arguments, "--constraint", str(constraints), "--output-file", str(made)],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if done.returncode == 1:
            raise Unresolvable(done.stderr)
        if done.returncode:
            raise Unreachable(done.stderr)
        return made.read_text()


def main() -> None:
    stale = {path: text for path, text in outputs().items() if not path.exists() or path.read_text() != text}
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
            raise SystemExit(f"not current: {names}; run `python tools/image_locks.py`")
        return
    for path, text in stale.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
