"""Finds the tritonserver to run: the container's own, or the one that a wheel brings to a laptop."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonllm.weights import token

_CONTAINER = Path("/opt/tritonserver/bin/tritonserver")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{_PYTHON}.so.1.0"
_SYSTEM_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


@dataclass(frozen=True)
class Binary:
    """A tritonserver that can be started.

    Attributes:
        executable: the program.
        backends: its backends, or None for its own default.
        libraries: directories for the dynamic linker.
        bundled: it is the one of the nvidia-pytriton wheel (24.10), which can't work with numpy 2.
        stub: the program that runs Python models, where it has yet to be put beside its backend.
    """

    executable: Path
    backends: Path | None = None
    libraries: tuple[str, ...] = ()
    bundled: bool = False
    stub: Path | None = None

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment for it.

        Args:
            base: the environment of the supervisor.
        """
        made = token.without(base)
        if self.libraries:
            made["LD_LIBRARY_PATH"] = os.pathsep.join(
                filter(None, (*self.libraries, base.get("LD_LIBRARY_PATH")))
            )
        if sys.prefix != sys.base_prefix:
            # The stub ignores PYTHONPATH and finds its packages by the virtual environment's prefix.
            made["VIRTUAL_ENV"] = sys.prefix
            made["PATH"] = os.pathsep.join((str(Path(sys.prefix) / "bin"), base.get("PATH", os.defpath)))
        made.setdefault("LC_ALL", "C.UTF-8")
        # A cached bytecode file changes the model directory, and Triton would reload the model for it.
        made["PYTHONDONTWRITEBYTECODE"] = "1"
        return made


def find() -> Binary | None:
    """The tritonserver on PATH, else the NVIDIA container's, else the wheel's; None if there is none."""
    on_path = shutil.which("tritonserver")
    executable = Path(on_path) if on_path else _CONTAINER
    if executable.exists():
        backends = executable.resolve().parent.parent / "backends"
        return Binary(executable, backends if backends.is_dir() else None)
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent / "tritonserver"
    libpython = libpython_directory()
    return Binary(
        executable=root / "bin" / "tritonserver",
        backends=root / "backends",
        libraries=(str(root.parents[1] / "nvidia_pytriton.libs"), *([libpython] if libpython else [])),
        bundled=True,
        stub=root / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub",
    )


def libpython_directory() -> str | None:
    """Where the shared library of this Python is: the stub is linked to it."""
    places = (sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib", *_SYSTEM_LIBRARIES)
    return next((place for place in places if place and (Path(place) / LIBPYTHON).exists()), None)


def prepare(binary: Binary, cache: Path) -> Path | None:
    """Puts the backend and the stub of this Python side by side, once, as Triton wants them.

    Several processes may do this at the same time: each makes a directory of its own and renames it, and
    the first one stays.

    Args:
        binary: what `find` found.
        cache: the cache directory.

    Returns:
        The directory for `--backend-directory`; None for tritonserver's own default.

    Raises:
        OSError: the cache directory can't be written.
    """
    if binary.stub is None or binary.backends is None:
        return binary.backends
    # The size and time of the stub tell one release of the wheel from another.
    seen = binary.stub.stat()
    target = cache / "backends" / f"python{_PYTHON}-{seen.st_size:x}-{seen.st_mtime_ns:x}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        shutil.copytree(binary.backends / "python", made / "python")
        stub = Path(shutil.copy(binary.stub, made / "python"))
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target
