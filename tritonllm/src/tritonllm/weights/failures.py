"""Why weights could not be had: one type, one exit code and one sentence for each reason a user can act on."""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """Weights can't be served.

    The message is for people: what happened to which repository or directory, and what to do about it.

    Attributes:
        reason: in CamelCase, as Kubernetes' conditions want it.
        exit_code: of `tritonllm weights sync`.
        retry: whether trying again may help without anybody doing anything.
        after_seconds: how long the Hub asked to wait before that; 0 where it did not say.
    """

    reason: ClassVar[str]
    exit_code: ClassVar[int]

    def __init__(self, message: str, *, retry: bool = False, after_seconds: float = 0) -> None:
        super().__init__(message)
        self.retry = retry
        self.after_seconds = after_seconds

    def __init_subclass__(cls, exit_code: int) -> None:
        cls.reason = cls.__name__
        cls.exit_code = exit_code


class GatedRepo(Failure, exit_code=20):
    """The authors want their licence accepted, by the account whose token is used."""


class RepositoryNotFound(Failure, exit_code=21):
    """No such repository, or a private one that the token does not open."""


class RevisionNotFound(Failure, exit_code=22):
    """The repository has no such branch, tag or commit."""


class Unauthorized(Failure, exit_code=23):
    """The Hub does not accept the token."""


class RateLimited(Failure, exit_code=24):
    """The Hub asked to come back later, for longer than we were told to wait."""


class HubUnreachable(Failure, exit_code=25):
    """No usable answer from the Hub: network, proxy, certificate, its own trouble, or offline by choice."""


class DiskFull(Failure, exit_code=26):
    """The volume has no room for the files."""


class NotWritable(Failure, exit_code=27):
    """The volume does not let this user create, rename, sync and delete files."""


class Corrupt(Failure, exit_code=28):
    """The bytes are not those of the commit, or not a model."""


class NoSafetensors(Failure, exit_code=29):
    """The repository has weights only in a format that can run code when loaded, and that was not allowed."""


ALL: tuple[type[Failure], ...] = (
    GatedRepo,
    RepositoryNotFound,
    RevisionNotFound,
    Unauthorized,
    RateLimited,
    HubUnreachable,
    DiskFull,
    NotWritable,
    Corrupt,
    NoSafetensors,
)
