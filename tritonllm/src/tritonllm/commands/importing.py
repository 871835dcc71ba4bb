"""`tritonllm import`: writes an endpoint for a model, with arguments that fit given GPUs."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonllm.commands import options

if TYPE_CHECKING:
    from tritonllm.sizing import proposal
    from tritonllm.weights import description

_UNITS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti)")


def quantity(text: str | None) -> int | None:
    """Bytes of a quantity with a binary unit, such as `80Gi`."""
    if text is None:
        return None
    found = _QUANTITY.fullmatch(text.strip())
    size = int(float(found[1]) * (1 << _UNITS[found[2]])) if found else 0
    if not size:
        raise typer.BadParameter(
            f"{text} is no amount of memory; write it as 80Gi", param_hint="--gpu-memory"
        )
    return size


GpuMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory of each GPU, such as 80Gi.", show_default="unknown"),
]


def import_(
    source: Annotated[
        str, typer.Argument(metavar="hf:ORG/NAME|DIR", help="Repository of the Hub, or directory of a model.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the endpoint.", show_default="from the model")
    ] = None,
    pool: Annotated[str, typer.Option(help="Name of the pool.")] = "llm",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    gpus: Annotated[int, typer.Option(min=1, max=64, help="GPUs of a pod.")] = 1,
    gpu_memory: GpuMemory = None,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Tokens of prompt and answer.", show_default="what fits")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Quantize when loading, such as fp8.", show_default="the model's own")
    ] = None,
    kv_cache_dtype: Annotated[
        str | None, typer.Option(help="Kind of the KV cache, such as fp8.", show_default="the model's own")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", show_default="standard output")
    ] = None,
    token_file: options.TokenFile = None,
    endpoint_url: options.EndpointUrl = None,
) -> None:
    """Write an endpoint for a model, with engine arguments that fit the GPUs, and say why.

        tritonllm import hf:Qwen/Qwen3-8B --gpus 1 --gpu-memory 80Gi -o chat.yaml

    Of a repository, only descriptions and the headers of its weights are read. The reasons are comments of the file,
    and on standard error. The exit code is 1 if the model does not fit.
    """
    from tritonllm import engines, versions
    from tritonllm.sizing import proposal
    from tritonllm.weights import description, hub, token

    share = engines.TYPES["vllm"].memory_share({}, versions.installed_version())
    wishes = proposal.Wishes(gpus, quantity(gpu_memory), max_model_len, quantization, kv_cache_dtype, share)
    if source.startswith("hf:"):
        repo = source.removeprefix("hf:")
        model: dict[str, Any] = {"repo": repo, "revision": revision}
        _check_name(name or _name(repo))
        _check(model)
        found = description.of_repository(
            hub.Hub(endpoint_url, token.read(token_file, os.environ)), repo, revision
        )
    else:
        directory = Path(source).absolute()
        if not directory.is_dir():
            raise typer.BadParameter(
                f"{source} is no directory; a repository of the Hub is written as hf:ORG/NAME",
                param_hint="the model",
            )
        model = {"path": str(directory)}
        found = description.of_directory(directory)
    proposed = proposal.propose(found.model, wishes, found.template)
    endpoint = _endpoint(name or _name(source), pool, model, found, proposed)
    _check_whole(endpoint)
    text = _text(endpoint, found, proposed)
    for reason in proposed.reasons:
        typer.echo(reason, err=True)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)
    if proposed.fit is not None and proposed.fit.fits is False:
        raise typer.Exit(1)


def _name(source: str) -> str:
    """A name of an endpoint that says which model it is, such as `qwen3-8b`."""
    last = source.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:50].strip("-")


def _endpoint(
    name: str,
    pool: str,
    model: dict[str, Any],
    found: description.Description,
    proposed: proposal.Proposal,
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "pool": pool,
        "model": model,
        "engine": {"type": "vllm", "args": proposed.args},
    }
    if found.template is not None:
        spec["prompt"] = {"format": "Chat"}
    spec["guardrails"] = {}
    return {
        "apiVersion": "tritonllm.io/v1alpha1",
        "kind": "LLMEndpoint",
        "metadata": {"name": name},
        "spec": spec,
    }


def _check_name(name: str) -> None:
    import pydantic

    from tritonllm import schema

    try:
        pydantic.TypeAdapter(schema.Name).validate_python(name)
    except pydantic.ValidationError:
        raise typer.BadParameter(
            f"{name!r} is no name of an endpoint: lower-case letters, digits and `-`, at most 50; give another",
            param_hint="--name",
        ) from None


def _check(model: dict[str, Any]) -> None:
    """Refuses a repository or revision that can't be one, before anybody is asked for it."""
    import pydantic

    from tritonllm import api

    try:
        api.Model(**model)
    except pydantic.ValidationError as error:
        raise typer.BadParameter(
            f"{model['repo']} at {model['revision']}: {error.errors()[0]['msg']}", param_hint="the model"
        ) from None


def _check_whole(endpoint: dict[str, Any]) -> None:
    from tritonllm import files

    _check_name(endpoint["metadata"]["name"])
    _, problems = files.resource(endpoint)
    if problems:
        raise files.Invalid([files.Problem("", path, message) for path, message in problems])


def _text(endpoint: dict[str, Any], found: description.Description, proposed: proposal.Proposal) -> str:
    """The endpoint as YAML, with the reasons before `engine`."""
    import ruamel.yaml

    stream = io.StringIO()
    yaml = ruamel.yaml.YAML()
    yaml.width = 110
    yaml.dump(endpoint, stream)
    comments = [f"  # {reason}\n" for reason in proposed.reasons]
    if found.template is None:
        comments.append("  # prompt.format: not set, because the model has no chat template\n")
    lines = stream.getvalue().splitlines(keepends=True)
    at = lines.index("  engine:\n")
    rules = lines.index("  guardrails: {}\n")
    lines.insert(rules, "  # No rules yet: docs/guardrails.md says which there are.\n")
    if found.commit is not None:
        lines.insert(at, f"  # revision: was commit {found.commit} when it was read\n")
        at += 1
    return "".join([*lines[:at], *comments, *lines[at:]])
