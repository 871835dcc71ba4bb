"""Two servers beside each other: the same work in turns, A B B A, so that a drift of the machine meets both alike."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tritonllm.bench import answers, failures, folders, ratios, results, tables, targets

RESULT = "compare.json"
_SIDES = ("a", "b")
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is known of two servers.

    Attributes:
        rounds: results of A and B.
        ratios: of the metrics.
        agreement: of the answers; None if they were not asked, or not both.
    """

    rounds: Sequence[tuple[results.Result, results.Result]]
    ratios: Sequence[ratios.Ratio]
    agreement: answers.Agreement | None


def turns(rounds: int) -> list[tuple[int, str]]:
    """The turns in their order, as round and side: the first side of a round is the last one of the round before."""
    return [(number, side) for number in range(rounds) for side in _SIDES[:: -1 if number % 2 else 1]]


def run(
    folder: Path,
    rounds: int,
    serve: Callable[[str], contextlib.AbstractContextManager[targets.Server]],
    measure: Callable[[targets.Server, Path], results.Result],
    ask: Callable[[targets.Server], list[str]],
    prompts: Sequence[str],
    say: Callable[[str], None],
) -> tuple[Comparison, bool]:
    """Measures both servers in turns; what is known is written after each round.

    Args:
        folder: for the results.
        rounds: in each of which both are measured once.
        serve: makes a side, `a` or `b`, answer for the block. Between two turns of one side it goes on.
        measure: measures a server and writes its result into a folder.
        ask: the answers of a server to the prompts.
        prompts: of the answers; empty for none.
        say: tells of progress.

    Returns:
        What is known, and whether Ctrl-C ended it.

    Raises:
        failures.BenchmarkFailed: a turn has no result, or a server does not answer.
    """
    measured: dict[tuple[int, str], results.Result] = {}
    said: dict[str, list[str]] = {}
    stopped = False
    try:
        for side, group in _groups(turns(rounds)):
            with serve(side) as server:
                if prompts and side not in said:
                    say(f"{side.upper()}: {len(prompts)} answers at temperature 0")
                    said[side] = ask(server)
                for number in group:
                    say(f"Round {number + 1} of {rounds}: {side.upper()}")
                    result = measure(server, folder / "rounds" / str(number + 1) / side)
                    if not result.complete:
                        raise KeyboardInterrupt
                    _check(result, f"round {number + 1}, {side.upper()}")
                    measured[number, side] = result
                    _write(folder, _known(measured, said, prompts))
    except KeyboardInterrupt:
        stopped = True
    return _known(measured, said, prompts), stopped


def text(found: Comparison) -> str:
    """The comparison for people."""
    lines: list[str] = []
    if found.ratios:
        cells = [["", "A", "B", "B / A", "95 % interval"]]
        for each in found.ratios:
            interval = "-" if math.isnan(each.low) else f"{each.low:.3f} to {each.high:.3f}"
            shown = [each.title, tables.number(each.a), tables.number(each.b), f"{each.ratio:.3f}", interval]
            cells.append(shown)
        lines += tables.aligned(cells)
        lines.append(f"{len(found.rounds)} rounds; where the interval has 1 in it, no difference was seen.")
    failed = {side: sum(pair[n].failed for pair in found.rounds) for n, side in enumerate("AB")}
    lines += [f"{side}: {count} requests failed" for side, count in failed.items() if count]
    if (agreed := found.agreement) is not None:
        lines.append(
            f"Answers at temperature 0: {agreed.equal} of {agreed.prompts} equal;"
            f" on average {agreed.prefix:.0%} of an answer is equal from its start."
        )
        for each in agreed.divergences[:_SHOWN]:
            lines += [
                f"  {each.prompt[:70]!r}, from character {each.at}:",
                f"    A {each.a!r}",
                f"    B {each.b!r}",
            ]
    return "\n".join(lines)


def _groups(order: Sequence[tuple[int, str]]) -> Iterator[tuple[str, list[int]]]:
    """The turns of one side that follow each other, with which its server is started once."""
    group: list[int] = []
    for at, (number, side) in enumerate(order):
        group.append(number)
        if at + 1 == len(order) or order[at + 1][1] != side:
            yield side, group
            group = []


def _check(result: results.Result, where: str) -> None:
    if not result.succeeded:
        reason = (
            f"{result.errors[0].kind}: {result.errors[0].message}" if result.errors else "no reason is known"
        )
        raise failures.BenchmarkFailed(f"{where}: no request succeeded ({reason})")


def _known(
    measured: dict[tuple[int, str], results.Result], said: dict[str, list[str]], prompts: Sequence[str]
) -> Comparison:
    numbers = sorted({number for number, _ in measured})
    rounds = [
        (measured[number, "a"], measured[number, "b"])
        for number in numbers
        if (number, "a") in measured and (number, "b") in measured
    ]
    agreed = answers.agreement(prompts, said["a"], said["b"]) if len(said) == len(_SIDES) else None
    return Comparison(rounds, ratios.of(rounds), agreed)


def _write(folder: Path, found: Comparison) -> None:
    agreed = found.agreement
    content: dict[str, Any] = {
        "rounds": [[result.encoded() for result in pair] for pair in found.rounds],
        "ratios": [
            {
                name: None if isinstance(value, float) and math.isnan(value) else value
                for name, value in each._asdict().items()
            }
            for each in found.ratios
        ],
        "answers": None
        if agreed is None
        else agreed._asdict() | {"divergences": [each._asdict() for each in agreed.divergences]},
    }
    folders.write(folder / RESULT, json.dumps(content, indent=2, ensure_ascii=False))
