"""Generates the CRD and the admission policy in charts/tritonllm-operator from the models that validate endpoint files.

Run `python tools/crd.py` after a change of `tritonllm.api`; `--check` only checks that the files are current, as a unit
test does. An API server cannot run Python, so rules across fields are repeated here in CEL; tests with a real API server
check that both agree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import status_schema
import yaml

from tritonllm import api, engines, rules, validation_errors
from tritonllm.rules import banned

TEMPLATES = Path(__file__).parents[1] / "charts" / "tritonllm-operator" / "templates"
GROUP, VERSION = api.API_VERSION.split("/")
PLURAL = "llmendpoints"

Schema = dict[str, Any]

KINDS = {kind.__name__: kind for kind in rules.Kind.__subclasses__()}

# An API server prunes unknown fields, unless its client requests strict validation. In a policy such a field could be a
# rule, so unknown fields are preserved there, for the admission policy below and the operator to refuse.
KEPT = {"Guardrails": api.Guardrails, "Rule": rules.Rule} | KINDS
INT64 = 2**63


def rule(expression: str, message: str) -> Schema:
    """A validation rule in CEL, and the API server's message if it is violated."""
    return {"rule": expression, "message": message}


WITHOUT_WEIGHTS = [each.name for each in engines.TYPES.values() if not each.needs_weights]
WITHOUT_TEXT = [each.name for each in engines.TYPES.values() if not each.generates_text]
WITHOUT_ADAPTERS = [each.name for each in engines.TYPES.values() if not each.serves_adapters]

RULES: dict[str, list[Schema]] = {
    "Spec": [
        rule(
            f"has(self.model) || self.engine.type in {WITHOUT_WEIGHTS}",
            f"`model` is required, except for engine type {' and '.join(WITHOUT_WEIGHTS)}",
        ),
        rule(
            f"!has(self.model) || !(self.engine.type in {WITHOUT_WEIGHTS})",
            f"`model` is not supported by engine type {' and '.join(WITHOUT_WEIGHTS)}",
        ),
        rule(
            f"!(self.engine.type in {WITHOUT_TEXT}) || ((!has(self.guardrails.input) || self.guardrails.input.size() == 0)"
            " && (!has(self.guardrails.output) || self.guardrails.output.size() == 0))",
            f"`guardrails` must be empty with engine type {' and '.join(WITHOUT_TEXT)}, which generates no text",
        ),
        rule(
            f"!has(self.benchmark) || !(self.engine.type in {WITHOUT_TEXT})",
            f"`benchmark` must be empty with engine type {' and '.join(WITHOUT_TEXT)}, which generates no text",
        ),
        rule(
            f"!has(self.adapters) || self.adapters.size() == 0 || !(self.engine.type in {WITHOUT_ADAPTERS})",
            f"`adapters` is not supported by engine type {' and '.join(WITHOUT_ADAPTERS)}",
        ),
    ],
    "Adapter": [
        rule("has(self.repo) != has(self.path)", "exactly one of `repo` and `path` is required"),
        rule(
            "!has(self.path) || !self.path.matches('(^|/)[.][.](/|$)')",
            "`path` must not contain a `..` component",
        ),
        rule("!self.revision.contains('..')", "`revision` must not contain `..`"),
    ],
    "Adapter.repo": [
        rule(
            f"!self.matches(r'{api.NO_REPO.pattern}')",
            "must not contain `--` or `..`, must not have a part that starts or ends with `-` or `.`, and must not"
            " end in `.git`",
        )
    ],
    "Model": [
        rule(
            "[has(self.repo), has(self.path), has(self.image)].filter(source, source).size() == 1",
            "exactly one of `repo`, `path` and `image` is required",
        ),
        rule("!has(self.subPath) || has(self.image)", "`subPath` requires `image`"),
        rule(
            "!has(self.subPath) || !self.subPath.matches('(^|/)[.][.](/|$)')",
            "`subPath` must not contain a `..` component",
        ),
        rule(
            "!has(self.path) || !self.path.matches('(^|/)[.][.](/|$)')",
            "`path` must not contain a `..` component",
        ),
        rule("!self.revision.contains('..')", "`revision` must not contain `..`"),
    ],
    "Model.repo": [
        rule(
            f"!self.matches(r'{api.NO_REPO.pattern}')",
            "must not contain `--` or `..`, must not have a part that starts or ends with `-` or `.`, and must not"
            " end in `.git`",
        )
    ],
    "Prompt": [rule("!has(self.system) || self.format == 'Chat'", "`system` requires `format: Chat`")],
    "Sampling": [
        rule(
            "!has(self.defaults) || !has(self.defaults.max_tokens)"
            " || self.defaults.max_tokens <= self.maxTokensLimit",
            "`defaults.max_tokens` must not exceed `maxTokensLimit`",
        )
    ],
    "Banned": [rule("has(self.phrases) || has(self.configMapRef)", banned.NO_PHRASES)],
    "Rule": [
        rule(
            f"[{', '.join(f'has(self.{kind})' for kind in rules.KINDS)}].filter(kind, kind).size() == 1",
            f"exactly one of {rules.in_words()} is required",
        ),
        rule("!has(self.classifier) || self.action != 'Mask'", rules.NOT_MASKABLE),
    ],
} | {
    f"{name}.{field}": [rule(*checked)] for name, kind in KINDS.items() for field, checked in kind.cel.items()
}

NAMED = [
    rule(
        "self.metadata.name.size() <= 50 && !self.metadata.name.contains('.')",
        f"metadata.name {validation_errors.PATTERNS['^[a-z0-9]']}",
    ),
    rule(
        "!self.metadata.name.endsWith('-engine') && !self.metadata.name.endsWith('-guardrail')",
        "metadata.name must not end in `-engine` or `-guardrail`",
    ),
]

# Maximum length of a string that matches a pattern; the API server estimates the cost of rules from it.
LONGEST = {"^[a-z0-9]": 50, "^[0-9A-Za-z_./-]": 128, "^[0-9A-Za-z._-]": 193, r"^[^\s@]": 512, r"^[^/\s]": 255}


def structural(field: Schema, definitions: Schema, place: str) -> Schema:
    """A schema of pydantic as a structural schema of Kubernetes: one type per field, no references, all bounded.

    Args:
        field: pydantic's schema of a field or an object.
        definitions: the objects that it references.
        place: its key in `RULES`.

    Raises:
        SystemExit: the schema has no equivalent in Kubernetes.
    """
    field = dict(field)
    if options := field.pop("anyOf", None):
        options = [option for option in options if option.get("type") != "null"]
        if len(options) > 1:
            raise SystemExit(f"{place}: has several types; a field of Kubernetes has one")
        field = options[0] | field
    if reference := field.pop("$ref", None):
        place = reference.rpartition("/")[2]
        field = definitions[place] | field
    kind = field["type"]
    made: Schema = {"type": kind}
    if "description" in field:
        made["description"] = " ".join(field["description"].split())
    if field.get("default") is not None:
        made["default"] = field["default"]
    match kind:
        case "string":
            made |= _text(field, place)
        case "integer" | "number":
            made |= _number(field)
        case "array":
            made |= _list(field, definitions, place)
        case "object":
            made |= _object(field, definitions, place)
    if place in KEPT:
        made["x-kubernetes-preserve-unknown-fields"] = True
    rules = RULES.get(place, []) + made.pop("x-kubernetes-validations", [])
    return made | ({"x-kubernetes-validations": rules} if rules else {})


def _text(field: Schema, place: str) -> Schema:
    if "enum" in field:
        return {"enum": field["enum"]}
    made: Schema = {name: field[name] for name in ("minLength", "maxLength") if name in field}
    if pattern := field.get("pattern"):
        start = next((start for start in LONGEST if pattern.startswith(start)), None)
        if start is None:
            raise SystemExit(f"{place}: the pattern {pattern} has no longest match; add it to LONGEST")
        made["maxLength"] = LONGEST[start]
        made["x-kubernetes-validations"] = [
            rule(f"self.matches(r'{pattern}')", validation_errors.PATTERNS[start])
        ]
    if "maxLength" not in made:
        raise SystemExit(f"{place}: a string without an upper bound; give the field a max_length")
    return made


def _number(field: Schema) -> Schema:
    integer = field["type"] == "integer"
    made: Schema = {"format": "int64"} if integer else {}
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    high, below = field.get("maximum"), field.get("exclusiveMaximum")
    if integer and below is not None:
        high, below = below - 1, None
    if low is not None and low > -INT64:
        made["minimum"] = low
    if high is not None and high < INT64 - 1:
        made["maximum"] = high
    if above is not None:
        made |= {"minimum": above, "exclusiveMinimum": True}
    if below is not None:
        made |= {"maximum": below, "exclusiveMaximum": True}
    return made


def _list(field: Schema, definitions: Schema, place: str) -> Schema:
    if "maxItems" not in field:
        raise SystemExit(f"{place}: a list without an upper bound; give the field a max_length")
    made: Schema = {name: field[name] for name in ("minItems", "maxItems") if name in field}
    made["items"] = structural(field["items"], definitions, f"{place}[]")
    if made["items"]["type"] == "object":
        return made | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    return made | {"x-kubernetes-list-type": "atomic"}


def _object(field: Schema, definitions: Schema, place: str) -> Schema:
    if field.get("additionalProperties") is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    if "properties" not in field:
        inner = structural(field["additionalProperties"], definitions, f"{place}{{}}")
        return {"additionalProperties": inner, "maxProperties": field["maxProperties"]}
    made: Schema = {"required": field["required"]} if field.get("required") else {}
    made["properties"] = {
        name: structural(inner, definitions, f"{place}.{name}") for name, inner in field["properties"].items()
    }
    for name, inner in made["properties"].items():
        optional = name not in made.get("required", ()) and "default" not in field["properties"][name]
        if optional and any("default" in below for below in inner.get("properties", {}).values()):
            inner["default"] = {}
        # An API server would prune an `input:` without a value, and with it a rule that was meant to be there.
        if place == "Guardrails" and inner["type"] == "array":
            inner["nullable"] = True
    return made


def spec() -> Schema:
    """The schema of `spec`."""
    made = api.Spec.model_json_schema(by_alias=True)
    return structural(made, made.pop("$defs"), "Spec")


def resource() -> Schema:
    """The CRD without the metadata that Helm adds."""
    properties = {
        "apiVersion": {"type": "string", "description": f"`{api.API_VERSION}`."},
        "kind": {"type": "string", "description": f"`{api.KIND}`."},
        "metadata": {"type": "object"},
        "spec": spec(),
        "status": status_schema.STATUS,
    }
    columns = [
        {"name": name, "type": "date" if name == "Age" else "string", "jsonPath": path}
        | {"description": f"{meaning[0].upper()}{meaning[1:]}."}
        | ({"priority": 1} if wide else {})
        for name, path, wide, meaning in status_schema.COLUMNS
    ]
    names = {"kind": api.KIND, "listKind": f"{api.KIND}List", "plural": PLURAL, "singular": api.KIND.lower()}
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": (api.LLMEndpoint.__doc__ or "").strip(),
                "required": ["spec"],
                "properties": properties,
                "x-kubernetes-validations": NAMED,
            }
        },
    }
    return {
        "group": GROUP,
        "scope": "Namespaced",
        "names": names | {"shortNames": ["llme"], "categories": ["tritonllm"]},
        "versions": [version],
    }


def admission() -> Schema:
    """The admission policy that refuses the unknown fields that the CRD preserves, from any client."""
    known = {name: list(validation_errors.fields(model)) for name, model in KEPT.items()}
    listed = "(has(variables.policy.{0}) && variables.policy.{0} != null ? variables.policy.{0} : [])"
    variables = [
        {"name": "policy", "expression": "object.spec.guardrails"},
        {"name": "rules", "expression": " + ".join(listed.format(name) for name in ("input", "output"))},
        {
            "name": "policyUnknown",
            "expression": f"variables.policy.filter(key, !(key in {known['Guardrails']}))",
        },
        {"name": "empty", "expression": "variables.policy.filter(key, variables.policy[key] == null)"},
    ]
    del known["Guardrails"]
    validations = [
        {
            "expression": "variables.policyUnknown.size() == 0",
            "messageExpression": "'spec.guardrails: unknown field `' + variables.policyUnknown.join('`, `') + '`;"
            f" known fields: {', '.join(validation_errors.fields(api.Guardrails))}'",
        },
        {
            "expression": "variables.empty.size() == 0",
            "messageExpression": "'spec.guardrails.' + variables.empty.join(', ') + ' is empty; set it or remove it'",
        },
        *_known_below(known),
    ]
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [GROUP],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [PLURAL],
                }
            ]
        },
        "variables": variables,
        "validations": validations,
    }


def _known_below(known: dict[str, list[str]]) -> Iterator[Schema]:
    for name, fields in known.items():
        within = "one" if name == "Rule" else f"one.{name.lower()}"
        there = "" if name == "Rule" else f"has({within}) && "
        where = "" if name == "Rule" else f".{name.lower()}"
        wrong = f"{there}{within}.exists(key, !(key in {fields}))"
        yield {
            "expression": f"!variables.rules.exists(one, {wrong})",
            "messageExpression": f"'spec.guardrails, rule ' + variables.rules.filter(one, {wrong})[0].name +"
            f" '{where}: unknown field; known fields: {', '.join(fields) or 'none'}'",
        }


HEAD = """\
{{{{- /* Generated by tools/crd.py. */ -}}}}
{{{{- if .Values.crd.install }}}}
apiVersion: {version}
kind: {kind}
metadata:
  name: {name}
  labels: {{{{- include "operator.labels" . | nindent 4 }}}}
"""

KEEP = """\
  annotations:
    # Without it, `helm uninstall` would delete every endpoint of the cluster.
    helm.sh/resource-policy: keep
"""

POLICY = "tritonllm-guardrails"


class Plain(yaml.SafeDumper):
    """Writes repeated objects in full, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def document(version: str, kind: str, name: str, body: Schema, more: str = "") -> str:
    """One document of the chart."""
    dumped = yaml.dump({"spec": body}, Dumper=Plain, sort_keys=False, allow_unicode=True, width=110)
    # Helm would interpret it.
    dumped = dumped.replace("{{", '{{ "{{" }}')
    return HEAD.format(version=version, kind=kind, name=name) + more + dumped + "{{- end }}\n"


def outputs() -> dict[str, str]:
    """The text of every generated file, by its name among the chart's templates."""
    admitting = "admissionregistration.k8s.io/v1"
    binding = {"policyName": POLICY, "validationActions": ["Deny"]}
    return {
        "crd.yaml": document(
            "apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{PLURAL}.{GROUP}", resource(), KEEP
        ),
        "validatingadmissionpolicy.yaml": document(
            admitting, "ValidatingAdmissionPolicy", POLICY, admission()
        ),
        "validatingadmissionpolicybinding.yaml": document(
            admitting, "ValidatingAdmissionPolicyBinding", POLICY, binding
        ),
    }


def main() -> None:
    """Writes the files, or lists the stale ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is stale")
    check = parser.parse_args().check
    made = outputs()
    stale = [
        name
        for name, found in made.items()
        if not (TEMPLATES / name).is_file() or (TEMPLATES / name).read_text() != found
    ]
    if check and stale:
        sys.exit(f"stale: {', '.join(stale)}; run `python tools/crd.py`")
    for name in stale:
        (TEMPLATES / name).write_text(made[name])
        print(f"wrote {TEMPLATES / name}")


if __name__ == "__main__":
    main()
