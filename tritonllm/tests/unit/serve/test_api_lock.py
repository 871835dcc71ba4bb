"""The secret that locks Triton's API: read from a file, given to tritonserver, and shown to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonllm.serve import api_lock, options, preflight

SECRET = "c2VjcmV0+/=:,"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def test_the_secret_is_read_without_the_white_space_around_it(file: Path) -> None:
    file.write_text(f"\n {SECRET}\n")
    lock = api_lock.read(file)
    assert lock.http_headers() == {"tritonllm-api-secret": SECRET}
    assert lock.grpc_headers() == {"triton-grpc-protocol-tritonllm-api-secret": SECRET}
    rule = f"model-repository,model-config,shared-memory,trace,logging:tritonllm-api-secret={SECRET}"
    assert lock.arguments() == [f"--http-restricted-api={rule}", f"--grpc-restricted-protocol={rule}"]


def test_without_a_file_nothing_is_locked() -> None:
    lock = api_lock.read(None)
    assert (lock.arguments(), lock.http_headers(), lock.grpc_headers()) == ([], {}, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read: No such file or directory; mount it there or correct --api-secret-file"),
        (b"", "is empty; write a secret to it"),
        (b" \n", "is empty; write a secret to it"),
        (b"two words", "must contain one line of printable ASCII without spaces"),
        (b"two\nlines", "must contain one line of printable ASCII without spaces"),
        (b"caf\xc3\xa9", "must contain one line of printable ASCII without spaces"),
        (b"a\x00b", "must contain one line of printable ASCII without spaces"),
    ],
    ids=["missing", "empty", "blank", "a space", "two lines", "not ASCII", "a control character"],
)
def test_a_file_that_holds_no_secret_is_found_before_anything_starts(
    file: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        file.write_bytes(content)
    (problem,) = preflight.api_secret(file)
    assert problem.startswith(f"the secret file {file} {message}")
    assert content is None or not content.strip() or content.decode() not in problem


def test_a_directory_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    assert preflight.api_secret(tmp_path)[0].startswith(
        f"the secret file {tmp_path} can't be read: Is a directory"
    )


def test_the_secret_is_not_in_the_text_of_what_holds_it(file: Path) -> None:
    file.write_text(SECRET)
    chosen = options.Options(files=(), weights="/w", api_secret_file=file)
    assert SECRET not in repr(chosen) + repr(api_lock.read(file))
