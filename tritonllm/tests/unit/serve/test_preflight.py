"""What is found before anything starts, and what the user is told to do."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tritonllm import allow, api
from tritonllm.serve import binaries, options, preflight

GIB = 1 << 30


def endpoint(name: str = "chat", **model: object) -> api.LLMEndpoint:
    engine = {} if model else {"engine": {"type": "simulated"}}
    args = {"engine": {"args": model.pop("args")}} if "args" in model else {}
    spec = {"pool": "llm", "guardrails": {}, **engine, **args, **({"model": model} if model else {})}
    return api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": spec}
    )


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    file = tmp_path / "tritonserver"
    file.touch(mode=0o755)
    return file


def test_each_endpoint_is_served_once() -> None:
    assert preflight.names([endpoint("a"), endpoint("b")]) == []
    assert preflight.names([endpoint("a"), endpoint("a")]) == [
        "endpoint a appears 2 times; rename it or remove all but one"
    ]


@pytest.mark.parametrize(
    ("wanted", "taken", "problems"),
    [
        ([("--http-port", 1), ("--grpc-port", 2)], set(), []),
        (
            [("--http-port", 1), ("--grpc-port", 2)],
            {2},
            [
                "port 2 (--grpc-port) is in use; stop the process that listens there or choose another --grpc-port"
            ],
        ),
        (
            [("--http-port", 1), ("--grpc-port", 1)],
            set(),
            ["--grpc-port and --http-port are both 1; choose another port for one of them"],
        ),
    ],
)
def test_a_port_that_is_taken_is_named_with_its_option(
    wanted: list[tuple[str, int]], taken: set[int], problems: list[str]
) -> None:
    assert preflight.ports(wanted, free=lambda port: port not in taken) == problems


def test_no_tritonserver_says_where_to_get_one() -> None:
    assert "pip install nvidia-pytriton" in preflight.program(None, libpython="/usr/lib", numpy="1.26.4")[0]


def test_the_server_of_a_container_needs_nothing_from_here(executable: Path) -> None:
    assert preflight.program(binaries.Binary(executable), libpython=None, numpy="2.3.0") == []


def test_a_program_without_the_right_to_run_is_named(executable: Path) -> None:
    executable.chmod(0o644)
    assert preflight.program(binaries.Binary(executable), None, None) == [
        f"{executable} is not executable; `chmod +x` it"
    ]


@pytest.mark.parametrize(
    ("stub", "libpython", "numpy", "words"),
    [
        (True, "/usr/lib", "1.26.4", []),
        (True, "/usr/lib", None, []),
        (False, "/usr/lib", "1.26.4", ["use Python 3.11 to 3.13"]),
        (True, None, "1.26.4", [binaries.LIBPYTHON]),
        (True, "/usr/lib", "2.3.0", ["pip install 'numpy<2'"]),
        (False, None, "2.3.0", ["use Python 3.11 to 3.13", binaries.LIBPYTHON, "pip install 'numpy<2'"]),
    ],
)
def test_the_server_of_the_wheel_needs_its_stub_libpython_and_an_old_numpy(
    executable: Path, stub: bool, libpython: str | None, numpy: str | None, words: list[str]
) -> None:
    found = binaries.Binary(executable, bundled=True, stub=executable if stub else executable.parent / "none")
    problems = preflight.program(found, libpython=libpython, numpy=numpy)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_weights_that_are_there_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").touch()
    (tmp_path / "m" / "model.safetensors").touch()
    assert preflight.weights([endpoint(path="m"), endpoint()], str(tmp_path), []) == {}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (None, "no weights at {}; correct `spec.model.path` or --weights"),
        ([], "{} has no config.json; correct `spec.model.path` or --weights"),
        (["config.json"], "{} has no *.safetensors; correct `spec.model.path` or --weights"),
    ],
)
def test_weights_that_are_no_model_are_named(tmp_path: Path, files: list[str] | None, problem: str) -> None:
    directory = tmp_path / "m"
    if files is not None:
        directory.mkdir()
        for file in files:
            (directory / file).touch()
    assert preflight.weights([endpoint(path="m")], str(tmp_path), []) == {"chat": problem.format(directory)}


def test_weights_of_the_hub_that_are_missing_say_how_to_get_them(tmp_path: Path) -> None:
    assert preflight.weights(
        [endpoint(repo="org/model")], str(tmp_path), [Path("a b.yaml"), Path("c.yaml")]
    ) == {
        "chat": f"there are no weights of org/model at main in {tmp_path}; run"
        f" `tritonllm weights sync --endpoints 'a b.yaml' --endpoints c.yaml --cache {tmp_path}`"
    }


def test_dummy_weights_need_no_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    given = endpoint(path=str(tmp_path), args={"load_format": "dummy"})
    assert preflight.weights([given], "/", []) == {}


@pytest.mark.parametrize(("available", "problems"), [(2 * GIB, 0), (GIB // 2, 1)])
def test_weights_must_fit_into_memory(tmp_path: Path, available: int, problems: int) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(GIB)  # sparse: takes no room
    found = preflight.memory([endpoint(path=str(tmp_path))], "/", available)
    assert len(found) == problems
    assert all("1.0 GiB of memory and 0.5 GiB are available;" in problem for problem in found.values())


def test_what_does_not_fit_into_memory_beside_the_endpoints_before_it_stops_only_itself(
    tmp_path: Path,
) -> None:
    def model(name: str, size: int) -> api.LLMEndpoint:
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(size)
        return endpoint(name, path=name)

    given = [model("large", 2 * GIB), model("huge", 4 * GIB), model("small", GIB)]
    (name, problem), *others = preflight.memory(given, str(tmp_path), available=5 * GIB).items()
    assert (name, others) == ("huge", [])
    assert "need 4.0 GiB of memory and 3.0 GiB are available after loading the endpoints before it" in problem


@pytest.mark.parametrize(
    ("expected", "installed"),
    [
        (None, "0.32.0"),
        ("vllm-0.24.0", None),
        ("vllm-0.24.0", "0.24.0"),
        ("vllm-0.24.0", "0.24.0+092c4842.nv26.7"),
    ],
)
def test_the_vllm_that_endpoints_were_checked_against_is_served(
    expected: str | None, installed: str | None
) -> None:
    assert preflight.runtime(expected, installed) == []


def test_another_vllm_than_endpoints_were_checked_against_is_refused() -> None:
    assert preflight.runtime("vllm-0.24.0", "0.32.0") == [
        "--runtime is vllm-0.24.0 and this has vllm-0.32.0; correct it (Kubernetes: `image.runtime` of the pool)"
    ]


def test_without_vllm_only_the_endpoints_that_need_it_are_not_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "config.json").touch()
    given = [endpoint("real", path=".", args={"load_format": "dummy"}), endpoint("pretend")]
    chosen = options.Options(files=(), weights=str(tmp_path))
    assert preflight.unservable(chosen, given, gpu=False) == {
        "real": "vLLM is not installed; `pip install vllm` or use `engine.type: simulated`"
    }


def test_all_that_is_wrong_with_an_endpoint_is_said_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    chosen = options.Options(files=(), weights=str(tmp_path))
    problem = preflight.unservable(chosen, [endpoint(path="none")], gpu=False)["chat"]
    assert f"no weights at {tmp_path}/none" in problem
    assert "; vLLM is not installed" in problem


@pytest.mark.parametrize(("models", "free", "problems"), [(3, 64 << 20, 0), (6, 64 << 20, 1)])
def test_shared_memory_must_hold_all_models(models: int, free: int, problems: int) -> None:
    assert len(preflight.shared_memory(models, free)) == problems


def test_a_repository_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a directory" in preflight.repository(tmp_path / "file")[0]
    assert preflight.repository(tmp_path / "new" / "directory") == []


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = options.Options(files=(), weights=str(tmp_path), http_port=port)
        with pytest.raises(preflight.PreflightError) as caught:
            preflight.check(chosen, [endpoint(path="none")], None, gpu=True)
    text = str(caught.value)
    assert all(
        word in text
        for word in (f"port {port} (--http-port)", "tritonserver not found", "chat: no weights at")
    )


@pytest.fixture
def free(tmp_path: Path) -> options.Options:
    """What needs nothing that is missing."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        names = ("http_port", "grpc_port", "metrics_port", "health_port")
        ports = {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}
    return options.Options((), str(tmp_path), **ports)


def test_what_is_wrong_with_one_endpoint_does_not_stop_the_others(
    free: options.Options, executable: Path
) -> None:
    one_bad = [endpoint("bad", path="none"), endpoint("good")]
    preflight.check(free, one_bad, binaries.Binary(executable), gpu=True)
    assert list(preflight.unservable(free, one_bad, gpu=True)) == ["bad"]


def test_when_no_endpoint_can_be_served_each_says_why(free: options.Options, executable: Path) -> None:
    both_bad = [endpoint("one", path="none"), endpoint("other", path="none")]
    with pytest.raises(preflight.PreflightError) as caught:
        preflight.check(free, both_bad, binaries.Binary(executable), gpu=True)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["one", "other"]


def test_no_endpoint_at_all_is_no_problem(free: options.Options, executable: Path) -> None:
    preflight.check(free, [], binaries.Binary(executable), gpu=True)


def test_a_temporary_directory_that_the_python_backend_can_not_write_is_named(tmp_path: Path) -> None:
    assert preflight.python_backend(tmp_path) == []
    (problem,) = preflight.python_backend(tmp_path / "absent")
    assert problem.startswith(f"{tmp_path}/absent is not writable")
    assert "emptyDir" in problem


def test_an_endpoint_that_the_pool_does_not_permit_is_not_served_and_the_others_are() -> None:
    found = preflight.permissions(
        [endpoint("a"), endpoint("b", path="mine", trustRemoteCode=True)], allow.Allow()
    )
    assert found == {
        "b": "spec.model.trustRemoteCode: the pool does not permit code from repositories; its owner can set"
        " allow.remoteCode: true"
    }


def test_permissions_are_among_the_checks_of_every_start(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()
    coded = endpoint("coded", path=str(tmp_path), trustRemoteCode=True)
    chosen = options.Options(files=(), weights=str(tmp_path))
    assert "coded" not in preflight.unservable(chosen, [coded], gpu=True)
    closed = options.Options(files=(), weights=str(tmp_path), allow=allow.Allow())
    assert "the pool does not permit code" in preflight.unservable(closed, [coded], gpu=True)["coded"]
