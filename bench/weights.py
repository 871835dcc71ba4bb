"""What a verified download costs beside huggingface_hub's own, and what a warm start costs.

Both fetch the same files from the same local hub into a fresh directory, each in a process of its own, and take
turns, so that the ratio holds when the machine's speed drifts. Ours compares every digest and has every file on the
disk in the end; `snapshot_download` does neither, so it is measured once more with what puts its files there.
Where the disk decides, `TMPDIR=/dev/shm` shows what is left without one.

    python bench/weights.py [--rounds 5] [--size 2000] [--shards 4]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import huggingface_hub

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tritonllm" / "tests"))

import hub_server

REPO = "bench/model"
ENDPOINT = f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: bench}}
spec:
  pool: bench
  model: {{repo: {REPO}}}
  engine: {{type: vllm}}
  guardrails: {{}}
"""
WARM_ROUNDS = 21
THEIRS = """
import os, sys, huggingface_hub
for parent, _, names in os.walk(huggingface_hub.snapshot_download(sys.argv[1], cache_dir=sys.argv[2])):
    for name in names if "synced" in sys.argv else ():
        descriptor = os.open(os.path.join(parent, name), os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
"""


@dataclass(frozen=True)
class Spent:
    """What a process took.

    Attributes:
        seconds: from its start to its end.
        processor_seconds: of all its threads, system calls included.
        peak: of its memory, in bytes.
    """

    seconds: float
    processor_seconds: float
    peak: int


def spend(command: list[str], environment: dict[str, str]) -> Spent:
    """Runs a command to its end."""
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        raise SystemExit(f"{command} failed: {said.decode(errors='replace')[-2000:]}")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def make(directory: pathlib.Path, size: int, shards: int) -> dict[str, bytes | pathlib.Path]:
    """A model in shards of random bytes on the disk.

    Args:
        directory: for the files.
        size: bytes of all shards together.
        shards: how many.
    """
    block = os.urandom(1 << 24)
    files: dict[str, bytes | pathlib.Path] = {"config.json": b"{}", "tokenizer.json": b"{}" * 1_000_000}
    for number in range(shards):
        path = directory / f"model-{number:05}.safetensors"
        tensors = size // shards
        entry = {"dtype": "U8", "shape": [tensors], "data_offsets": [0, tensors]}
        header = json.dumps({f"layer{number}": entry}).encode()
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for start in range(0, tensors, len(block)):
                file.write(block[: tensors - start])
        files[path.name] = path
    return files


def main() -> None:
    """Prints two markdown tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--size", type=int, default=2000, help="megabytes of weights")
    parser.add_argument("--shards", type=int, default=4, help="files that they are in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tritonllm-bench-") as name, hub_server.HubServer() as hub:
        directory = pathlib.Path(name)
        hub.add(REPO, make(directory, options.size * 1_000_000, options.shards))
        endpoint = directory / "endpoint.yaml"
        endpoint.write_text(ENDPOINT)
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(directory / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        cache = str(directory / "cache")
        sync = ["-m", "tritonllm", "weights", "sync", "--endpoints", str(endpoint), "--cache", cache]
        print(
            f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
            f" huggingface_hub {huggingface_hub.__version__}; {options.size} MB in {options.shards} files\n"
        )
        theirs = ["-c", THEIRS, REPO, cache]
        commands = {
            "tritonllm weights sync": sync,
            "snapshot_download": theirs,
            "snapshot_download, synced": [*theirs, "synced"],
        }
        downloads(cache, commands, environment, options.rounds)
        spend([sys.executable, *sync], environment)
        warm(sync, str(endpoint), environment)


def downloads(cache: str, commands: dict[str, list[str]], environment: dict[str, str], rounds: int) -> None:
    """Measures all into an empty cache, in turns, and prints a row each; the ratios are the first one's to it."""
    turns: list[list[Spent]] = []
    for turn in range(rounds + 1):
        spent = []
        for arguments in commands.values():
            shutil.rmtree(cache, ignore_errors=True)
            # What one leaves to be written is not for the next one to wait for.
            os.sync()
            spent.append(spend([sys.executable, *arguments], environment))
        # The first turn warms up the files that are served.
        turns += [spent] if turn else []
    shutil.rmtree(cache)
    print(f"Medians of {rounds} turns each, into an empty cache; targets: ratio 1.15, memory 200 MB.\n")
    print("| | seconds | processor seconds | peak memory | ratio of ours to it | lowest to highest ratio |")
    print("|---|---|---|---|---|---|")
    for index, name in enumerate(commands):
        mine = [turn[index] for turn in turns]
        ratios = [turn[0].seconds / turn[index].seconds for turn in turns]
        shown = (f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}")
        print(
            f"| {name} | {statistics.median(one.seconds for one in mine):.2f}"
            f" | {statistics.median(one.processor_seconds for one in mine):.2f}"
            f" | {max(one.peak for one in mine) / 1e6:.0f} MB | {' | '.join(shown if index else ('', ''))} |",
            flush=True,
        )


def warm(sync: list[str], endpoint: str, environment: dict[str, str]) -> None:
    """Measures a sync that finds everything, beside what only reads the same file, and what does nothing."""
    commands = [sync, ["-m", "tritonllm", "validate", endpoint], ["-c", "pass"]]
    turns = [
        [spend([sys.executable, *arguments], environment) for arguments in commands]
        for _ in range(WARM_ROUNDS)
    ]
    print(
        f"\nMedians of {WARM_ROUNDS} turns each, everything complete; target: 100 ms beyond the bare one.\n"
    )
    print("| | milliseconds | beyond the bare one | processor milliseconds |")
    print("|---|---|---|---|")
    bare = statistics.median(turn[-1].seconds for turn in turns)
    for index, name in enumerate(("tritonllm weights sync", "tritonllm validate", "bare interpreter")):
        seconds = statistics.median(turn[index].seconds for turn in turns)
        processor = statistics.median(turn[index].processor_seconds for turn in turns)
        print(f"| {name} | {seconds * 1000:.0f} | {(seconds - bare) * 1000:.0f} | {processor * 1000:.0f} |")


if __name__ == "__main__":
    main()
