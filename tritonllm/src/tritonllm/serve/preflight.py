"""Looks for what would go wrong, before anything starts, and reports all of it at once.

Each check is a function from what it needs to know to sentences: what is wrong, and what to do. What is wrong with
the machine or with the server as a whole is a list, and nothing starts; what is wrong with single endpoints is a
sentence by endpoint, and the others are served.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tritonllm import api
from tritonllm.serve import api_lock, binaries, memory_limits, stale_runs
from tritonllm.serve.options import Options
from tritonllm.weights import endpoints as weights_of
from tritonllm.weights import layout

# A model's process takes 1 MiB of shared memory at its start and grows with the requests at once: 13 MiB were
# measured with 48 pipelines in flight.
_SHARED_MEMORY_PER_MODEL = 16 << 20
_REPOSITORY_SPACE = 32 << 20
_GIB = 1 << 30


class PreflightError(Exception):
    """Serving can't start.

    Attributes:
        problems: one sentence or two each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def check(
    options: Options, endpoints: Sequence[api.LLMEndpoint], binary: binaries.Binary | None, *, gpu: bool
) -> None:
    """Checks everything.

    Args:
        options: what the user chose.
        endpoints: what shall be served, pinned to the commits that are here.
        binary: the tritonserver that was found.
        gpu: whether this machine has one.

    Raises:
        PreflightError: nothing could be served.
    """
    problems = [
        *names(endpoints),
        *ports(options.ports(), free=lambda port: _free(options.host, port)),
        *program(binary, libpython=binaries.libpython_directory(), numpy=_version("numpy")),
        *shared_memory(3 * len(endpoints), free=shutil.disk_usage(stale_runs.SHARED_MEMORY).free),
        *repository(Path(tempfile.gettempdir())),
        *python_backend(Path("/tmp")),
        *api_secret(options.api_secret_file),
    ]
    single = unservable(options, endpoints, gpu=gpu)
    if problems or (endpoints and len(single) == len(endpoints)):
        raise PreflightError([*problems, *(f"{name}: {problem}" for name, problem in single.items())])


def unservable(options: Options, endpoints: Sequence[api.LLMEndpoint], *, gpu: bool) -> Mapping[str, str]:
    """The endpoints that can't be served as things are, by name, each with all that is wrong with it.

    Args:
        options: what the user chose.
        endpoints: what shall be served, pinned to the commits that are here.
        gpu: whether this machine has one.
    """
    with_vllm = [endpoint for endpoint in endpoints if endpoint.spec.engine.type == "vllm"]
    checks = [
        weights(endpoints, options.weights, options.files),
        vllm(with_vllm, installed=importlib.util.find_spec("vllm") is not None),
    ]
    if not gpu:
        whole = [endpoint for endpoint in with_vllm if not any(endpoint.name in found for found in checks)]
        checks.append(memory(whole, options.weights, available=memory_limits.available()))
    return {
        endpoint.name: "; ".join(problems)
        for endpoint in endpoints
        if (problems := [found[endpoint.name] for found in checks if endpoint.name in found])
    }


def names(endpoints: Sequence[api.LLMEndpoint]) -> list[str]:
    """Each name is there once."""
    given = [endpoint.name for endpoint in endpoints]
    twice = sorted({name for name in given if given.count(name) > 1})
    return [
        f"endpoint {name} appears {given.count(name)} times; rename it or remove all but one"
        for name in twice
    ]


def ports(wanted: Iterable[tuple[str, int]], free: Callable[[int], bool]) -> list[str]:
    """Every port is free, and no two are the same.

    Args:
        wanted: option of the command line and its port.
        free: whether nobody listens there.
    """
    problems: list[str] = []
    users: dict[int, str] = {}
    for option, port in wanted:
        if port in users:
            problems.append(f"{option} and {users[port]} are both {port}; choose another for one of them")
        elif not free(port):
            problems.append(
                f"port {port} ({option}) is in use; stop what listens there or choose another {option}"
            )
        users.setdefault(port, option)
    return problems


def program(binary: binaries.Binary | None, libpython: str | None, numpy: str | None) -> list[str]:
    """A tritonserver that can run models of this Python.

    Args:
        binary: what was found.
        libpython: directory of this Python's shared library.
        numpy: installed version.
    """
    if binary is None:
        return [
            "tritonserver not found; use NVIDIA's Triton container, or `pip install nvidia-pytriton==0.7.0`"
        ]
    if not os.access(binary.executable, os.X_OK):
        return [f"{binary.executable} is not executable; `chmod +x` it"]
    if not binary.bundled:
        return []
    problems: list[str] = []
    if binary.stub is None or not binary.stub.is_file():
        problems.append(
            "the tritonserver of nvidia-pytriton can't run models of this Python; use Python 3.11 to 3.13"
        )
    if libpython is None:
        problems.append(
            f"{binaries.LIBPYTHON} not found, which runs the models; use a Python with a shared library"
            f" (Debian: apt install {binaries.LIBPYTHON.split('.so')[0]}; pyenv: --enable-shared)"
        )
    if numpy is not None and int(numpy.partition(".")[0]) >= 2:
        problems.append(f"numpy {numpy} crashes the models of Triton 24.10; `pip install 'numpy<2'`")
    return problems


def vllm(endpoints: Iterable[api.LLMEndpoint], installed: bool) -> dict[str, str]:
    """Whether vLLM is there.

    Args:
        endpoints: those whose engine it is.
        installed: whether it is.
    """
    problem = "vLLM is not installed; `pip install vllm`, or use `engine.type: simulated`"
    return {} if installed else {endpoint.name: problem for endpoint in endpoints}


def weights(endpoints: Iterable[api.LLMEndpoint], root: str, files: Sequence[Path]) -> dict[str, str]:
    """The weights directory of each is complete, or at least looks like a model where the user filled it.

    Args:
        endpoints: what shall be served.
        root: of the weights.
        files: where the endpoints come from, for the command that gets what is missing.
    """
    problems: dict[str, str] = {}
    for endpoint in endpoints:
        model = endpoint.spec.model
        if model is None:
            continue
        if model.repo is not None:
            lacking = weights_of.missing(layout.Cache(Path(root)), endpoint)
            remedy = f"run `{_sync_command(files, root)}`"
        else:
            directory = Path(root, model.path or "")
            lacking = _missing(directory, dummy=endpoint.spec.engine.args.get("load_format") == "dummy")
            remedy = "correct `spec.model.path` or --weights"
        if lacking:
            problems[endpoint.name] = f"{lacking}; {remedy}"
    return problems


def _missing(directory: Path, *, dummy: bool) -> str | None:
    if not directory.is_dir():
        return f"no weights at {directory}"
    if not (directory / "config.json").is_file():
        return f"{directory} has no config.json"
    if not dummy and not any(directory.glob("*.safetensors")):
        return f"{directory} has no *.safetensors"
    return None


def _sync_command(files: Sequence[Path], root: str) -> str:
    named = [part for file in files for part in ("--endpoints", str(file))]
    return shlex.join(["tritonllm", "weights", "sync", *named, "--cache", root])


def memory(endpoints: Iterable[api.LLMEndpoint], root: str, available: int) -> dict[str, str]:
    """Without a GPU, the weights fit into the memory of this machine or container, one after another.

    Args:
        endpoints: what shall be served, in the order in which it is loaded.
        root: of the weights.
        available: bytes.
    """
    problems: dict[str, str] = {}
    left = available
    for endpoint in endpoints:
        directory = endpoint.directory(root)
        needed = sum(file.stat().st_size for file in _loaded(Path(directory))) if directory else 0
        if needed <= left:
            left -= needed
            continue
        beside = "" if left == available else " beside the endpoints before it"
        problems[endpoint.name] = (
            f"the weights take {needed / _GIB:.1f} GiB of memory and {left / _GIB:.1f} GiB are available{beside};"
            " close other programs, raise the container's limit, serve fewer endpoints or choose a smaller model"
        )
    return problems


def _loaded(directory: Path) -> list[Path]:
    """The files that an engine reads as weights."""
    return list(directory.glob("*.safetensors")) or list(directory.glob("*.bin"))


def shared_memory(models: int, free: int) -> list[str]:
    """Room in /dev/shm, over which Triton and its models talk.

    Args:
        models: how many.
        free: bytes.
    """
    needed = models * _SHARED_MEMORY_PER_MODEL
    if needed <= free:
        return []
    return [
        f"{stale_runs.SHARED_MEMORY} has {free >> 20} MiB free and {models} models need {needed >> 20} MiB;"
        " enlarge it (docker: --shm-size, Kubernetes: an emptyDir with `medium: Memory`)"
    ]


def repository(directory: Path) -> list[str]:
    """There is room for the model repository, where it shall be.

    Args:
        directory: where the run's own directory will be made.
    """
    place = directory.absolute()
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    if not existing.is_dir():
        return [f"{existing} is no directory; set TMPDIR to another place"]
    if not os.access(existing, os.W_OK):
        return [f"{existing} can't be written; set TMPDIR to another place"]
    free = shutil.disk_usage(existing).free
    return (
        [] if free >= _REPOSITORY_SPACE else [f"{existing} has {free >> 20} MiB free; make room for models"]
    )


def python_backend(directory: Path) -> list[str]:
    """The directory that Triton's Python backend makes a directory of its own in, whatever TMPDIR says.

    Args:
        directory: which.
    """
    if os.access(directory, os.W_OK):
        return []
    return [
        f"{directory} can't be written, and without it Triton's Python backend ends tritonserver, whatever TMPDIR says;"
        " make it writable (Kubernetes: mount an emptyDir there)"
    ]


def api_secret(file: Path | None) -> list[str]:
    """The file with the secret of Triton's API holds one.

    Args:
        file: where; None for no secret.
    """
    try:
        api_lock.read(file)
    except api_lock.Unusable as error:
        return [str(error)]
    return []


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As tritonserver does: a connection of a former server that is still closing does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
