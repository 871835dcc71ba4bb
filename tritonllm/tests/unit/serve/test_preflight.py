"""What is found before anything starts, and what the user is told to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tritonllm import api
from tritonllm.serve import binary, options, preflight

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


def test_there_must_be_something_to_serve() -> None:
    assert preflight.names([]) == ["no endpoint to serve; name at least one file with an LLMEndpoint"]


@pytest.mark.parametrize(
    ("wanted", "taken", "problems"),
    [
        ([("--http-port", 1), ("--grpc-port", 2)], set(), []),
        (
            [("--http-port", 1), ("--grpc-port", 2)],
            {2},
            ["port 2 (--grpc-port) is in use; stop what listens there or choose another --grpc-port"],
        ),
        (
            [("--http-port", 1), ("--grpc-port", 1)],
            set(),
            ["--grpc-port and --http-port are both 1; choose another for one of them"],
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
    assert preflight.program(binary.Binary(executable), libpython=None, numpy="2.3.0") == []


def test_a_program_without_the_right_to_run_is_named(executable: Path) -> None:
    executable.chmod(0o644)
    assert preflight.program(binary.Binary(executable), None, None) == [
        f"{executable} is not executable; `chmod +x` it"
    ]


@pytest.mark.parametrize(
    ("stub", "libpython", "numpy", "words"),
    [
        (True, "/usr/lib", "1.26.4", []),
        (True, "/usr/lib", None, []),
        (False, "/usr/lib", "1.26.4", ["use Python 3.11 to 3.13"]),
        (True, None, "1.26.4", [binary.LIBPYTHON]),
        (True, "/usr/lib", "2.3.0", ["pip install 'numpy<2'"]),
        (False, None, "2.3.0", ["use Python 3.11 to 3.13", binary.LIBPYTHON, "pip install 'numpy<2'"]),
    ],
)
def test_the_server_of_the_wheel_needs_its_stub_libpython_and_an_old_numpy(
    executable: Path, stub: bool, libpython: str | None, numpy: str | None, words: list[str]
) -> None:
    found = binary.Binary(executable, bundled=True, stub=executable if stub else executable.parent / "none")
    problems = preflight.program(found, libpython=libpython, numpy=numpy)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_weights_that_are_there_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").touch()
    (tmp_path / "m" / "model.safetensors").touch()
    assert preflight.weights([endpoint(path="m"), endpoint()], str(tmp_path), []) == []


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (None, "chat: no weights at {}; correct `spec.model.path` or --weights"),
        ([], "chat: {} has no config.json; correct `spec.model.path` or --weights"),
        (["config.json"], "chat: {} has no *.safetensors; correct `spec.model.path` or --weights"),
    ],
)
def test_weights_that_are_no_model_are_named(tmp_path: Path, files: list[str] | None, problem: str) -> None:
    directory = tmp_path / "m"
    if files is not None:
        directory.mkdir()
        for file in files:
            (directory / file).touch()
    assert preflight.weights([endpoint(path="m")], str(tmp_path), []) == [problem.format(directory)]


def test_weights_of_the_hub_that_are_missing_say_how_to_get_them(tmp_path: Path) -> None:
    assert preflight.weights(
        [endpoint(repo="org/model")], str(tmp_path), [Path("a b.yaml"), Path("c.yaml")]
    ) == [
        f"chat: there are no weights of org/model at main in {tmp_path}; run"
        f" `tritonllm weights sync --endpoints 'a b.yaml' --endpoints c.yaml --cache {tmp_path}`"
    ]


def test_dummy_weights_need_no_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    given = endpoint(path=str(tmp_path), args={"load_format": "dummy"})
    assert preflight.weights([given], "/", []) == []


@pytest.mark.parametrize(("available", "problems"), [(2 * GIB, 0), (GIB // 2, 1)])
def test_weights_must_fit_into_memory(tmp_path: Path, available: int, problems: int) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(GIB)  # sparse: takes no room
    found = preflight.memory([endpoint(path=str(tmp_path))], "/", available)
    assert len(found) == problems
    assert all("1.0 GiB of memory and 0.5 GiB are available" in problem for problem in found)


@pytest.mark.parametrize(("models", "free", "problems"), [(3, 64 << 20, 0), (6, 64 << 20, 1)])
def test_shared_memory_must_hold_all_models(models: int, free: int, problems: int) -> None:
    assert len(preflight.shared_memory(models, free)) == problems


def test_a_repository_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is no directory" in preflight.repository(tmp_path / "file")[0]
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
        word in text for word in (f"port {port} (--http-port)", "tritonserver not found", "no weights at")
    )


def test_a_temporary_directory_that_the_python_backend_can_not_write_is_named(tmp_path: Path) -> None:
    assert preflight.python_backend(tmp_path) == []
    (problem,) = preflight.python_backend(tmp_path / "absent")
    assert problem.startswith(f"{tmp_path}/absent can't be written")
    assert "emptyDir" in problem
