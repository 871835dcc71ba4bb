"""For whatever spec: the API server takes it if the models do, and only then."""

from __future__ import annotations

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

import asking
from asking import Spec

NAMES = st.sampled_from(["a", "a-b", "0", "a" * 50, "a" * 51, "-a", "a-", "A", "", "a.b", "a\n", "ä"])
PARTS = st.text("aZ0._-/", max_size=4)
SHORT = st.text("aä\u200b\n\0", max_size=3) | st.sampled_from(["x" * 256, "ü" * 257])
FLAGS = st.booleans() | st.sampled_from(["true", 1])
WHOLE = st.integers(-3, 3) | st.sampled_from(
    [20, 21, 64, 1024, 1025, 65536, 65537, 2**31 - 1, 2**31, 10**6, 10**6 + 1]
)
DECIMALS = st.sampled_from([-2.5, -2, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 10, 10.5, 86400, 86400.5, "1"])  # fmt: skip

MODELS = st.fixed_dictionaries(
    {},
    optional={
        "repo": st.builds("{}/{}".format, PARTS, PARTS),
        "path": st.text("a./", max_size=5),
        "revision": st.text("aZ0_./- \n", max_size=4) | st.sampled_from(["x" * 128, "x" * 129]),
        "trustRemoteCode": FLAGS,
    },
)
REGEXES = st.text("ab1,*+?()[]{}|\\.^$", max_size=7)
RULES = st.fixed_dictionaries(
    {"name": NAMES, "action": st.sampled_from(["Block", "Mask", "Flag", "block"])},
    optional={
        "banned": st.fixed_dictionaries(
            {},
            optional={
                "phrases": st.lists(SHORT, max_size=2),
                "configMapRef": st.fixed_dictionaries({"name": SHORT}, optional={"key": SHORT}),
                "match": st.sampled_from(["Word", "word"]),
            },
        ),
        "profanity": st.fixed_dictionaries({}, optional={"allow": st.lists(SHORT, max_size=2)}),
        "pattern": st.fixed_dictionaries({"regex": REGEXES}),
        "replacement": SHORT,
        "unknown": st.just(1),
    },
)
SAMPLING = st.fixed_dictionaries(
    {},
    optional={
        "defaults": st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(("n", "max_tokens", "min_tokens", "top_k", "logprobs", "seed"), WHOLE),
                **dict.fromkeys(("temperature", "top_p", "min_p", "presence_penalty"), DECIMALS),
                "repetition_penalty": DECIMALS,
                "ignore_eos": FLAGS,
                "stop": SHORT | st.lists(SHORT, max_size=2),
                "stop_token_ids": st.lists(WHOLE, max_size=2),
                "logit_bias": st.dictionaries(st.sampled_from(["1", "x"]), DECIMALS, max_size=2),
            },
        ),
        "maxTokensLimit": WHOLE,
    },
)
# One part of a spec at a time, or nearly every spec would be wrong in several places.
SPECS: st.SearchStrategy[Spec] = st.one_of(
    st.fixed_dictionaries({"model": MODELS}),
    st.fixed_dictionaries({"pool": NAMES}),
    st.fixed_dictionaries(
        {"engine": st.fixed_dictionaries({"type": st.sampled_from(["vllm", "simulated", "Vllm"])})},
        optional={"model": MODELS},
    ),
    st.fixed_dictionaries(
        {
            "prompt": st.fixed_dictionaries(
                {}, optional={"format": st.sampled_from(["Raw", "Chat", "chat"]), "system": SHORT}
            )
        }
    ),
    st.fixed_dictionaries({"sampling": SAMPLING}),
    st.fixed_dictionaries(
        {
            "guardrails": st.fixed_dictionaries(
                {}, optional={"input": st.lists(RULES, max_size=2), "output": st.lists(RULES, max_size=1)}
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "limits": st.fixed_dictionaries(
                {},
                optional={
                    "maxConcurrentRequests": WHOLE,
                    "maxQueuedRequests": WHOLE,
                    "requestTimeoutSeconds": DECIMALS,
                },
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "benchmark": st.fixed_dictionaries(
                {},
                optional={
                    "concurrency": st.lists(WHOLE, max_size=9),
                    **dict.fromkeys(("requests", "inputTokens", "maxTokens"), WHOLE),
                    "unknown": st.just(1),
                },
            )
        },
        optional={
            "engine": st.sampled_from([{"type": "classifier"}, {"type": "simulated"}]),
            "model": st.just({"path": "a"}),
        },
    ),
)


@settings(max_examples=400, deadline=None)
@given(spec=SPECS)
def test_server_and_models_agree(guarded: httpx.Client, spec: Spec) -> None:
    answer, problems = asking.create(guarded, spec, validation="Strict"), asking.problems(spec)
    assert answer.is_success == (not problems), (answer.text, problems)
