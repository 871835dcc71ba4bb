"""Restricts the parts of Triton's API that run code, write files or reveal the policy to callers with a secret.

Loading a model runs code, a model's configuration contains the policy, and the other APIs read memory or write files.
Health, metadata, statistics and inference stay open. tritonserver accepts the secret only on its command line, so it is
visible to anyone who can list the processes of the container or its node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

APIS = ("model-repository", "model-config", "shared-memory", "trace", "logging")
HTTP_HEADER = "tritonllm-api-secret"
# Triton puts its own prefix before the name of a gRPC header.
GRPC_HEADER = f"triton-grpc-protocol-{HTTP_HEADER}"


class Unusable(ValueError):
    """The secret file is unusable; the message says why and what to do, without quoting its contents."""


@dataclass(frozen=True)
class Lock:
    """The secret of one tritonserver.

    Attributes:
        secret: printable ASCII without spaces; empty leaves every API open.
    """

    secret: str = field(default="", repr=False)

    def arguments(self) -> list[str]:
        """Command-line options for tritonserver."""
        if not self.secret:
            return []
        rule = f"{','.join(APIS)}:{HTTP_HEADER}={self.secret}"
        return [f"--http-restricted-api={rule}", f"--grpc-restricted-protocol={rule}"]

    def http_headers(self) -> dict[str, str]:
        """Headers that unlock the restricted APIs over HTTP."""
        return {HTTP_HEADER: self.secret} if self.secret else {}

    def grpc_headers(self) -> dict[str, str]:
        """Headers that unlock the restricted APIs over gRPC."""
        return {GRPC_HEADER: self.secret} if self.secret else {}


OPEN = Lock()


def read(file: Path | None) -> Lock:
    """Reads the secret from a file, such as a key of a mounted Secret.

    Args:
        file: its leading and trailing white space is ignored; None for no lock.

    Raises:
        Unusable: the file can't be read, is empty, or contains characters that a header can't carry.
    """
    if file is None:
        return OPEN
    try:
        secret = file.read_bytes().strip().decode("ascii")
    except OSError as error:
        raise Unusable(
            f"the secret file {file} can't be read: {error.strerror}; mount it there or correct --api-secret-file"
        ) from None
    except UnicodeDecodeError:
        secret = " "
    if not secret:
        raise Unusable(
            f"the secret file {file} is empty; write a secret to it, for example with `openssl rand -hex 32`"
        )
    if not re.fullmatch("[!-~]+", secret):
        raise Unusable(
            f"the secret file {file} must contain one line of printable ASCII without spaces, because the secret is sent"
            " as a header; replace it, for example with `openssl rand -hex 32`"
        )
    return Lock(secret)
