"""What the operator says of an endpoint: the schema of `status` and the columns of kubectl, for the CRD and its docs.

Data for `crd.py` and `endpoint_docs.py`; the operator's own status is `tritonllm_operator.status`.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def text(description: str, longest: int) -> Schema:
    """The schema of a text."""
    return {"type": "string", "description": description, "maxLength": longest}


def whole(description: str) -> Schema:
    """The schema of a number that is 0 or more."""
    return {"type": "integer", "format": "int64", "description": description, "minimum": 0}


CONDITION: Schema = {
    "type": "object",
    "description": "One thing that is so, or is not.",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": text("Accepted, WeightsReady, Loaded or Ready.", 316),
        "status": text("Whether it is so.", 7) | {"enum": ["True", "False", "Unknown"]},
        "reason": text("Why, in one word, for programs.", 1024),
        "message": text("Why, in a sentence that says what to do.", 32768),
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "Since when `status` is what it is.",
        },
        "observedGeneration": whole("The `metadata.generation` that it is about."),
    },
}

STATUS: Schema = {
    "type": "object",
    "description": "What became of it. Written by the operator alone.",
    "properties": {
        "observedGeneration": whole("The `metadata.generation` that the operator has seen."),
        "conditions": {
            "type": "array",
            "description": "Accepted: the spec is valid and fits its pool. WeightsReady: the weights are complete."
            " Loaded: every pod of the pool holds this version. Ready: at least one pod serves it, this version or the"
            " last good one.",
            "items": CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "model": {
            "type": "object",
            "description": "The weights that are served.",
            "properties": {"commit": text("What `spec.model.revision` was when the Hub was asked.", 40)},
        },
        "plan": {
            "type": "object",
            "description": "The last decision, published before it is carried out.",
            "properties": {
                "action": text(
                    "None: nothing to do. InPlace: running pods take it over. Roll: pods are replaced. Reject: the"
                    " last good version keeps serving.",
                    7,
                )
                | {"enum": ["None", "InPlace", "Roll", "Reject"]},
                "models": {
                    "type": "array",
                    "description": "The Triton models that it is about.",
                    "items": text("A model of the endpoint.", 63),
                    "x-kubernetes-list-type": "atomic",
                },
                "message": text("Why.", 32768),
                "disruptive": {
                    "type": "boolean",
                    "description": "Whether nothing is served for a while.",
                },
            },
        },
        "pods": {
            "type": "object",
            "description": "How far it is.",
            "properties": {
                "desired": whole("Pods that the pool wants."),
                "loaded": whole("Pods that hold this version."),
                "summary": text("Both, for people: `2/3`.", 32),
            },
        },
        "url": text("Where clients inside the cluster ask it.", 2048),
    },
}

READY = '.status.conditions[?(@.type=="Ready")]'
# Name, JSONPath, whether only `-o wide` shows it, what it says.
COLUMNS = (
    ("Ready", f"{READY}.status", False, "whether at least one pod serves it"),
    ("Reason", f"{READY}.reason", False, "why"),
    ("Model", ".spec.model.repo", False, "the repository of its weights"),
    ("Pods", ".status.pods.summary", False, "how many pods hold this version, of how many"),
    ("Age", ".metadata.creationTimestamp", False, "how old it is"),
    ("Plan", ".status.plan.action", True, "the operator's last decision"),
    ("URL", ".status.url", True, "where clients ask it"),
)
