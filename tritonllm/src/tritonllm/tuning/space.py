"""The search space: for some fields of `spec.engine.args` and `spec.limits`, the values to choose from.

A file of it has the shape of an endpoint's `spec`, with a list or a range in place of each value. Every axis is finite
and has the value of the start configuration, so that it is one of the configurations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tritonllm import api
from tritonllm.bench import axes, failures

_ROOTS = (("engine", "args"), ("limits",))
_EXAMPLE = "engine: {args: {max_num_seqs: 32:512, enable_prefix_caching: [true, false]}}"


class Axis(NamedTuple):
    """A field that is varied.

    Attributes:
        path: of the field in `spec`, such as `("engine", "args", "max_num_seqs")`.
        values: to choose from, in ascending order if all are numbers; None leaves the field to its default.
        start: that of the start configuration.
    """

    path: tuple[str, ...]
    values: tuple[Any, ...]
    start: Any

    @property
    def name(self) -> str:
        """The path, such as `engine.args.max_num_seqs`."""
        return ".".join(self.path)

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, of which neighbours are alike."""
        return all(_is_number(value) for value in self.values)


def parse(data: Any, source: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """The values by path.

    Args:
        data: content of the file.
        source: its name, for messages.

    Raises:
        failures.InvalidBenchmark: it is no search space, or an empty one.
    """
    if not isinstance(data, Mapping) or not data:
        raise failures.InvalidBenchmark(f"{source}: is empty; a search space is written as in: {_EXAMPLE}")
    found: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for path, value in _leaves(data, ()):
        name = ".".join(path)
        if not any(path[: len(root)] == root and len(path) == len(root) + 1 for root in _ROOTS):
            raise failures.InvalidBenchmark(
                f"{source}: {name}: only fields of engine.args and limits can be tuned, as in: {_EXAMPLE}"
            )
        found[path] = _values(value, f"{source}: {name}")
    if not found:
        raise failures.InvalidBenchmark(f"{source}: has no field to tune; write it as in: {_EXAMPLE}")
    return found


def default(endpoint: api.LLMEndpoint, gpus: int) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """What is worth trying for an engine type; nothing in it changes the answers of the model.

    Args:
        endpoint: to tune.
        gpus: number of GPUs that can be used.

    Raises:
        failures.InvalidBenchmark: there is none for this engine type.
    """
    engine = endpoint.spec.engine
    if engine.type == "simulated":
        return {("engine", "args", "max_num_seqs"): (16, 32, 64, 128, 256, 512)}
    if engine.type != "vllm":
        raise failures.InvalidBenchmark(
            f"there is no search space for engine type {engine.type}; name a file with --space"
        )
    args: dict[str, tuple[Any, ...]] = {
        "max_num_seqs": (64, 128, 256, 512, 1024),
        "max_num_batched_tokens": (2048, 4096, 8192, 16384),
        "enable_chunked_prefill": (True, False),
        "enable_prefix_caching": (True, False),
        "stream_interval": (1, 4, 16),
    }
    if gpus:
        args["gpu_memory_utilization"] = (0.85, 0.9, 0.95)
        args["block_size"] = (16, 32, 64)
    if gpus > 1:
        args["tensor_parallel_size"] = tuple(2**n for n in range(int(math.log2(gpus)) + 1))
    found: dict[tuple[str, ...], tuple[Any, ...]] = {
        ("engine", "args", name): values for name, values in args.items()
    }
    # An engine gets no more requests at once than this, whatever it could take.
    found["limits", "maxConcurrentRequests"] = (256, 512, 1024)
    return found


def around(
    values: Mapping[tuple[str, ...], Sequence[Any]], start: Mapping[tuple[str, ...], Any]
) -> list[Axis]:
    """The axes, which have the start configuration's values as well.

    Args:
        values: by path.
        start: the start configuration's value by path; None where the field is left to its default.

    Raises:
        failures.InvalidBenchmark: there is no other value than the start configuration's.
    """
    found: list[Axis] = []
    for path, given in values.items():
        every = _distinct([start[path], *given])
        if all(_is_number(value) for value in every):
            every = sorted(every)
        if len(every) > 1:
            found.append(Axis(path, tuple(every), start[path]))
    if not found:
        raise failures.InvalidBenchmark("the search space has the start configuration only; add other values")
    return found


def size(found: Sequence[Axis]) -> int:
    """Number of configurations."""
    return math.prod(len(axis.values) for axis in found)


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "default"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _leaves(data: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(name)))
        else:
            yield (*path, str(name)), value


def _values(value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        numbers = axes.numbers(value, where)
        return tuple(int(number) if number == int(number) else number for number in numbers)
    if not isinstance(value, list) or not value:
        raise failures.InvalidBenchmark(f"{where}: is not a list of values or a range, as in [8, 16] or 8:64")
    if not all(item is None or isinstance(item, (str, int, float)) for item in value):
        raise failures.InvalidBenchmark(f"{where}: values are numbers, texts, true, false or null")
    return tuple(_distinct(value))


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Without duplicates; `true` is not 1."""
    return list({(isinstance(value, bool), value): value for value in values}.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
