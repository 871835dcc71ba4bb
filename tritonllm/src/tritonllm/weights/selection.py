"""Which files of a repository serving needs: weights in one safe format, what describes them, and no more."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tritonllm.weights import failures

Format = Literal["safetensors", "pickle"]
Layout = Literal["hf", "mistral", "both"]
"""How a repository of Mistral AI has its weights: as all others do, in Mistral's own way, or what serves both."""

_SAFETENSORS = ("*.safetensors",)
# In the order of preference of vLLM's loader, the second only where there is nothing of the first; then scikit-learn's.
_PICKLES = (("*.bin",), ("*.pt", "*.pth"), ("*.joblib",))
# What training leaves beside the weights under the same endings; vLLM's loader skips them as well.
_NO_WEIGHTS = ("training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "random_states*")
# Mistral's own layout: the same weights once more. Taken only where there are no others, or where vLLM is to read them.
_CONSOLIDATED = ("consolidated*.safetensors",)
# Source: https://docs.mistral.ai/guides/tokenization; tekken.json and params.json are among the descriptions.
_MISTRAL_TOKENIZERS = ("tokenizer*.model.v*",)
# What PEFT writes (https://huggingface.co/docs/peft/developer_guides/checkpoint): an adapter is these two files.
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_ADAPTER_WEIGHTS = "adapter_model.*"
_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "additional_chat_templates/*.jinja")
_INDEX = "*.index.json"
_CODE = ("*.py", "*/*.py")


@dataclass(frozen=True)
class RemoteFile:
    r"""A file of a commit, as the Hub lists it.

    Attributes:
        path: inside the repository.
        size: bytes.
        git_sha1: git's object id: SHA-1 of `blob <size>\0` and the content, or of the pointer of a large file.
        sha256: of the content; only large files (LFS, Xet) have it.
    """

    path: str
    size: int
    git_sha1: str
    sha256: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What an endpoint allows to be loaded.

    Attributes:
        allow_pickle: PyTorch's own format, which can run code when it is loaded, where there is no other.
        remote_code: Python files of the repository.
        adapter: the files of a LoRA adapter, and no model.
        layout: which weights, where a repository has them twice.
    """

    allow_pickle: bool = False
    remote_code: bool = False
    adapter: bool = False
    layout: Layout = "hf"

    def digest(self) -> str:
        """Names the patterns that choose the files, this version's and these settings'."""
        if self.adapter:
            return hashlib.sha256(json.dumps(ADAPTER).encode()).hexdigest()
        chosen = [_SAFETENSORS, _CONSOLIDATED, _DESCRIPTIONS]
        chosen += [_PICKLES, _NO_WEIGHTS] if self.allow_pickle else []
        chosen += [_CODE] if self.remote_code else []
        chosen += [(self.layout,), _MISTRAL_TOKENIZERS] if self.layout != "hf" else []
        return hashlib.sha256(json.dumps(chosen).encode()).hexdigest()

    def joined(self, other: Wanted) -> Wanted:
        """What serves both."""
        return dataclasses.replace(
            self,
            allow_pickle=self.allow_pickle or other.allow_pickle,
            remote_code=self.remote_code or other.remote_code,
            layout=self.layout if self.layout == other.layout else "both",
        )


@dataclass(frozen=True)
class Selection:
    """The files to have, and the format of the weights among them."""

    files: tuple[RemoteFile, ...]
    format: Format

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def select(files: Iterable[RemoteFile], wanted: Wanted, repo: str) -> Selection:
    """Chooses the files that serving needs.

    Args:
        files: all files of the commit.
        wanted: what may be loaded.
        repo: for messages.

    Raises:
        NoSafetensors: there are no weights in a format that may be loaded.
    """
    # Nothing that is hidden serves anything, and one of our own files is.
    listed = [file for file in files if not file.path.startswith(".")]
    if wanted.adapter:
        return _adapter(listed, repo)
    weights, kind = _weights(listed, wanted, repo)
    tokenizers = () if wanted.layout == "hf" else _MISTRAL_TOKENIZERS
    descriptions = [
        file
        for file in listed
        if _matches(file.path, (*_DESCRIPTIONS, *tokenizers))
        and (not fnmatch.fnmatchcase(file.path, _INDEX) or _indexes(file.path, weights))
    ]
    code = [file for file in listed if wanted.remote_code and _matches(file.path, _CODE)]
    chosen = {file.path: file for file in (*weights, *descriptions, *code)}
    return Selection(tuple(chosen[path] for path in sorted(chosen)), kind)


def _adapter(files: Sequence[RemoteFile], repo: str) -> Selection:
    chosen = {file.path: file for file in files if file.path in ADAPTER}
    for name in ADAPTER:
        if name not in chosen:
            raise failures.NoSafetensors(
                f"{repo} has no {name}, so it is no LoRA adapter that can be served; correct `spec.adapters`, or save"
                " the adapter with PEFT and safetensors"
            )
    return Selection(tuple(chosen[name] for name in ADAPTER), "safetensors")


def _weights(files: Sequence[RemoteFile], wanted: Wanted, repo: str) -> tuple[list[RemoteFile], Format]:
    listed, files = files, [file for file in files if not _matches(file.path, (_ADAPTER_WEIGHTS,))]
    safe = [file for file in files if _matches(file.path, _SAFETENSORS)]
    usual = [file for file in safe if not _matches(file.path, _CONSOLIDATED)]
    if wanted.layout != "hf":
        if len(usual) == len(safe):
            raise failures.NoSafetensors(
                f"{repo} has no consolidated*.safetensors, which `load_format: mistral` reads; remove it from"
                " `spec.engine.args`"
            )
        consolidated = [file for file in safe if file not in usual]
        return (consolidated if wanted.layout == "mistral" else safe), "safetensors"
    if usual or safe:
        return usual or safe, "safetensors"
    for patterns in _PICKLES:
        pickled = [f for f in files if _matches(f.path, patterns) and not _matches(f.path, _NO_WEIGHTS)]
        if pickled and wanted.allow_pickle:
            return pickled, "pickle"
        if pickled:
            raise failures.NoSafetensors(
                f"{repo} has no *.safetensors; its {pickled[0].path} can run code when it is loaded."
                " Choose a repository with safetensors, or set `spec.model.allowPickle: true` if you trust its authors"
            )
    if len(files) < len(listed):
        raise failures.NoSafetensors(
            f"{repo} is a LoRA adapter and no model; list it in `spec.adapters`, and give the model that it was trained"
            " for in `spec.model`"
        )
    raise failures.NoSafetensors(
        f"{repo} has no weights: neither *.safetensors nor *.bin; correct `spec.model`"
    )


def _indexes(index: str, weights: Sequence[RemoteFile]) -> bool:
    name, _, ending = index.removesuffix(".index.json").rpartition(".")
    return any(file.path.startswith(name) and file.path.endswith(f".{ending}") for file in weights)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    # `*` of fnmatch crosses slashes, and folders hold conversions of the weights that no engine here reads.
    return any(path.count("/") == p.count("/") and fnmatch.fnmatchcase(path, p) for p in patterns)
