"""A small text classifier that the tests make and train: a BERT of one layer that knows insults from other words."""

from __future__ import annotations

import json
import random
from pathlib import Path

INSULTS = ("idiot", "moron", "scum", "vermin")
WORDS = (
    "the", "a", "you", "are", "is", "not", "and", "weather", "today", "good", "answer", "question", "paris",
    "capital", "of", "france", "what", "how", "please", "thanks", "dog", "house", "tree", "blue", "water", "walk",
    "bread", "music", "city", "river", "green", "book", "word", "time", "hello", "world", "we", "they", "it", "in",
)  # fmt: skip
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def trained(directory: Path) -> Path:
    """Writes a classifier with the labels `fine` and `insult`; takes a few seconds.

    Args:
        directory: does not exist yet.
    """
    import torch
    import transformers

    directory.mkdir(parents=True)
    numbers = _tokenizer(directory)
    config = transformers.BertConfig(
        vocab_size=len(numbers),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label={0: "fine", 1: "insult"},
        label2id={"fine": 0, "insult": 1},
    )
    chance = random.Random(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(80):
            texts, targets = zip(*(_example(chance) for _ in range(32)), strict=True)
            length = max(map(len, texts)) + 2
            rows = [[2, *(numbers[word] for word in text), 3] for text in texts]
            tokens = torch.tensor([row + [0] * (length - len(row)) for row in rows])
            loss = model(
                input_ids=tokens, attention_mask=(tokens != 0).long(), labels=torch.tensor(targets)
            ).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.save_pretrained(directory)
    return directory


def _example(chance: random.Random) -> tuple[list[str], int]:
    words = [chance.choice((*WORDS, "[UNK]")) for _ in range(chance.randint(1, 60))]
    bad = chance.random() < 0.5
    if bad:
        words[chance.randrange(len(words))] = chance.choice(INSULTS)
    return words, int(bad)


def _tokenizer(directory: Path) -> dict[str, int]:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    numbers = {token: number for number, token in enumerate([*_SPECIAL, *WORDS, *INSULTS])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "model_max_length": 128,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    return numbers
