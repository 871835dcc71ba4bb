"""The configurations of an endpoint's models, built with Triton's protobuf schema."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import model_config_pb2

from tritonllm import api, tensors
from tritonllm.engines import classifier
from tritonllm.render import canonical

# Its classes are created at import, invisible to type checkers.
schema: Any = model_config_pb2
ModelConfig = Any

# Increased when the output for the same spec changes. A difference is reported, but causes no change: the image decides
# which code serves, and an upgrade of the operator alone must not change a running pod.
RENDERER = "3"


def models(endpoint: api.LLMEndpoint) -> list[ModelConfig]:
    """The endpoint's models, in loading order: engine, guardrail, pipeline; or a classifier."""
    if endpoint.is_classifier:
        return [_classifier(endpoint)]
    return [_engine(endpoint), _guardrail(endpoint), _pipeline(endpoint)]


def kind(model: ModelConfig) -> str:
    """`engine`, `guardrail`, `pipeline` or `classifier`."""
    return model.parameters["kind"].string_value


def _engine(endpoint: api.LLMEndpoint) -> ModelConfig:
    spec = endpoint.spec
    hashed = {
        "model": spec.model and spec.model.given(),
        "engine": {"type": spec.engine.type, "args": spec.engine.definition.hashed(spec.engine.args)},
    }
    model = new_model(
        endpoint.engine_name, "engine", hashed, {"endpoint": endpoint.name, "engine": spec.engine.type}
    )
    model.model_transaction_policy.decoupled = True
    # The engine, not Triton, chooses its devices, because a model can span several GPUs.
    model.instance_group.add(count=1, kind=schema.ModelInstanceGroup.KIND_MODEL)
    _tensors(model, tensors.GENERATE_INPUTS, tensors.ENGINE_OUTPUTS)
    return model


def _classifier(endpoint: api.LLMEndpoint) -> ModelConfig:
    spec = endpoint.spec
    args = classifier.ClassifierArgs.model_validate(spec.engine.args)
    hashed = {
        "model": spec.model and spec.model.given(),
        "engine": {"type": spec.engine.type, "args": spec.engine.definition.hashed(spec.engine.args)},
    }
    model = new_model(endpoint.name, "classifier", hashed, {"endpoint": endpoint.name})
    model.max_batch_size = args.max_batch_size
    # Without a delay: texts that arrive while a batch is computed are the next batch.
    model.dynamic_batching.SetInParent()
    model.instance_group.add(count=1, kind=schema.ModelInstanceGroup.KIND_MODEL)
    _tensors(model, tensors.CLASSIFIER_INPUTS, tensors.CLASSIFIER_OUTPUTS)
    return model


def _guardrail(endpoint: api.LLMEndpoint) -> ModelConfig:
    guardrails = endpoint.spec.guardrails.given()
    longest = endpoint.spec.prompt_characters
    parameters = {
        "endpoint": endpoint.name,
        "policy": canonical.pack(guardrails),
        "prompt_characters": str(longest),
    }
    hashed = guardrails | {"prompt_characters": longest}
    model = new_model(endpoint.guardrail_name, "guardrail", hashed, parameters)
    model.max_batch_size = tensors.GUARDRAIL_MAX_BATCH
    model.dynamic_batching.SetInParent()
    model.instance_group.add(count=1, kind=schema.ModelInstanceGroup.KIND_CPU)
    _tensors(model, tensors.GUARDRAIL_INPUTS, tensors.GUARDRAIL_OUTPUTS)
    return model


def _pipeline(endpoint: api.LLMEndpoint) -> ModelConfig:
    spec = endpoint.spec
    guardrails = spec.guardrails.given()
    settings = {
        "prompt": spec.prompt.given(),
        "sampling": spec.sampling.given(),
        "limits": spec.limits.given(),
        "capacity": spec.capacity,
        "prompt_characters": spec.prompt_characters,
    }
    parameters = {
        "endpoint": endpoint.name,
        "engine_model": endpoint.engine_name,
        "settings": canonical.dumps(settings),
        "policy": canonical.pack(guardrails),
    }
    hashed = settings | {"guardrails": guardrails}
    if spec.adapters:
        # The pipeline tells the engine which adapters it wants, so a change of them leaves the engine alone.
        hashed["adapters"] = [adapter.given() for adapter in spec.adapters]
        parameters["adapters"] = canonical.dumps(
            [adapter.given() | {"commit": endpoint.adapter_commit(adapter)} for adapter in spec.adapters]
        )
    model = new_model(endpoint.name, "pipeline", hashed, parameters)
    model.model_transaction_policy.decoupled = True
    model.instance_group.add(count=spec.limits.pipeline_instances, kind=schema.ModelInstanceGroup.KIND_CPU)
    _tensors(model, tensors.GENERATE_INPUTS, tensors.PIPELINE_OUTPUTS)
    return model


def new_model(name: str, kind: str, hashed: dict[str, Any], parameters: dict[str, str]) -> ModelConfig:
    """A configuration with the parameters that all of ours have.

    Args:
        name: of the model.
        kind: see `kind`.
        hashed: what `spec_hash` is the hash of.
        parameters: further parameters.
    """
    model = schema.ModelConfig(name=name, backend="python")
    fixed = {"kind": kind, "spec_hash": canonical.digest(hashed), "renderer": RENDERER}
    for key, value in (fixed | parameters).items():
        model.parameters[key].string_value = value
    return model


def _tensors(
    model: ModelConfig, inputs: tuple[tensors.Tensor, ...], outputs: tuple[tensors.Tensor, ...]
) -> None:
    for tensor in inputs:
        model.input.add(
            name=tensor.name,
            data_type=schema.DataType.Value(f"TYPE_{tensor.type}"),
            dims=tensor.dims,
            optional=tensor.optional,
        )
    for tensor in outputs:
        model.output.add(
            name=tensor.name,
            data_type=schema.DataType.Value(f"TYPE_{tensor.type}"),
            dims=tensor.dims,
        )
