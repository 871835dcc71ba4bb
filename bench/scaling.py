"""Draws servers beside each other: what `tritonllm bench` measures of each at every step, in turns, as Markdown and PNGs.

    python bench/scaling.py --output scaling NAME=URL NAME=URL … -- --concurrency 1:32 --max-tokens 32 --duration 15

What follows `--` are options of `tritonllm bench sweep` with one axis. The servers run already. Steps that the folder has are
not measured again.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tritonllm.bench import axes, charts, curves, folders, png, results, tables

LATENCIES = results.DISTRIBUTIONS[:3]
Measured = Mapping[str, Sequence[results.Result]]


def main() -> None:
    """Measures, prints a table and writes the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder")
    parser.add_argument("servers", nargs="+", metavar="NAME=URL")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, options = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    servers = dict(each.split("=", 1) for each in given.servers)
    axis = _axis(options)
    if axis is None:
        parser.error("name an axis after --, as in -- --concurrency 1:32")
    at = options.index(f"--{axis.replace('_', '-')}") + 1
    for turn, value in enumerate(axes.numbers(options[at], axis)):
        # Every other turn the other way round, so that a drift of the machine meets all alike.
        for name in [*servers][:: -1 if turn % 2 else 1]:
            step = [*options[:at], f"{value:g}", *options[at + 1 :]]
            # Its exit code is 1 where a request failed; what was answered counts.
            command = [sys.executable, "-m", "tritonllm", "bench", "sweep", servers[name], *step]
            subprocess.run(
                [*command, "--output", str(given.output / name)], check=False, stdout=subprocess.DEVNULL
            )
    measured = {name: _read(given.output / name, axis) for name in servers}
    if not any(measured.values()):
        raise SystemExit("scaling.py: nothing was measured; the reasons are above")
    print("\n".join(_table(axis, measured)))
    for name, chart in _charts(axis, measured).items():
        (given.output / f"{name}.png").write_bytes(png.draw(chart))


def _axis(options: Sequence[str]) -> str | None:
    """The option that has more than one number."""
    for name in curves.AXES:
        option = f"--{name.replace('_', '-')}"
        if option in options and not options[options.index(option) + 1].isdigit():
            return name
    return None


def _read(folder: pathlib.Path, axis: str) -> list[results.Result]:
    found = [folders.read_result(place) for place in folder.glob("points/*")]
    return sorted((each for each in found if each is not None), key=lambda each: each.load[axis])


def _table(axis: str, measured: Measured) -> list[str]:
    heads = [curves.AXES[axis].lower(), "server", "requests/s", "tokens/s"]
    heads += [f"{name}, p50 / p99, ms" for name in ("first token", "between tokens", "request")]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    steps = sorted({each.load[axis] for line in measured.values() for each in line})
    for step in steps:
        for name, line in measured.items():
            for each in line:
                if each.load[axis] == step:
                    rates = (each.rates.get(tag) for tag in ("request_throughput", curves.THROUGHPUT))
                    cells = [f"{step:g}", name, *map(tables.number, rates)]
                    cells += [
                        f"{tables.number(found.get('p50'))} / {tables.number(found.get('p99'))}"
                        for found in (each.distributions.get(metric.tag, {}) for metric in LATENCIES)
                    ]
                    lines.append(f"| {' | '.join(cells)} |")
    return lines


def _charts(axis: str, measured: Measured) -> dict[str, charts.Chart]:
    title, latency = results.RATES[0].title, LATENCIES[2]
    throughput, waiting, against = [], [], []
    for colour, (name, line) in enumerate(measured.items()):
        line = [each for each in line if each.distributions]
        rate = [each.rates[curves.THROUGHPUT] for each in line]
        wait = [each.distributions[latency.tag]["p50"] for each in line]
        steps = [each.load[axis] for each in line]
        throughput.append(charts.Line(name, [(x, y, name) for x, y in zip(steps, rate, strict=True)], colour))
        waiting.append(charts.Line(name, [(x, y, name) for x, y in zip(steps, wait, strict=True)], colour))
        places = [(x, y, name) for x, y in zip(wait, rate, strict=True)]
        against.append(charts.Line(name, places, colour, labels=[f"{step:g}" for step in steps]))
    along = curves.AXES[axis]
    shown = axis.replace("_", "-")
    return {
        f"{shown}-throughput": charts.Chart(title, along, throughput, doubling=True),
        f"{shown}-latency": charts.Chart(f"{latency.title}, p50", along, waiting, doubling=True),
        f"{shown}-pareto": charts.Chart(f"{title} against {latency.title}", f"{latency.title}, p50", against),
    }


if __name__ == "__main__":
    main()
