"""The operator's process: connects to the cluster, waits until it leads, watches, and ends in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys

import kopf
import prometheus_client
from kubernetes.aio import client, config

from tritonllm import addresses
from tritonllm_operator import election, handlers, health, kube, settings, workers


def main() -> None:
    """Runs until a signal ends it."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    # Each event of each endpoint; our own lines say what came of it.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # Lists of thousands of objects come and go by their reference counts. With Python's thresholds of 700, 10 and 10, a
    # quarter of a pass was the search for cycles among them.
    gc.set_threshold(20_000, 20, 100)
    try:
        chosen = settings.read()
    except settings.Mistake as error:
        print(f"tritonllm-operator: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        asyncio.run(run(chosen))
    except asyncio.CancelledError:
        # A signal, while another operator led.
        pass
    except config.ConfigException as error:
        sys.exit(f"tritonllm-operator: there is no cluster to talk to: {error}")
    except election.Lost as error:
        sys.exit(f"tritonllm-operator: {error}")


async def run(chosen: settings.Settings) -> None:
    """Runs the operator; signals end it.

    Args:
        chosen: what the environment says.

    Raises:
        config.ConfigException: it runs neither in a pod nor with a kubeconfig.
        election.Lost: it leads no more.
    """
    running = asyncio.current_task()
    assert running is not None
    # Until kopf has handlers of its own. The first process of a container has none by default.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    # Of all: the election's and the pools' requests, and kopf's watches.
    login = client.Configuration()
    await config.load_config(client_configuration=login)
    prometheus_client.start_http_server(chosen.metrics_port, addr=addresses.available(addresses.ANY))
    async with client.ApiClient(login) as connection:
        pools = workers.Workers(kube.Kube(connection), chosen.resync_seconds)
        async with health.answering(chosen.health_port, pools.seconds_waiting):
            if chosen.lease is not None:
                await election.leading(
                    connection, chosen.lease, chosen.identity, lambda: _act(chosen, pools, login)
                )
            else:
                await _act(chosen, pools, login)


async def _act(chosen: settings.Settings, pools: workers.Workers, login: client.Configuration) -> None:
    clusterwide = not chosen.namespaces
    # Should one of the two tasks fail, the other is of no use: the pod is then restarted.
    async with asyncio.TaskGroup() as group:
        group.create_task(pools.run())
        await kopf.operator(
            registry=handlers.registry,
            namespaces=chosen.namespaces,
            clusterwide=clusterwide,
            standalone=True,
            memo=kopf.Memo(workers=pools, login=login, clusterwide=clusterwide),
        )
        await pools.stop()


if __name__ == "__main__":
    main()
