"""Comparisons: the order of turns, ratios with their confidence, and answers that part."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_server
import measured
import scripted_upstream
from tritonllm.bench import answers, comparing, dataset, failures, ratios, results, targets, workload
from tritonllm.gateway import app, stack

PROMPTS = ["one", "two"]


class Servers:
    """Two servers that were not started, B with `factor` times the throughput of A; both get slower as time goes on."""

    def __init__(self, factor: float = 1.2, stop_after: int = 100) -> None:
        self.turns: list[str] = []
        self.starts: list[str] = []
        self._factor, self._stop_after = factor, stop_after
        self._noise = random.Random(1)

    @contextlib.contextmanager
    def serve(self, side: str) -> Iterator[targets.Server]:
        self.starts.append(side)
        yield targets.Server("http://localhost", side, None, None)

    def measure(self, server: targets.Server, folder: Path) -> results.Result:
        self.turns.append(server.model)
        if len(self.turns) > self._stop_after:
            raise KeyboardInterrupt
        drift = 0.9 ** len(self.turns) * self._noise.uniform(0.99, 1.01)
        speed = drift * (self._factor if server.model == "b" else 1)
        result = measured.result(32)
        return dataclasses.replace(
            result, rates={name: value * speed for name, value in result.rates.items()}
        )

    def ask(self, server: targets.Server) -> list[str]:
        return ["the same", "a falcon" if server.model == "a" else "a phoenix"]


def run(folder: Path, servers: Servers, rounds: int = 4) -> tuple[comparing.Comparison, bool]:
    return comparing.run(
        folder, rounds, servers.serve, servers.measure, servers.ask, PROMPTS, lambda text: None
    )


def test_turns_are_a_b_b_a_and_a_server_goes_on_between_two_of_its_turns(tmp_path: Path) -> None:
    run(tmp_path, servers := Servers())
    assert "".join(servers.turns) == "abbaabba"
    assert "".join(servers.starts) == "ababa"


def test_a_difference_is_seen_through_a_drift_and_none_is_where_there_is_none(tmp_path: Path) -> None:
    for factor in (1.2, 1.0):
        found, _ = run(tmp_path, Servers(factor))
        throughput = found.ratios[0]
        assert throughput.title == "Output token throughput (tokens/s)"
        assert throughput.low < factor < throughput.high
        # The drift between the two turns of a round is 10 %, of alternating sign.
        assert throughput.ratio == pytest.approx(factor, rel=0.02)


def test_the_interval_is_that_of_the_paired_t_test_on_logarithms() -> None:
    def scaled(factor: float) -> results.Result:
        return dataclasses.replace(measured.result(1), rates={"output_token_throughput": factor})

    pairs = [(scaled(100), scaled(100 * math.exp(each))) for each in (0.1, 0.2, 0.3)]
    found = ratios.of(pairs)[0]
    # The mean is 0.2, the standard deviation 0.1, the quantile for 2 degrees of freedom 4.303.
    half = 4.303 * 0.1 / math.sqrt(3)
    assert found.ratio == pytest.approx(math.exp(0.2))
    assert (found.low, found.high) == pytest.approx((math.exp(0.2 - half), math.exp(0.2 + half)))


def test_one_round_has_a_ratio_and_no_interval(tmp_path: Path) -> None:
    found, _ = run(tmp_path, Servers(), rounds=1)
    assert math.isnan(found.ratios[0].low)
    assert json.loads((tmp_path / comparing.RESULT).read_text())["ratios"][0]["low"] is None


def test_ctrl_c_keeps_the_rounds_that_both_have(tmp_path: Path) -> None:
    found, stopped = run(tmp_path, Servers(stop_after=5))
    assert (len(found.rounds), stopped) == (2, True)
    assert len(json.loads((tmp_path / comparing.RESULT).read_text())["rounds"]) == 2


def test_a_server_that_answers_nothing_ends_the_comparison(tmp_path: Path) -> None:
    servers = Servers()
    dead = results.parse({}, None, [], None)
    with pytest.raises(failures.BenchmarkFailed, match="round 1, A: no request succeeded"):
        comparing.run(tmp_path, 2, servers.serve, lambda server, folder: dead, servers.ask, PROMPTS, lambda text: None)  # fmt: skip


def test_answers_are_compared_and_the_first_that_part_are_shown(tmp_path: Path) -> None:
    found, _ = run(tmp_path, Servers(), rounds=1)
    said = comparing.text(found)
    assert "1 of 2 equal; on average 61% of an answer is equal from its start" in said
    assert "'two', from character 2:" in said
    assert "A 'a ⟨falcon⟩'" in said
    assert "B 'a ⟨phoenix⟩'" in said


def test_a_longer_answer_parts_at_the_end_of_the_shorter() -> None:
    found = answers.agreement(["q"], ["x" * 100], ["x" * 100 + "y" * 100])
    assert (found.equal, found.prefix, found.divergences[0].at) == (0, 0.5, 100)
    assert found.divergences[0].b == f"…{'x' * 40}⟨{'y' * 40}⟩…"
    assert answers.agreement(["q"], [""], [""]).prefix == 1


@pytest.fixture(scope="module")
def server() -> Iterator[targets.Server]:
    script = [scripted_upstream.piece("Hel"), scripted_upstream.end("lo")]
    upstream = scripted_upstream.ScriptedUpstream(script)
    with gateway_server.serve(stack.build(app.create_app(upstream), upstream, stack.Settings())) as served:
        yield targets.Server(served.url, "chat", None, None)


@pytest.mark.parametrize("api", [workload.Api.chat, workload.Api.completions])
def test_answers_are_those_of_the_gateway(server: targets.Server, api: workload.Api) -> None:
    found = answers.ask(server, workload.Workload(api=api), [answers.Asked("Hello", 5)] * 2)
    assert found == ["Hello", "Hello"]


def test_a_request_that_is_refused_is_one_sentence(server: targets.Server) -> None:
    with pytest.raises(failures.BenchmarkFailed, match=r"/v1/chat/completions answers 404 Not Found: .*cat"):
        answers.ask(server._replace(model="cat"), workload.Workload(), [answers.Asked("Hello", 5)])


def test_prompts_of_a_dataset_are_those_that_are_asked(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b", "output_length": 3}\n')
    assert dataset.texts(file) == ["a", "b"]
