"""Checks the machine and the endpoints before anything starts, and reports all problems at once.

Each check is a function from facts to sentences that say what is wrong and what to do. Problems of the machine or the
whole server are a list and stop the start. Problems of a single endpoint are keyed by its name; the other endpoints are
served.
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

from tritonllm import addresses, allow, api, versions
from tritonllm.serve import api_lock, binaries, gpus, memory_limits, stale_runs
from tritonllm.serve.options import Options
from tritonllm.weights import endpoints as weights_of
from tritonllm.weights import layout

# The process of a model takes 1 MiB of shared memory at its start and grows with concurrency: 13 MiB measured with
# 48 pipelines in flight.
_SHARED_MEMORY_PER_MODEL = 16 << 20
_REPOSITORY_SPACE = 32 << 20
_GIB = 1 << 30


class PreflightError(Exception):
    """Nothing can be served.

    Attributes:
        problems: what is wrong and what to do, one entry per problem.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def check(
    options: Options,
    endpoints: Sequence[api.LLMEndpoint],
    binary: binaries.Binary | None,
    *,
    gpu: bool,
    machine: gpus.Machine | None = None,
) -> None:
    """Runs all checks.

    Args:
        options: of `serve`.
        endpoints: to serve, pinned to the commits in the cache.
        binary: the tritonserver that was found.
        gpu: whether this machine has an NVIDIA GPU.
        machine: its GPUs before anything started; None where they can't be asked.

    Raises:
        PreflightError: nothing could be served.
    """
    problems = [
        *names(endpoints),
        *ports(options.ports(), free=lambda port: _free(options.host, port)),
        *program(binary, libpython=binaries.libpython_directory(), numpy=_version("numpy")),
        *runtime(options.runtime, installed=versions.installed_version()),
        *shared_memory(
            sum(len(endpoint.models) for endpoint in endpoints),
            free=shutil.disk_usage(stale_runs.SHARED_MEMORY).free,
        ),
        *repository(Path(tempfile.gettempdir())),
        *python_backend(Path("/tmp")),
        *api_secret(options.api_secret_file),
    ]
    single = unservable(options, endpoints, gpu=gpu, machine=machine)
    if problems or (endpoints and len(single) == len(endpoints)):
        raise PreflightError([*problems, *(f"{name}: {problem}" for name, problem in single.items())])


def unservable(
    options: Options,
    endpoints: Sequence[api.LLMEndpoint],
    *,
    gpu: bool,
    machine: gpus.Machine | None = None,
) -> Mapping[str, str]:
    """Finds the endpoints that can't be served at present.

    Args:
        options: of `serve`.
        endpoints: to serve, pinned to the commits in the cache.
        gpu: whether this machine has an NVIDIA GPU.
        machine: its GPUs before anything started; None where they can't be asked.

    Returns:
        The problems of each such endpoint, by name.
    """
    checks = [
        weights(endpoints, options.weights, options.files),
        permissions(endpoints, options.allow),
        packages(endpoints, installed=lambda name: importlib.util.find_spec(name) is not None),
    ]
    whole = [
        endpoint
        for endpoint in endpoints
        if endpoint.spec.engine.gpus and not any(endpoint.name in found for found in checks)
    ]
    if not gpu:
        checks.append(memory(whole, options.weights, available=memory_limits.available()))
    elif machine is not None:
        checks.append(
            gpus.problems(whole, options.weights, machine, vllm_version=versions.installed_version())
        )
    return {
        endpoint.name: "; ".join(problems)
        for endpoint in endpoints
        if (problems := [found[endpoint.name] for found in checks if endpoint.name in found])
    }


def names(endpoints: Sequence[api.LLMEndpoint]) -> list[str]:
    """Checks that endpoint names are unique."""
    given = [endpoint.name for endpoint in endpoints]
    twice = sorted({name for name in given if given.count(name) > 1})
    return [
        f"endpoint {name} appears {given.count(name)} times; rename it or remove all but one"
        for name in twice
    ]


def ports(requested: Iterable[tuple[str, int]], free: Callable[[int], bool]) -> list[str]:
    """Checks that all ports are free and distinct.

    Args:
        requested: pairs of command-line option and port.
        free: whether a port is free.
    """
    problems: list[str] = []
    users: dict[int, str] = {}
    for option, port in requested:
        if port in users:
            problems.append(
                f"{option} and {users[port]} are both {port}; choose another port for one of them"
            )
        elif not free(port):
            problems.append(
                f"port {port} ({option}) is in use; stop the process that listens there or choose another {option}"
            )
        users.setdefault(port, option)
    return problems


def program(binary: binaries.Binary | None, libpython: str | None, numpy: str | None) -> list[str]:
    """Checks for a tritonserver that can run models with this Python.

    Args:
        binary: the tritonserver that was found.
        libpython: directory of this Python's shared library.
        numpy: installed version.
    """
    if binary is None:
        return [
            "tritonserver not found; use NVIDIA's Triton container or `pip install nvidia-pytriton==0.7.0`"
        ]
    if not os.access(binary.executable, os.X_OK):
        return [f"{binary.executable} is not executable; `chmod +x` it"]
    if not binary.bundled:
        return []
    problems: list[str] = []
    if binary.stub is None or not binary.stub.is_file():
        problems.append(
            "the tritonserver of nvidia-pytriton does not support this Python version; use Python 3.11 to 3.13"
        )
    if libpython is None:
        problems.append(
            f"{binaries.LIBPYTHON} not found; models need a Python with a shared library"
            f" (Debian: apt install {binaries.LIBPYTHON.split('.so')[0]}; pyenv: --enable-shared)"
        )
    # workaround: W6
    if numpy is not None and int(numpy.partition(".")[0]) >= 2:
        problems.append(f"numpy {numpy} crashes the models of Triton 24.10; `pip install 'numpy<2'`")
    return problems


def runtime(expected: str | None, installed: str | None) -> list[str]:
    """Checks that vLLM is the version that `--runtime` names.

    Args:
        expected: as `vllm-VERSION`; None where none was given.
        installed: version of the installed vLLM, with the label of a build such as NVIDIA's; None without vLLM, where
            there is nothing that could be taken for another.
    """
    found = installed and f"vllm-{installed.partition('+')[0]}"
    if expected is None or found is None or found == expected:
        return []
    return [
        f"--runtime is {expected} and this has {found}; correct it (Kubernetes: `image.runtime` of the pool)"
    ]


def permissions(endpoints: Iterable[api.LLMEndpoint], allowed: allow.Allow) -> dict[str, str]:
    """Checks that each endpoint only uses what the owner of the pool permits.

    Args:
        endpoints: to serve.
        allowed: the permissions.
    """
    found = {endpoint.name: allow.problems(endpoint, allowed) for endpoint in endpoints}
    return {
        name: "; ".join(f"{path}: {message}" for path, message in problems)
        for name, problems in found.items()
        if problems
    }


def packages(endpoints: Iterable[api.LLMEndpoint], installed: Callable[[str], bool]) -> dict[str, str]:
    """Checks that the package that each engine needs is installed.

    Args:
        endpoints: to serve.
        installed: whether a package can be imported.
    """
    needed = {
        endpoint.name: endpoint.spec.engine.definition.required_package(endpoint.spec.engine.args)
        for endpoint in endpoints
    }
    return {
        name: package.missing for name, package in needed.items() if package and not installed(package.name)
    }


def weights(endpoints: Iterable[api.LLMEndpoint], root: str, files: Sequence[Path]) -> dict[str, str]:
    """Checks that the weights of each endpoint are complete; those under `spec.model.path` must at least look like a model.

    Args:
        endpoints: to serve.
        root: root of the weights volume.
        files: the endpoint files, for the command that downloads what is missing.
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
            directory = Path(endpoint.directory(root) or root)
            engine = endpoint.spec.engine
            lacking = _missing(directory, engine.definition.model_files(engine.args))
            remedy = "correct `spec.model.path` or --weights"
            if model.image is not None:
                remedy = "correct `spec.model.subPath`; the image is mounted by charts/tritonllm-pool only"
        if lacking:
            problems[endpoint.name] = f"{lacking}; {remedy}"
    return problems


def _missing(directory: Path, patterns: Iterable[str]) -> str | None:
    if not directory.is_dir():
        return f"no weights at {directory}"
    absent = (pattern for pattern in patterns if not any(directory.glob(pattern)))
    return next((f"{directory} has no {pattern}" for pattern in absent), None)


def _sync_command(files: Sequence[Path], root: str) -> str:
    named = [part for file in files for part in ("--endpoints", str(file))]
    return shlex.join(["tritonllm", "weights", "sync", *named, "--cache", root])


def memory(endpoints: Iterable[api.LLMEndpoint], root: str, available: int) -> dict[str, str]:
    """Checks, without a GPU, that the weights of all endpoints fit into the memory of this machine or container.

    Args:
        endpoints: to serve, in loading order.
        root: root of the weights volume.
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
        beside = "" if left == available else " after loading the endpoints before it"
        problems[endpoint.name] = (
            f"the weights need {needed / _GIB:.1f} GiB of memory and {left / _GIB:.1f} GiB are available{beside};"
            " close other programs, raise the container's limit, serve fewer endpoints or choose a smaller model"
        )
    return problems


def _loaded(directory: Path) -> list[Path]:
    """The files that an engine loads as weights."""
    return list(directory.glob("*.safetensors")) or list(directory.glob("*.bin"))


def shared_memory(models: int, free: int) -> list[str]:
    """Checks for room in /dev/shm, which Triton uses to exchange tensors with its models.

    Args:
        models: number of models.
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
    """Checks that the model repository can be written.

    Args:
        directory: parent of the run directory.
    """
    absolute = directory.absolute()
    existing = next(parent for parent in (absolute, *absolute.parents) if parent.exists())
    if not existing.is_dir():
        return [f"{existing} is not a directory; set TMPDIR to another directory"]
    if not os.access(existing, os.W_OK):
        return [f"{existing} is not writable; set TMPDIR to another directory"]
    free = shutil.disk_usage(existing).free
    return (
        []
        if free >= _REPOSITORY_SPACE
        else [
            f"{existing} has {free >> 20} MiB free; the model repository needs {_REPOSITORY_SPACE >> 20} MiB"
        ]
    )


def python_backend(directory: Path) -> list[str]:
    """Checks the directory that Triton's Python backend uses regardless of TMPDIR.

    Args:
        directory: its path.
    """
    # workaround: W7
    if os.access(directory, os.W_OK):
        return []
    return [
        f"{directory} is not writable, and Triton's Python backend needs it whatever TMPDIR says;"
        " make it writable (Kubernetes: mount an emptyDir there)"
    ]


def api_secret(file: Path | None) -> list[str]:
    """Checks the file with the secret for Triton's API.

    Args:
        file: its path; None for no secret.
    """
    try:
        api_lock.read(file)
    except api_lock.Unusable as error:
        return [str(error)]
    return []


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As tritonserver does: closing connections of a previous server do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == addresses.ANY:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
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
