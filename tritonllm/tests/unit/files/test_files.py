"""What people get to read about the files that they wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tritonllm import api, files, guardrails
from tritonllm.serve import desired

HEAD = "apiVersion: tritonllm.io/v1alpha1\nkind: LLMEndpoint\n"
SPEC = "spec: {pool: llm, engine: {type: simulated}, guardrails: {}}\n"


def endpoint(name: str = "chat", spec: str = SPEC) -> str:
    return f"{HEAD}metadata: {{name: {name}}}\n{spec}"


def problems(text: str) -> dict[str, str]:
    endpoints, found = files.parse(text, "chat.yaml")
    assert not endpoints
    return {problem.path: problem.message for problem in found}


def spec_problems(fields: str) -> dict[str, str]:
    base = "pool: llm\nengine: {type: simulated}\n" + ("" if "guardrails" in fields else "guardrails: {}\n")
    indented = "".join(f"  {line}\n" for line in (base + fields).splitlines())
    return {
        path.removeprefix("spec."): text
        for path, text in problems(endpoint(spec="spec:\n" + indented)).items()
    }


def test_one_file_may_hold_many_documents(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("---\n" + endpoint("a") + "---\n" + endpoint("b") + "---\n")
    (tmp_path / "c.yaml").write_text(endpoint("c"))
    assert [found.name for found in files.load([tmp_path / "a.yaml", str(tmp_path / "c.yaml")])] == [
        "a",
        "b",
        "c",
    ]


def test_a_list_of_kubernetes_is_read() -> None:
    items = "".join("- " + endpoint(name).replace("\n", "\n  ").rstrip() + "\n" for name in "ab")
    endpoints, found = files.parse("apiVersion: v1\nkind: List\nitems:\n" + items, "list.yaml")
    assert ([each.name for each in endpoints], found) == (["a", "b"], [])


def test_an_empty_list_is_no_mistake() -> None:
    assert files.parse("apiVersion: v1\nkind: List\nitems: []\n", "list.yaml") == ([], [])


def test_what_kubectl_shows_is_read_back() -> None:
    data = {
        "apiVersion": "tritonllm.io/v1alpha1",
        "kind": "LLMEndpoint",
        "metadata": {
            "name": "chat",
            "namespace": "llm",
            "uid": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {}},
        "status": {"observedGeneration": 1},
    }
    (found,), trouble = files.parse(json.dumps(data), "chat.json")
    assert (found.name, trouble) == ("chat", [])


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(endpoint(), encoding="utf-8-sig")
    assert len(files.load([tmp_path / "chat.yaml"])) == 1


def test_every_problem_of_every_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        endpoint("A") + "---\n" + endpoint(spec="spec: {pool: 1, guardrails: {}}\n")
    )
    (tmp_path / "b.yaml").write_bytes(b"caf\xe9")
    paths = [tmp_path / name for name in ("a.yaml", "b.yaml", "missing.yaml")]
    with pytest.raises(files.Invalid) as caught:
        files.load(paths)
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "a.yaml (document 1): metadata.name: must be 1 to 50 lower-case letters, digits and `-`, "
        'and start and end with a letter or digit; got "A"',
        "a.yaml (document 2): spec.pool: must be a string, got 1; put it in quotes",
        "b.yaml: is not UTF-8: bad byte at offset 3",
        "missing.yaml: cannot be read: No such file or directory",
    ]


ASKING = """spec:
  pool: llm
  engine: {type: simulated}
  guardrails: {output: [{name: a, action: Flag, classifier: {model: judge, labels: [x]}}]}
"""


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        ("", "there is none"),
        ("{pool: llm, engine: {type: simulated}, guardrails: {}}", "its type is simulated"),
        (
            "{pool: other, engine: {type: classifier}, model: {path: a}, guardrails: {}}",
            "its pool is other",
        ),
    ],
)
def test_a_rule_that_asks_what_is_no_classifier_of_its_pool_is_refused(
    tmp_path: Path, judge: str, reason: str
) -> None:
    (tmp_path / "a.yaml").write_text(endpoint(spec=ASKING))
    if judge:
        (tmp_path / "b.yaml").write_text(endpoint("judge", spec=f"spec: {judge}\n"))
    with pytest.raises(files.Invalid) as caught:
        files.load([tmp_path])
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / "a.yaml")
    assert problem.path == "chat: spec.guardrails.output[0].classifier.model"
    assert problem.message.endswith(reason)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("prompt: {format: Chat}", "prompt"),
        ("limits: {maxQueuedRequests: 1}", "limits"),
        ("benchmark: {}", "benchmark"),
        ("guardrails: {input: [{name: a, profanity: {}, action: Flag}]}", "guardrails"),
    ],
)
def test_a_classifier_takes_nothing_that_is_for_generated_text(field: str, name: str) -> None:
    fields = {"pool": "llm", "engine": "{type: classifier}", "model": "{path: a}", "guardrails": "{}"}
    key, _, value = field.partition(": ")
    spec = ", ".join(f"{key}: {value}" for key, value in (fields | {key: value}).items())
    found = problems(endpoint(spec=f"spec: {{{spec}}}\n"))
    assert f"`{name}` must be empty with engine type classifier" in str(found)


def of_scikit_learn(model: str, args: str) -> str:
    spec = f"{{pool: llm, engine: {{type: classifier, args: {args}}}, model: {model}, guardrails: {{}}}}"
    return endpoint(spec=f"spec: {spec}\n")


def test_a_classifier_of_scikit_learn_is_a_pickle_and_runs_on_the_cpu() -> None:
    found = problems(of_scikit_learn("{path: a}", "{library: sklearn}"))
    assert found["spec.model.allowPickle"].startswith("the weights are a pickle file, which can run code")
    found = problems(of_scikit_learn("{path: a, allowPickle: true}", "{library: sklearn, device: cuda}"))
    assert found == {"spec.engine.args.device": "only a classifier of transformers has this; remove it"}
    (accepted,), _ = files.parse(of_scikit_learn("{path: a, allowPickle: true}", "{library: sklearn}"), "x")
    assert accepted.is_classifier


def test_a_policy_asks_a_few_classifiers_at_most() -> None:
    rules = ", ".join(
        f"{{name: r{number}, action: Flag, classifier: {{model: m{number}, labels: [x]}}}}"
        for number in range(5)
    )
    spec = f"spec: {{pool: llm, engine: {{type: simulated}}, guardrails: {{input: [{rules}]}}}}\n"
    assert "the rules ask 5 classifiers (m0, m1, m2, m3, m4); the maximum is 4" in str(
        problems(endpoint(spec=spec))
    )


def test_two_files_may_not_use_one_name(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(endpoint())
    with pytest.raises(files.Invalid) as caught:
        files.load([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / "b.yaml")
    assert problem.path == "metadata.name"
    assert f"already defined in {tmp_path / 'a.yaml'}" in problem.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", 'line 2, column 1: found duplicate key "a"'),
        ('{"a": {"b": 1, "b": 2}}', "duplicate key `b`"),
        ("a: [1\n", "line 2, column 1: expected ',' or ']'"),
        ("\ta: 1", "line 1, column 1: found character '\\t'"),
        ("a: !!python/name:os.system x", "could not determine a constructor"),
        ("[" * 3000, "is nested too deeply"),
        ("a: \x00", "cannot be read"),
        ("", "is empty; an endpoint starts with"),
        ("# nothing\n---\n", "is empty; an endpoint starts with"),
        ("hello", 'must be an object, got "hello"'),
    ],
)
def test_what_is_no_endpoint_at_all_is_told(text: str, message: str) -> None:
    (problem,) = files.parse(text, "chat.yaml")[1]
    assert (problem.file, problem.path) == ("chat.yaml", "")
    assert message in problem.message


def test_words_that_older_yaml_took_for_booleans_are_texts() -> None:
    (found,), _ = files.parse(endpoint(spec=SPEC.replace("pool: llm", "pool: on")), "chat.yaml")
    assert found.spec.pool == "on"


def test_a_value_that_contains_itself_is_refused() -> None:
    assert problems(
        endpoint(spec="spec: &a {pool: llm, engine: {type: simulated, args: {x: *a}}, guardrails: {}}")
    )


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ("guardrial: {}", "guardrial", "unknown field `guardrial`; did you mean `guardrails`?"),
        ("sampling: {maxTokensLimits: 5}", "sampling.maxTokensLimits", "did you mean `maxTokensLimit`?"),
        ("sampling: {max_tokens_limit: 5}", "sampling.max_tokens_limit", "did you mean `maxTokensLimit`?"),
        ("sampling: {defaults: {max_token: 5}}", "sampling.defaults.max_token", "did you mean `max_tokens`?"),
        ("maxQueuedRequests: 5", "maxQueuedRequests", "it belongs to `limits`"),
        ("zebra: 5", "zebra", "known fields: pool, model, engine"),
        ("limits: {maxConcurrentRequests: 0}", "limits.maxConcurrentRequests", "must be at least 1, got 0"),
        ("limits: {requestTimeoutSeconds: 0}", "limits.requestTimeoutSeconds", "must be more than 0, got 0"),
        ("limits: {maxQueuedRequests: ten}", "limits.maxQueuedRequests", 'must be an integer, got "ten"'),
        ("limits: {maxQueuedRequests: 1.5}", "limits.maxQueuedRequests", "must be an integer, got 1.5"),
        (
            "sampling: {defaults: {temperature: .nan}}",
            "sampling.defaults.temperature",
            "must be a finite number",
        ),
        (
            "sampling: {defaults: {stop: 5}}",
            "sampling.defaults.stop",
            "must be a list, got 5",
        ),
        ("sampling: {defaults: {stop: [5]}}", "sampling.defaults.stop[0]", "must be a string, got 5"),
        ("sampling: {defaults: {logit_bias: {a: b}}}", "sampling.defaults.logit_bias.a", "must be a number"),
        ("prompt: {system: Be kind.}", "prompt", "`system` requires `format: Chat`"),
        ("guardrails:", "guardrails", "is empty; write `guardrails: {}`"),
        ("guardrails: []", "guardrails", "must be an object, got []"),
        ("guardrails: {input: {}}", "guardrails.input", "must be a list, got {}"),
        ("guardrails: {input: [5]}", "guardrails.input[0]", "must be an object, got 5"),
        ("guardrails: {input: [{name: a}]}", "guardrails.input[0].action", "is required"),
        (
            "guardrails: {input: [{name: a, action: Blok, profanity: {}}]}",
            "guardrails.input[0].action",
            'must be one of `Block`, `Mask`, `Flag`, got "Blok"; did you mean `Block`?',
        ),
        (
            "guardrails: {output: [{name: a, action: Block, phrases: [x]}]}",
            "guardrails.output[0].phrases",
            "unknown field `phrases`; it belongs to `banned`",
        ),
        (
            "guardrails: {output: [{name: a, action: Block, profanity: }]}",
            "guardrails.output[0]",
            "exactly one of `banned`, `profanity`, `pattern`, `pii`, `secrets` and `classifier` is required; `profanity` is empty: "
            "write `profanity: {}`",
        ),
        (
            "guardrails: {output: [{name: a, action: Block, banned: {phrases: ['']}}]}",
            "guardrails.output[0].banned.phrases[0]",
            "must not be empty",
        ),
        (
            "guardrails: {output: [{name: a, action: Mask, pattern: {regex: '('}}]}",
            "guardrails.output[0].pattern.regex",
            "is not a valid RE2 expression: missing ): (",
        ),
    ],
)
def test_a_field_that_is_wrong_is_named(fields: str, path: str, message: str) -> None:
    assert message in spec_problems(fields)[path]


def test_a_key_that_is_no_text_is_named() -> None:
    found = problems(endpoint(spec=SPEC.replace("simulated", "simulated, args: {1: 2}")))
    assert found == {"spec.engine.args": "the key 1 must be a string; put it in quotes"}


def test_a_path_shows_where_in_a_list_of_kubernetes() -> None:
    _, (problem,) = files.parse("kind: List\nitems:\n- 5\n", "list.yaml")
    assert problem.path == "items[0]"


def test_an_argument_that_the_engine_does_not_know_is_named() -> None:
    spec = "spec: {pool: llm, model: {path: m}, engine: {args: {max_model_length: 5}}, guardrails: {}}\n"
    ((path, message),) = problems(endpoint(spec=spec)).items()
    assert path == "spec.engine.args.max_model_length"
    assert "max_model_len" in message


def test_a_rule_that_could_never_match_is_named(tmp_path: Path) -> None:
    rules = "input: [{name: blank, action: Mask, banned: {phrases: ['  ']}}]"
    assert "rule blank" in spec_problems(f"guardrails: {{{rules}}}")["guardrails.input"]
    (tmp_path / "policy.yaml").write_text(rules)
    with pytest.raises(files.Invalid, match=r"policy\.yaml: input: rule blank"):
        files.load_policy(tmp_path / "policy.yaml")


@pytest.mark.parametrize("text", ["input: [{name: a, action: Flag, profanity: {}}]", None])
def test_a_policy_is_a_section_or_a_whole_endpoint(tmp_path: Path, text: str | None) -> None:
    rules = "guardrails: {input: [{name: a, action: Flag, profanity: {}}]}"
    path = tmp_path / "policy.yaml"
    path.write_text(text or endpoint(spec=SPEC.replace("guardrails: {}", rules)))
    assert [rule.name for rule in files.load_policy(path).input] == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inptu: []", "inptu: unknown field `inptu`; did you mean `input`?"),
        ("", "contains 0 documents"),
        (endpoint("a") + "---\n" + endpoint("b"), "contains 2 endpoints"),
        ("kind: List\nitems: []", "contains 0 endpoints"),
        (endpoint("A"), "metadata.name: must be"),
        ("a: [", "line 1"),
    ],
)
def test_what_is_no_policy_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(files.Invalid, match="^" + str(path)) as caught:
        files.load_policy(path)
    assert message in str(caught.value)


def mounted(directory: Path, version: str, **keys: str) -> None:
    """What a kubelet makes of a ConfigMap: each key a link through `..data`, which is swapped as a whole."""
    contents = directory / f"..{version}"
    contents.mkdir(parents=True)
    for key, text in keys.items():
        (contents / f"{key}.yaml").write_text(text)
        if not (directory / f"{key}.yaml").is_symlink():
            (directory / f"{key}.yaml").symlink_to(f"..data/{key}.yaml")
    (directory / "..data_tmp").symlink_to(f"..{version}")
    (directory / "..data_tmp").rename(directory / "..data")


def test_a_directory_stands_for_the_files_in_it(tmp_path: Path) -> None:
    mounted(tmp_path, "1", b=endpoint("code"), a=endpoint("chat"))
    (tmp_path / "README.md").write_text("not an endpoint")
    assert [found.name for found in files.load([tmp_path])] == ["chat", "code"]
    assert files.expand([tmp_path]) == [tmp_path / "a.yaml", tmp_path / "b.yaml"]


def test_a_directory_without_a_file_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(files.Invalid) as caught:
        files.load([tmp_path])
    assert str(caught.value) == f"{tmp_path}: contains no .yaml, .yml, .json file"


@pytest.mark.parametrize("one_file", [True, False], ids=["a file of it", "the directory"])
def test_a_configmap_that_is_swapped_is_read_again(tmp_path: Path, one_file: bool) -> None:
    mounted(tmp_path, "1", a=endpoint("chat"))
    problems: list[str] = []
    paths = [tmp_path / "a.yaml" if one_file else tmp_path]
    watched = desired.EndpointFiles(paths, files.load_readable, problems.append)
    assert [found.name for found in watched.endpoints()] == ["chat"]
    mounted(tmp_path, "2", a=endpoint("code"))
    assert [found.name for found in watched.endpoints()] == ["code"]
    assert not problems


def test_a_key_that_is_added_to_a_mounted_configmap_is_read(tmp_path: Path) -> None:
    mounted(tmp_path, "1", a=endpoint("chat"))
    watched = desired.EndpointFiles([tmp_path], files.load_readable, pytest.fail)
    mounted(tmp_path, "2", a=endpoint("chat"), b=endpoint("code"))
    assert [found.name for found in watched.endpoints()] == ["chat", "code"]


def test_what_a_list_calls_needed_is_read_and_forgotten_with_the_file(tmp_path: Path) -> None:
    def listed(**metadata: dict[str, str]) -> str:
        items = [{"apiVersion": "tritonllm.io/v1alpha1", "kind": "LLMEndpoint", "metadata": {"name": "chat"}}]
        items[0]["spec"] = {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {}}
        return json.dumps({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items})

    mounted(tmp_path, "1", a=listed(annotations={files.NEEDED: "chat,code"}), b=endpoint("other"))
    watched = desired.EndpointFiles([tmp_path], files.load_readable, pytest.fail)
    assert watched.gating() == {"chat", "code"}
    mounted(tmp_path, "2", a=listed(), b=endpoint("other"))
    assert watched.gating() == frozenset()


def with_field(name: str, field: str) -> str:
    return endpoint(name, SPEC.replace("guardrails: {}", f"guardrails: {{}}, {field}"))


@pytest.mark.parametrize(
    ("of_code", "field"),
    [
        ("limits: {shinyNewLimit: 1}", "spec.limits.shinyNewLimit: unknown field `shinyNewLimit`"),
        ("shiny: 1", "spec.shiny: unknown field `shiny`"),
        ("model: {repo: not a repository}", "spec.model.repo: must be"),
    ],
    ids=["a field of a newer version", "a section of a newer version", "an invalid value"],
)
def test_an_endpoint_that_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, of_code: str, field: str
) -> None:
    mounted(tmp_path, "1", a=endpoint("chat"), b=with_field("code", of_code))
    found = files.load_readable([tmp_path])
    assert [each.name for each in found.endpoints] == ["chat"]
    assert found.unreadable.keys() == {"code"}
    assert field in found.unreadable["code"]
    assert "upgrade tritonllm" in found.unreadable["code"]


@pytest.mark.parametrize(
    "texts",
    [
        {"a": with_field("chat", "shiny: 1")},
        {"a": endpoint("chat"), "b": with_field("chat", "shiny: 1")},
        {"a": endpoint("chat"), "b": "apiVersion: tritonllm.io/v1alpha1\nkind: LLMEndpoint\n"},
        {"a": endpoint("chat"), "b": "{"},
    ],
    ids=["none is left", "two of one name", "no name", "not YAML"],
)
def test_files_are_refused_as_a_whole_if_it_is_unclear_what_to_leave_out(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    mounted(tmp_path, "1", **texts)
    with pytest.raises(files.Invalid):
        files.load_readable([tmp_path])


def test_an_endpoint_is_left_out_if_the_classifier_that_its_rules_ask_cannot_be_read(tmp_path: Path) -> None:
    judged = endpoint("chat").replace(
        "guardrails: {}",
        "guardrails: {input: [{name: a, action: Flag, classifier: {model: judge, labels: [x]}}]}",
    )
    mounted(tmp_path, "1", a=endpoint("code"), b=judged, c=with_field("judge", "shiny: 1"))
    found = files.load_readable([tmp_path])
    assert [each.name for each in found.endpoints] == ["code"]
    assert found.unreadable.keys() == {"chat", "judge"}


def test_an_edit_that_cannot_be_read_leaves_the_endpoint_in_its_last_valid_version(tmp_path: Path) -> None:
    told: list[str] = []
    mounted(tmp_path, "1", a=endpoint("chat"), b=endpoint("code"))
    watched = desired.EndpointFiles([tmp_path], files.load_readable, told.append)
    before = {each.name: each for each in watched.endpoints()}
    mounted(tmp_path, "2", a=endpoint("chat"), b=with_field("code", "shiny: 1"))
    after = {each.name: each for each in watched.endpoints()}
    assert after == before
    assert watched.unreadable() == {}
    assert len(told) == 1
    assert told[0].startswith("code is served in its last valid version: ")
    assert "spec.shiny: unknown field `shiny`" in told[0]
    mounted(tmp_path, "3", a=endpoint("chat"), b=endpoint("other"))
    assert [each.name for each in watched.endpoints()] == ["chat", "other"]


def test_an_endpoint_that_comes_and_cannot_be_read_is_told_and_not_served(tmp_path: Path) -> None:
    told: list[str] = []
    mounted(tmp_path, "1", a=endpoint("chat"))
    watched = desired.EndpointFiles([tmp_path], files.load_readable, told.append)
    mounted(tmp_path, "2", a=endpoint("chat"), b=with_field("code", "shiny: 1"))
    assert [each.name for each in watched.endpoints()] == ["chat"]
    assert watched.unreadable().keys() == {"code"}
    assert [line.split(": ")[0] for line in told] == ["code is not served"]


def test_rules_that_are_looked_at_again_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[object] = []
    check = guardrails.check

    def counted(rules: Sequence[api.Rule]) -> None:
        checked.append(rules)
        check(rules)

    monkeypatch.setattr(guardrails, "check", counted)

    def problems(regex: str) -> list[tuple[str, str]]:
        rule = {"name": "words", "action": "Block", "pattern": {"regex": regex}}
        spec = {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {"output": [rule]}}
        resource = {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": "chat"},
            "spec": spec,
        }
        return files.resource(resource)[1]

    assert not problems("looked at again")
    once = len(checked)
    assert not problems("looked at again")
    assert len(checked) == once
    # The refusal of other rules is their own, each time.
    assert problems("a(b") == problems("a(b") != []
