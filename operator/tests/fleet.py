"""Many pools at once, as another operator has left them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

import model_control
import pool


def phrases(number: int) -> list[str]:
    """A policy like those of users: some phrases, of which no two endpoints have the same."""
    return [f"forbidden phrase {number}-{each}" for each in range(10)]


@contextlib.contextmanager
def of(
    client: httpx.Client,
    namespaces: Sequence[str],
    grid: model_control.Tritons,
    pools: int,
    endpoints: int,
    pods: int = 3,
) -> Iterator[list[pool.Pool]]:
    """Pools in turn in the namespaces.

    Args:
        client: of the API server.
        namespaces: where.
        grid: where the pods' Tritons run.
        pools: how many.
        endpoints: of each.
        pods: of each.
    """
    made = [
        pool.Pool(client, namespaces[number % len(namespaces)], grid, f"pool-{number}", pods)
        for number in range(pools)
    ]

    def leave(numbered: tuple[int, pool.Pool]) -> None:
        number, each = numbered
        each.as_left(
            *(
                pool.endpoint(f"{each.pool}-{count}", pool=each.pool, phrases=phrases(1000 * number + count))
                for count in range(endpoints)
            ),
            told=True,
        )

    with ThreadPoolExecutor(8) as threads:
        try:
            list(threads.map(leave, enumerate(made)))
            yield made
        finally:
            list(threads.map(pool.Pool.close, made))
