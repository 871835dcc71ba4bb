"""Finds the tritonserver to run: the container's, or the one from the nvidia-pytriton wheel on a laptop."""

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
        executable: path of the program.
        backends: its backend directory; None for tritonserver's default.
        libraries: directories for the dynamic linker.
        bundled: whether it comes from the nvidia-pytriton wheel (24.10), which does not work with numpy 2.
        stub: the program that runs Python models, if it still has to be copied next to its backend.
    """

    executable: Path
    backends: Path | None = None
    libraries: tuple[str, ...] = ()
    bundled: bool = False
    stub: Path | None = None

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment to start it with.

        Args:
            base: the supervisor's environment.
        """
        made = token.without(base)
        if self.libraries:
            made["LD_LIBRARY_PATH"] = os.pathsep.join(
                filter(None, (*self.libraries, base.get("LD_LIBRARY_PATH")))
            )
        if sys.prefix != sys.base_prefix:
            # The stub ignores PYTHONPATH and locates packages by the prefix of the virtual environment.
            made["VIRTUAL_ENV"] = sys.prefix
            made["PATH"] = os.pathsep.join((str(Path(sys.prefix) / "bin"), base.get("PATH", os.defpath)))
        made.setdefault("LC_ALL", "C.UTF-8")
        # A cached bytecode file would change the model directory, which makes Triton reload the model.
        # workaround: W8
        made["PYTHONDONTWRITEBYTECODE"] = "1"
        # To look for some, every process of a model would read the metadata of all installed packages.
        made.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
        return made


def find() -> Binary | None:
    """Returns the tritonserver on PATH, else the NVIDIA container's, else the wheel's; None if there is none."""
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
    """The directory of this Python's shared library, which the stub is linked to."""
    candidates = (sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib", *_SYSTEM_LIBRARIES)
    return next((found for found in candidates if found and (Path(found) / LIBPYTHON).exists()), None)


def prepare(binary: Binary, cache: Path) -> Path | None:
    """Copies the Python backend and the stub of this Python version into one directory, as Triton expects them.

    Safe to run in several processes at once: each fills a directory of its own and renames it; the first rename wins.

    Args:
        binary: the result of `find`.
        cache: the cache directory.

    Returns:
        The value of `--backend-directory`; None for tritonserver's default.

    Raises:
        OSError: the cache directory is not writable.
    """
    if binary.stub is None or binary.backends is None:
        return binary.backends
    # Size and modification time of the stub distinguish releases of the wheel.
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
