"""The schema of an endpoint's `status` and the columns that kubectl prints, for the CRD and its reference.

Data for `crd.py` and `endpoint_docs.py`; `tritonllm_operator.status` computes the status.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def text(description: str, longest: int) -> Schema:
    """The schema of a string."""
    return {"type": "string", "description": description, "maxLength": longest}


def whole(description: str) -> Schema:
    """The schema of a non-negative integer."""
    return {"type": "integer", "format": "int64", "description": description, "minimum": 0}


CONDITION: Schema = {
    "type": "object",
    "description": "One aspect of the endpoint's current state.",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": text("Type of the condition: Accepted, WeightsReady, Loaded or Ready.", 316),
        "status": text("Status of the condition.", 7) | {"enum": ["True", "False", "Unknown"]},
        "reason": text("Machine-readable reason for the last transition.", 1024),
        "message": text("Human-readable details, and what to do.", 32768),
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "Time of the last change of `status`.",
        },
        "observedGeneration": whole("The `metadata.generation` that the condition was set for."),
    },
}

ADAPTER: Schema = {
    "type": "object",
    "description": "A LoRA adapter.",
    "required": ["name", "state", "message"],
    "properties": {
        "name": text("Name of the adapter.", 50),
        "state": text(
            "Ready: every pod that serves the endpoint has loaded it. Loading: some have not yet. Missing: its files are"
            " not there. Updating: so are those of its new revision, and the former one serves. Refused: it can't be served.",
            8,
        )
        | {"enum": ["Ready", "Loading", "Missing", "Updating", "Refused"]},
        "commit": text("Commit that its revision was resolved to.", 40),
        "message": text("Reason why it is not Ready, and what to do.", 32768),
    },
}


def number(description: str) -> Schema:
    """The schema of a number that is not negative."""
    return {"type": "number", "description": description, "minimum": 0}


BENCHMARK: Schema = {
    "type": "object",
    "description": "The last benchmark that `spec.benchmark` asked for.",
    "required": ["state", "message"],
    "properties": {
        "state": text(
            "Pending: it has not begun. Running: its Job exists. Complete: the result is in `points`. Failed: there is no"
            " result; another version of the engine, or another `spec.benchmark`, is measured again.",
            8,
        )
        | {"enum": ["Pending", "Running", "Complete", "Failed"]},
        "message": text("The result in short, or what it waits for, or why it failed and what to do.", 32768),
        "hash": text("Hash of the engine and of `spec.benchmark` that were measured.", 64),
        "completionTime": {"type": "string", "format": "date-time", "description": "End of the measurement."},
        "points": {
            "type": "array",
            "description": "The result at each concurrency. While another version is Pending, that of the former one.",
            "items": {
                "type": "object",
                "description": "The result at one concurrency.",
                "required": ["concurrency", "succeeded", "failed"],
                "properties": {
                    "concurrency": whole("Requests in progress at any time."),
                    "outputTokensPerSecond": number("Generated tokens per second, of all requests together."),
                    "ttftP99Ms": number("Time to first token, 99th percentile, in milliseconds."),
                    "latencyP99Ms": number("Request latency, 99th percentile, in milliseconds."),
                    "succeeded": whole("Number of requests that were answered."),
                    "failed": whole("Number of requests that were not."),
                    "error": text("Most frequent error: HTTP status and code.", 64),
                },
            },
            "x-kubernetes-list-type": "atomic",
        },
    },
}

STATUS: Schema = {
    "type": "object",
    "description": "Observed state of the endpoint. Written by the operator.",
    "properties": {
        "observedGeneration": whole("The latest `metadata.generation` that the operator has processed."),
        "conditions": {
            "type": "array",
            "description": "Conditions of the endpoint. Accepted: the spec is valid and fits the pool. WeightsReady: the weights"
            " are complete. Loaded: every pod of the pool has loaded this version. Ready: at least one pod serves the"
            " endpoint, in this version or the last good one.",
            "items": CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "model": {
            "type": "object",
            "description": "The weights of the endpoint.",
            "properties": {"commit": text("Commit that `spec.model.revision` was resolved to.", 40)},
        },
        "adapters": {
            "type": "array",
            "description": "The LoRA adapters of the endpoint.",
            "items": ADAPTER,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "benchmark": BENCHMARK,
        "plan": {
            "type": "object",
            "description": "The operator's last plan, published before it is executed.",
            "properties": {
                "action": text(
                    "None: nothing to do. InPlace: running pods reload the models. Roll: pods are replaced. Reject: the"
                    " last good version keeps serving.",
                    7,
                )
                | {"enum": ["None", "InPlace", "Roll", "Reject"]},
                "models": {
                    "type": "array",
                    "description": "The Triton models that the plan changes.",
                    "items": text("Name of a model of the endpoint.", 63),
                    "x-kubernetes-list-type": "atomic",
                },
                "message": text("Reason for the plan.", 32768),
                "disruptive": {
                    "type": "boolean",
                    "description": "Whether the plan interrupts serving.",
                },
            },
        },
        "pods": {
            "type": "object",
            "description": "Pods of the pool.",
            "properties": {
                "desired": whole("Desired number of pods."),
                "loaded": whole("Number of pods that have loaded this version."),
                "summary": text("Loaded and desired pods, such as `2/3`.", 32),
            },
        },
        "policyHash": text(
            "Hash of the last version that was accepted: of its rules, limits, sampling and prompt.", 128
        ),
        "observedPolicyHash": {
            "type": "object",
            "description": "The same hash of the version that each pod serves, by the pod's name.",
            "additionalProperties": text("Hash of what the pod serves.", 128),
            "maxProperties": 5000,
        },
        "url": text("URL of the endpoint inside the cluster.", 2048),
    },
}

READY = '.status.conditions[?(@.type=="Ready")]'
# Name, JSONPath, whether only `-o wide` shows it, meaning.
COLUMNS = (
    ("Ready", f"{READY}.status", False, "whether at least one pod serves the endpoint"),
    ("Reason", f"{READY}.reason", False, "reason of the condition Ready"),
    ("Model", ".spec.model.repo", False, "repository of the weights"),
    ("Pods", ".status.pods.summary", False, "pods that have loaded this version, and desired pods"),
    ("Age", ".metadata.creationTimestamp", False, "time since the endpoint was created"),
    ("Plan", ".status.plan.action", True, "action of the operator's last plan"),
    ("URL", ".status.url", True, "URL of the endpoint inside the cluster"),
)
