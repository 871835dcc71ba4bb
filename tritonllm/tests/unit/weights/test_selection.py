"""Which files serving needs, for the kinds of repositories there are."""

from __future__ import annotations

import pytest

from tritonllm.weights import failures, selection

LLAMA = [
    ".gitattributes", "LICENSE", "README.md", "USE_POLICY.md", "config.json", "generation_config.json",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "original/consolidated.00.pth", "original/params.json", "original/tokenizer.model",
    "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
]  # fmt: skip
MISTRAL = [
    "README.md", "config.json", "consolidated.safetensors", "generation_config.json",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "params.json", "tekken.json", "tokenizer.json", "tokenizer.model.v3",
]  # fmt: skip
PICKLED = [
    "config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin",
    "pytorch_model.bin.index.json", "training_args.bin", "optimizer.bin", "vocab.txt", "tf_model.h5",
    "flax_model.msgpack", "rust_model.ot",
]  # fmt: skip
CODE = [
    "config.json", "configuration_x.py", "modeling_x.py", "model.safetensors", "tokenization_x.py", "vision/encoder.py",
    "additional_chat_templates/tool.jinja", "chat_template.jinja", "qwen.tiktoken", "tokenizer.model", "merges.txt",
    "onnx/model.onnx", "assets/a/b.py", "model.gguf", "sub/model.safetensors",
]  # fmt: skip


def chosen(
    names: list[str],
    *,
    allow_pickle: bool = False,
    remote_code: bool = False,
    layout: selection.Layout = "hf",
) -> set[str]:
    files = [selection.RemoteFile(name, 1, "0" * 40) for name in names]
    wanted = selection.Wanted(allow_pickle, remote_code, layout=layout)
    found = selection.select(files, wanted, "org/name")
    assert found.size == len(found.files)
    return {file.path for file in found.files}


def test_weights_in_shards_come_with_their_index_and_what_describes_them() -> None:
    assert chosen(LLAMA) == {
        name for name in LLAMA if name.endswith((".json", ".safetensors")) and "original/" not in name
    }


def test_of_two_copies_of_the_same_weights_one_is_taken() -> None:
    assert chosen(MISTRAL) == set(MISTRAL) - {"README.md", "consolidated.safetensors", "tokenizer.model.v3"}


def test_mistrals_own_layout_is_taken_where_there_is_no_other() -> None:
    names = ["consolidated.safetensors", "params.json", "tekken.json", "README.md"]
    assert chosen(names) == set(names) - {"README.md"}


def test_with_load_format_mistral_its_own_layout_is_taken_with_its_tokenizers() -> None:
    shards = {name for name in MISTRAL if name.startswith("model")}
    assert chosen(MISTRAL, layout="mistral") == set(MISTRAL) - shards - {"README.md"}
    assert chosen(MISTRAL, layout="both") == set(MISTRAL) - {"README.md"}
    with pytest.raises(failures.NoSafetensors, match=r"no consolidated\*\.safetensors.*load_format: mistral"):
        chosen(LLAMA, layout="mistral")


def test_endpoints_that_read_different_layouts_share_what_has_both() -> None:
    hf, mistral = selection.Wanted(), selection.Wanted(layout="mistral")
    assert hf.joined(mistral).layout == mistral.joined(hf).layout == "both"
    assert len({hf.digest(), mistral.digest(), hf.joined(mistral).digest()}) == 3


def test_weights_that_can_run_code_are_refused_with_the_setting_that_allows_them() -> None:
    with pytest.raises(
        failures.NoSafetensors, match=r"pytorch_model.*run code.*spec\.model\.allowPickle: true"
    ):
        chosen(PICKLED)


def test_a_model_of_scikit_learn_comes_only_where_pickle_files_may() -> None:
    listed = ["model.joblib", "vectorizer.joblib", "README.md"]
    assert chosen(listed, allow_pickle=True) == {"model.joblib", "vectorizer.joblib"}
    with pytest.raises(failures.NoSafetensors, match="can run code"):
        chosen(listed)


def test_weights_that_can_run_code_are_taken_where_they_are_allowed() -> None:
    assert chosen(PICKLED, allow_pickle=True) == {
        "config.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
        "vocab.txt",
    }


def test_weights_that_can_run_code_stay_where_there_are_better_ones() -> None:
    names = [*PICKLED, "model.safetensors"]
    assert chosen(names, allow_pickle=True) == {"config.json", "model.safetensors", "vocab.txt"}


@pytest.mark.parametrize("name", ["model.pt", "weights.pth"])
def test_the_oldest_format_is_taken_only_without_any_other(name: str) -> None:
    assert chosen([name], allow_pickle=True) == {name}
    assert chosen([name, "a.bin"], allow_pickle=True) == {"a.bin"}


@pytest.mark.parametrize("names", [["config.json"], ["model.gguf"], [], ["sub/model.safetensors"]])
def test_a_repository_without_weights_is_said_to_have_none(names: list[str]) -> None:
    with pytest.raises(failures.NoSafetensors, match="has no weights"):
        chosen(names, allow_pickle=True)


def test_only_training_leftovers_are_no_weights() -> None:
    with pytest.raises(failures.NoSafetensors, match="has no weights"):
        chosen(["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"], allow_pickle=True)


def test_python_files_come_only_where_they_may_run() -> None:
    rest = {
        "config.json", "model.safetensors", "additional_chat_templates/tool.jinja", "chat_template.jinja",
        "qwen.tiktoken", "tokenizer.model", "merges.txt",
    }  # fmt: skip
    code = {"configuration_x.py", "modeling_x.py", "tokenization_x.py", "vision/encoder.py"}
    assert chosen(CODE) == rest
    assert chosen(CODE, remote_code=True) == rest | code


def test_what_is_hidden_is_left_where_it_is() -> None:
    assert chosen(
        ["model.safetensors", ".complete.json", ".cache/a.py", ".x.safetensors"], remote_code=True
    ) == {"model.safetensors"}


def test_settings_that_choose_other_files_have_another_digest() -> None:
    kinds = [selection.Wanted(pickle, code) for pickle in (False, True) for code in (False, True)]
    assert len({wanted.digest() for wanted in kinds}) == len(kinds)
    assert kinds[1].joined(kinds[2]) == kinds[3]
