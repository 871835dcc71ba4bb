"""What tests with pools can ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import crds
import model_control
import pool
from api_server import ApiServer


@pytest.fixture(scope="session")
def client(api_server: ApiServer) -> Iterator[httpx.Client]:
    """An administrator's connection to an API server that knows LLMEndpoints."""
    with api_server.client() as client:
        crds.install(client)
        yield client


@pytest.fixture(scope="session")
def tritons() -> Iterator[model_control.Tritons]:
    """Where the pods' Tritons run."""
    with model_control.running() as tritons:
        yield tritons


@pytest.fixture
def make_pool(
    client: httpx.Client, tritons: model_control.Tritons, namespace: str
) -> Iterator[Callable[..., pool.Pool]]:
    """Makes pools in the test's namespace."""
    made: list[pool.Pool] = []

    def make(**options: Any) -> pool.Pool:
        made.append(pool.Pool(client, namespace, tritons, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def llm(make_pool: Callable[..., pool.Pool]) -> pool.Pool:
    """A pool of two pods, not yet installed."""
    return make_pool()


@pytest.fixture(scope="session")
def everywhere(
    api_server: ApiServer, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pool.Operator]:
    """One operator for the whole cluster. It resyncs rarely: what it does it does because of events."""
    with pool.operating(api_server, tmp_path_factory.mktemp("operator")) as operator:
        yield operator


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pool.Operator]:
    """The operator of a module's tests. It resyncs rarely: what it does it does because of events."""
    with pool.operating(api_server, tmp_path_factory.mktemp("operator"), resync=600) as operator:
        yield operator
