"""One measurement: runs AIPerf and reads what it has written."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tritonllm.bench import (
    aiperf,
    dataset,
    failures,
    folders,
    gpu_use,
    processes,
    results,
    tables,
    targets,
    verdicts,
    workload,
)

PROGRAM = "TRITONLLM_AIPERF"
"""Environment variable: AIPerf's program, where it is not on the PATH."""


def program() -> str:
    """AIPerf's program.

    Raises:
        failures.BenchmarkFailed: it is not installed.
    """
    wanted = os.environ.get(PROGRAM)
    beside = os.path.dirname(sys.executable)
    found = (
        shutil.which(wanted)
        if wanted
        else shutil.which("aiperf", path=f"{beside}:{os.environ.get('PATH', '')}")
    )
    if found is None:
        raise failures.BenchmarkFailed(
            f"{PROGRAM} names {wanted}, which is no program"
            if wanted
            else f"AIPerf is not installed, which generates the load; install it with {aiperf.INSTALL}"
        )
    return found


def prepared_dataset(file: Path, folder: Path, entries: int | None = None) -> Path:
    """The prompts of a file, in a file that AIPerf reads.

    Args:
        file: of prompts; see `dataset.converted`.
        folder: for the other file.
        entries: number of prompts, the first ones; None has all.

    Raises:
        failures.InvalidBenchmark: the file cannot be read, or a line of it.
        OSError: the folder cannot be written.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            found = [
                json.dumps(entry) for entry in itertools.islice(dataset.converted(lines, str(file)), entries)
            ]
    except OSError as error:
        raise failures.InvalidBenchmark(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise failures.InvalidBenchmark(f"{file}: is not UTF-8 text") from None
    prompts = folder / "prompts.jsonl"
    folders.write(prompts, "\n".join(found) + "\n")
    return prompts.absolute()


def measure(
    server: targets.Server, tokenizer: str, asked: workload.Workload, point: workload.Point, folder: Path
) -> results.Result:
    """Runs one measurement, and writes its result into the folder.

    Ctrl-C ends it early; the result is that of the requests until then, and not `complete`.

    Args:
        server: who is asked.
        tokenizer: see `workload.Target`.
        asked: what is asked.
        point: how much of it.
        folder: for the result; `aiperf/` below it is removed first.

    Raises:
        failures.BenchmarkFailed: there is no result.
        KeyboardInterrupt: Ctrl-C came twice, or before the first answer.
    """
    generator = program()
    target = workload.Target(server.url, server.model, tokenizer)
    output = folder / "aiperf"
    shutil.rmtree(output, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    asked = _with_entries(asked, point, folder)
    progress = sys.stderr.isatty()
    config = None
    if asked.api is not workload.Api.triton and os.environ.get(aiperf.API_KEY):
        config = (folder / "aiperf.yaml").absolute()
        folders.write(config, aiperf.config(asked, point))
    command = aiperf.command(
        generator, target, asked, point, output.absolute(), progress=progress, config=config
    )
    before = _counts(server)
    log = folder / "aiperf.log"
    with (
        _sampled(server.url) as sampler,
        processes.running(
            command, aiperf.environment(os.environ, tokenizer), log, progress=progress
        ) as process,
    ):
        stopped = processes.interrupted(process)
    records = list(_records(output / results.RECORDS))
    if not records:
        if stopped:
            raise KeyboardInterrupt
        raise failures.BenchmarkFailed(_without_result(log, tokenizer, process.returncode))
    after = _counts(server)
    did = None if before is None or after is None else verdicts.between(before, after)
    summary = _summary(output / results.SUMMARY)
    result = results.parse(point.described(), summary, records, did, stopped=stopped)
    result = dataclasses.replace(result, gpu=sampler.use() if sampler else None)
    if result.succeeded and summary is None and not stopped:
        raise failures.BenchmarkFailed(_without_result(log, tokenizer, process.returncode))
    folders.write_result(folder, result)
    folders.write(folder / "result.csv", tables.to_csv([result]))
    return result


def _with_entries(asked: workload.Workload, point: workload.Point, folder: Path) -> workload.Workload:
    """The workload with those prompts of its dataset that the point asks for, in a file of the folder."""
    if asked.dataset is None or point.dataset_entries is None:
        return asked
    with asked.dataset.open(encoding="utf-8") as lines:
        chosen = "".join(itertools.islice(lines, point.dataset_entries))
    prompts = folder / "prompts.jsonl"
    folders.write(prompts, chosen)
    return dataclasses.replace(asked, dataset=prompts.absolute())


def _without_result(log: Path, tokenizer: str, code: int | None) -> str:
    """Why there is no result, in a sentence."""
    if folders.full(log.parent):
        return f"AIPerf has no result, because the disk of {log.parent} is full; make room, or name another --output"
    if said := aiperf.reason(log.read_text(errors="replace"), tokenizer):
        return f"AIPerf has no result: {said}; its log is {log}"
    return f"AIPerf has no result (exit code {code}); its log is {log}:{processes.last_lines(log)}"


@contextlib.contextmanager
def _sampled(url: str) -> Iterator[gpu_use.Sampler | None]:
    """What samples the GPUs of the server for the block; None where there are none, or they are elsewhere."""
    with gpu_use.nvml() as read:
        if read is None or not gpu_use.is_local(url):
            yield None
            return
        with gpu_use.Sampler(read) as sampler:
            yield sampler


def _summary(file: Path) -> Mapping[str, Any] | None:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        # Half written: the disk is full, or AIPerf was killed.
        return None


def _records(file: Path) -> Iterator[Mapping[str, Any]]:
    # A last line that was being written when AIPerf was ended is no request.
    with contextlib.suppress(FileNotFoundError), file.open(encoding="utf-8") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _counts(server: targets.Server) -> Mapping[tuple[str, str, str], int] | None:
    """What the rules have done until now; None if that is not known."""
    if server.metrics is None:
        return None
    try:
        return verdicts.counts(targets.fetch(server.metrics).decode(), server.model)
    except (OSError, ValueError) as error:
        print(f"warning: what the rules did is not known: {server.metrics}: {error}", file=sys.stderr)
        return None
