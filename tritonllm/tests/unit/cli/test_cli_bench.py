"""`tritonllm bench`: what keeps it from running is said in one sentence, before anything is started."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.testing

import fake_upstream
import gateway_server
from tritonllm import cli
from tritonllm.bench import summary
from tritonllm.gateway import app, stack

TWO = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  engine: {{type: simulated}}
  guardrails: {{}}
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    upstream = fake_upstream.FakeUpstream("chat", "code")
    with gateway_server.serve(stack.build(app.create_app(upstream), upstream, stack.Settings())) as served:
        yield served.url


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A load generator that makes no load and has no result.
    monkeypatch.setenv("TRITONLLM_AIPERF", "true")


def bench(*arguments: str | Path) -> tuple[int, str]:
    result = typer.testing.CliRunner().invoke(cli.app, ["bench", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_a_server_that_does_not_answer_is_named() -> None:
    code, said = bench("http://127.0.0.1:9")
    assert code == 1
    assert re.fullmatch(
        r"tritonllm: http://127\.0\.0\.1:9 does not answer: .*; does the server run\?\n", said
    )


def test_a_server_that_is_no_gateway_is_named(url: str) -> None:
    code, said = bench(f"{url}/health")
    assert (code, "answers 404 Not Found; give the URL of the gateway" in said) == (1, True)


def test_a_model_that_the_server_has_not_is_named_with_those_that_it_has(url: str) -> None:
    assert bench(url, "--model", "cat") == (2, f"{url} has no model cat; it has: chat, code\n")
    assert bench(url) == (2, f"{url} has 2 models (chat, code); name one with --model\n")


def test_a_server_whose_models_are_not_ready_is_told() -> None:
    upstream = fake_upstream.FakeUpstream()
    with gateway_server.serve(stack.build(app.create_app(upstream), upstream, stack.Settings())) as served:
        assert bench(served.url) == (
            1,
            f"tritonllm: {served.url} has no model that is ready; is one still being loaded?\n",
        )


def test_the_url_may_end_in_v1(url: str) -> None:
    code, said = bench(f"{url}/v1/", "--model", "cat")
    assert (code, said) == (2, f"{url} has no model cat; it has: chat, code\n")


def test_endpoints_of_a_file_are_checked_before_it_is_served(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("---".join(TWO.format(name=name) for name in ("one", "two")))
    assert bench(file) == (2, f"{file} has 2 models (one, two); name one with --model\n")
    assert bench(file, "--model", "three") == (2, f"{file} has no model three; it has: one, two\n")
    code, said = bench("nothing.yaml")
    assert (code, said) == (2, "nothing.yaml: cannot be read: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slo", "ttft=fast"], "`ttft=fast` is not an objective"),
        (["--extra", "{"], "--extra: is not JSON"),
        (["--extra", "[]"], "--extra: is not an object"),
        (["--api", "responses"], "--api: is chat, completions or triton"),
        (["--dataset", "none.jsonl"], "none.jsonl: No such file or directory"),
        (["--dataset", "broken.jsonl"], "broken.jsonl:2: is not JSON"),
        (["--dataset", "latin1.jsonl"], "latin1.jsonl: is not UTF-8 text"),
        (["--dataset", "broken.jsonl", "--input-tokens", "5"], "--input-tokens: the prompts of a dataset"),
    ],
)
def test_options_that_cannot_be_followed_are_named(url: str, arguments: list[str], said: str) -> None:
    Path("broken.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    Path("latin1.jsonl").write_bytes(b'{"prompt": "\xe4"}\n')
    code, found = bench(url, "--model", "chat", *arguments)
    assert code == 2
    assert found.splitlines()[-1].startswith(said)


def test_a_sweep_needs_an_axis_and_axes_are_numbers(url: str) -> None:
    code, said = bench("sweep", url, "--model", "chat")
    assert (code, "name at least one axis" in said) == (2, True)
    code, said = bench("sweep", url, "--model", "chat", "--concurrency", "1-8")
    assert code == 2
    assert said.startswith("--concurrency: `1-8` is not a number or a range")


def test_the_number_of_prompts_is_an_axis_of_which_each_point_has_its_own(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "{n}"}}\n' for n in range(9)))
    program = tmp_path / "aiperf"
    program.write_text('#!/bin/sh\nwhile [ "$1" != --input-file ]; do shift; done\nwc -l < "$2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("TRITONLLM_AIPERF", str(program))
    bench("sweep", url, "--model", "chat", "--dataset", "prompts.jsonl", "--dataset-entries", "2,4", "--output", "results")  # fmt: skip
    (log,) = Path("results/points").glob("*/aiperf.log")
    assert (log.parent.name, log.read_text()) == ("concurrency-16-dataset-entries-2", "2\n")
    assert len(Path("results/prompts.jsonl").read_text().splitlines()) == 9


def test_a_sweep_leaves_a_termination_message_that_grows_with_each_point(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Path(__file__).parents[1] / "benchmarking" / "recorded"
    program = tmp_path / "aiperf"
    # The third time it has no result.
    program.write_text(f"""#!/bin/sh
while [ "$1" != --artifact-dir ]; do shift; done
echo >> {tmp_path}/times
[ $(wc -l < {tmp_path}/times) = 3 ] && exit 1
mkdir -p "$2" && cp {recorded}/*.json* "$2"
""")
    program.chmod(0o755)
    monkeypatch.setenv("TRITONLLM_AIPERF", str(program))
    file = tmp_path / "termination-log"
    bench("sweep", url, "--model", "chat", "--concurrency", "1,2,4", "--output", "results", "--termination-message", file)  # fmt: skip
    found = summary.points(file.read_text()) or []
    assert [point["concurrency"] for point in found] == [1, 2]
    assert all(point["succeeded"] and point["latencyP99Ms"] for point in found)


def test_repeats_of_another_load_are_not_mixed(url: str) -> None:
    Path("results").mkdir()
    Path("results/repeats.json").write_text('{"load": {"concurrency": 1}}')
    code, said = bench(url, "--model", "chat", "--repeats", "2", "--output", "results")
    assert (code, said.splitlines()[-1].startswith("results has repeats with another ")) == (2, True)
    assert "load" in said


def test_triton_is_asked_whether_the_model_is_ready(url: str) -> None:
    code, said = bench(url, "--api", "triton")
    assert (code, said) == (2, "--model: Triton does not list its models; name one\n")
    code, said = bench(url, "--api", "triton", "--model", "chat")
    assert code == 1
    assert f"{url}/v2/models/chat/ready answers 404" in said
    assert "is this Triton's HTTP port, and the model loaded?" in said
    code, said = bench("http://127.0.0.1:9", "--api", "triton", "--model", "chat")
    assert (code, "does the server run?" in said) == (1, True)


def test_both_sides_of_a_comparison_are_checked_before_one_is_asked(url: str) -> None:
    assert bench("compare", url, "nothing.yaml", "--model", "chat") == (
        2,
        "nothing.yaml: cannot be read: No such file or directory\n",
    )
    assert bench("compare", url, url, "--model", "chat", "--model-b", "cat") == (
        2,
        f"{url} has no model cat; it has: chat, code\n",
    )
    assert not list(Path().glob("compare-*"))


def test_a_folder_that_cannot_be_written_is_named(url: str) -> None:
    Path("file").write_text("")
    code, said = bench(url, "--model", "chat", "--output", "file/folder")
    assert (code, "file/folder" in said) == (1, True)


def test_no_load_generator_is_a_sentence_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONLLM_AIPERF", "/nowhere/aiperf")
    assert bench("http://127.0.0.1:9") == (
        1,
        "tritonllm: TRITONLLM_AIPERF names /nowhere/aiperf, which is no program\n",
    )
    monkeypatch.delenv("TRITONLLM_AIPERF")
    monkeypatch.setenv("PATH", "/nowhere")
    code, said = bench("http://127.0.0.1:9")
    assert (code, "pip install 'tritonllm[bench]'" in said) == (1, True)


def test_pictures_without_what_draws_them_are_refused_before_anything_is_measured(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, said = bench("sweep", url, "--model", "chat", "--concurrency", "1", "--png")
    assert (code, "matplotlib is not installed" in said, "pip install matplotlib" in said) == (1, True, True)
    assert not list(Path().glob("sweep-*"))


def test_a_load_generator_without_a_result_is_a_failure_with_its_log(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "aiperf"
    broken.write_text("#!/bin/sh\necho cannot load the tokenizer\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("TRITONLLM_AIPERF", str(broken))
    code, said = bench(url, "--model", "chat", "--output", "results")
    assert code == 1
    assert f"AIPerf has no result (exit code 3); its log is results{os.sep}aiperf.log:" in said
    assert said.endswith("    cannot load the tokenizer\n")


def test_a_full_disk_is_the_reason_and_not_what_the_load_generator_says_of_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    code, said = bench(url, "--model", "chat", "--output", "results")
    assert code == 1
    assert said.splitlines()[-1] == (
        "tritonllm: AIPerf has no result, because the disk of results is full; make room, or name another --output"
    )
