"""What the renderer wrote into a model's configuration: a value that is not there says which version is too old."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class Rendered(dict[str, T]):
    """The values by name.

    Raises:
        ValueError: a value is read that is not there.
    """

    def __missing__(self, name: str) -> T:
        raise ValueError(
            f"the model's configuration lacks `{name}`, as another version of tritonllm wrote it; upgrade the operator to the"
            " version of its pool"
        )
