"""Hundreds of mixed requests at once, on a simulated engine; `make load` does thousands on a real one."""

from __future__ import annotations

import asyncio
import json
import random

from integration import server, traffic

ENDPOINT = f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: busy}}
spec:
  pool: test
  engine: {{type: simulated, args: {{reply: echo, inter_token_seconds: 0.005, max_model_len: 512, max_num_seqs: 64}}}}
  sampling: {{maxTokensLimit: 400}}
  guardrails: {json.dumps(traffic.GUARDRAILS)}
"""


def test_under_mixed_load_every_request_ends_once_as_it_should_and_nothing_stays_behind() -> None:
    with server.running([ENDPOINT]) as served:
        run = traffic.Run(served, "busy", random.Random(1), echo=True)
        asyncio.run(run.many(range(400), 100))
        assert not run.problems
        assert sum(run.ends.values()) == 400
        assert not run.leftovers()
