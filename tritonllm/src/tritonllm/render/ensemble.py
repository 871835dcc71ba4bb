"""The configurations of TensorRT-LLM's ensemble, for engines that `trtllm-build` has made: four models around the C++ backend.

The names of parameters and tensors are those of `inflight_batcher_llm` in TensorRT-LLM 1.0 to 1.2
(https://github.com/NVIDIA/TensorRT-LLM, triton_backend/all_models; removed after 1.2). Parameters that are not given are left
out, for which the backend has defaults. Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm import render
from tritonllm.render import config, ensemble_tensors

Directory = Annotated[str, pydantic.StringConstraints(pattern=r"^/\S{1,1023}$")]
Type = Literal["TYPE_FP32", "TYPE_FP16", "TYPE_BF16"]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Count = Annotated[int, pydantic.Field(ge=0)]
AtLeastOne = Annotated[int, pydantic.Field(ge=1)]

# Parameters of `tensorrt_llm` whose key in config.pbtxt is another than the name of the template's variable.
_KEYS = {
    "batching_strategy": "gpt_model_type",
    "engine_dir": "gpt_model_path",
    "encoder_engine_dir": "encoder_model_path",
}
# Where NVIDIA's image has the program that other ranks run.
_WORKER = "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker"


class Scheduling(pydantic.BaseModel):
    """Parameters of the model `tensorrt_llm`, which pass to its backend as they are; None leaves one out."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    engine_dir: Directory = pydantic.Field(
        description="Directory of the engine that `trtllm-build` has made."
    )
    encoder_engine_dir: Directory | None = pydantic.Field(
        default=None, description="Directory of the encoder's engine, of a model that has one."
    )
    batching_strategy: Literal["inflight_fused_batching", "V1"] = pydantic.Field(
        default="inflight_fused_batching", description="V1: one batch after the other."
    )
    batch_scheduler_policy: Literal["guaranteed_no_evict", "max_utilization"] | None = pydantic.Field(
        default=None,
        description="max_utilization: start more requests than certainly fit, and pause some if they do not.",
    )
    max_tokens_in_paged_kv_cache: AtLeastOne | None = pydantic.Field(
        default=None, description="Maximum number of tokens in the KV cache."
    )
    kv_cache_free_gpu_mem_fraction: Share | None = pydantic.Field(
        default=None, description="Share of the memory that the engine leaves free for the KV cache."
    )
    cross_kv_cache_fraction: Share | None = pydantic.Field(
        default=None, description="Share of the KV cache for cross attention; with `encoder_engine_dir` only."
    )
    kv_cache_host_memory_bytes: Count | None = pydantic.Field(
        default=None, description="Memory of the host, in bytes, to which blocks of the KV cache are moved."
    )
    enable_kv_cache_reuse: bool | None = pydantic.Field(
        default=None, description="Reuse the KV cache of equal beginnings of prompts."
    )
    max_attention_window_size: Annotated[list[AtLeastOne], pydantic.Field(min_length=1)] | None = (
        pydantic.Field(
            default=None, description="Number of tokens that attention sees, for each layer in turn."
        )
    )
    sink_token_length: Count | None = pydantic.Field(
        default=None, description="Number of first tokens that attention always sees."
    )
    enable_chunked_context: bool | None = pydantic.Field(
        default=None, description="Process long prompts in parts."
    )
    max_beam_width: AtLeastOne | None = pydantic.Field(default=None, description="Maximum number of beams.")
    decoding_mode: Literal["top_k", "top_p", "top_k_top_p", "beam_search"] | None = pydantic.Field(
        default=None, description="How tokens are chosen."
    )
    exclude_input_in_output: bool | None = pydantic.Field(
        default=None, description="Leave the prompt out of the answer."
    )
    normalize_log_probs: bool | None = pydantic.Field(
        default=None, description="Divide log probabilities by the length."
    )
    gpu_device_ids: Annotated[list[Count], pydantic.Field(min_length=1)] | None = pydantic.Field(
        default=None, description="Indexes of the GPUs (default: all)."
    )
    gpu_weights_percent: Share | None = pydantic.Field(
        default=None, description="Share of the weights on the GPU, of an engine with weight streaming."
    )
    multi_block_mode: bool | None = pydantic.Field(
        default=None, description="Share the attention of one sequence among blocks of threads."
    )
    enable_context_fmha_fp32_acc: bool | None = pydantic.Field(
        default=None, description="Accumulate the attention of prompts in 32 bits."
    )
    cuda_graph_mode: bool | None = pydantic.Field(default=None, description="Use CUDA graphs.")
    cuda_graph_cache_size: Count | None = pydantic.Field(
        default=None, description="Number of CUDA graphs that are kept."
    )
    guided_decoding_backend: Literal["xgrammar"] | None = pydantic.Field(
        default=None, description="Library for structured outputs; needs `xgrammar_tokenizer_info_path`."
    )
    xgrammar_tokenizer_info_path: Directory | None = pydantic.Field(
        default=None, description="File of the tokenizer for it."
    )
    cancellation_check_period_ms: AtLeastOne | None = pydantic.Field(
        default=None, description="Milliseconds between two looks for cancelled requests."
    )
    stats_check_period_ms: AtLeastOne | None = pydantic.Field(
        default=None, description="Milliseconds between two updates of metrics."
    )
    lora_cache_gpu_memory_fraction: Share | None = pydantic.Field(
        default=None, description="Share of the free memory for LoRA adapters."
    )
    lora_cache_host_memory_bytes: Count | None = pydantic.Field(
        default=None, description="Memory of the host for LoRA adapters, in bytes."
    )


class Ensemble(Scheduling):
    """The parameters of an ensemble, under the names of the variables of NVIDIA's templates."""

    tokenizer_dir: Directory = pydantic.Field(
        description="Directory of the tokenizer. NVIDIA's models run code that is in it."
    )
    triton_max_batch_size: int = pydantic.Field(
        ge=1, le=65536, description="Maximum batch size, at most that of the engine."
    )
    decoupled_mode: bool = pydantic.Field(
        default=True, description="Answer in several responses, which streams need."
    )
    max_queue_delay_microseconds: Count = pydantic.Field(
        default=0, description="Time that requests wait for others to form a batch."
    )
    max_queue_size: Count = pydantic.Field(
        default=0, description="Maximum number of requests that wait in Triton; 0 for no maximum."
    )
    preprocessing_instance_count: AtLeastOne = pydantic.Field(
        default=1, description="Number of processes that tokenize."
    )
    postprocessing_instance_count: AtLeastOne = pydantic.Field(
        default=1, description="Number of processes that make text of tokens."
    )
    add_special_tokens: bool | None = pydantic.Field(
        default=None, description="Whether prompts get the tokenizer's special tokens (default: true)."
    )
    skip_special_tokens: bool | None = pydantic.Field(
        default=None, description="Whether answers leave special tokens out (default: true)."
    )
    logits_datatype: Type = pydantic.Field(default="TYPE_FP32", description="Data type of logits.")
    encoder_input_features_data_type: Type = pydantic.Field(
        default="TYPE_FP16", description="Data type of features for an encoder."
    )
    prompt_embedding_table_data_type: Type = pydantic.Field(
        default="TYPE_FP16", description="Data type of prompt embeddings."
    )

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        beams = self.max_beam_width or 1
        if self.decoding_mode == "beam_search" and beams == 1:
            raise PydanticCustomError(
                "beams", "`decoding_mode: beam_search` needs `max_beam_width` of 2 or more"
            )
        if self.decoding_mode not in (None, "beam_search") and beams > 1:
            raise PydanticCustomError("beams", "`max_beam_width` above 1 needs `decoding_mode: beam_search`")
        if self.cross_kv_cache_fraction is not None and self.encoder_engine_dir is None:
            raise PydanticCustomError("encoder", "`cross_kv_cache_fraction` needs `encoder_engine_dir`")
        if (self.guided_decoding_backend is None) != (self.xgrammar_tokenizer_info_path is None):
            raise PydanticCustomError(
                "guided", "`guided_decoding_backend` and `xgrammar_tokenizer_info_path` need each other"
            )
        return self


def repository(ensemble: Ensemble) -> render.Repository:
    """The models' configurations. `1/model.py` of the two Python models comes with TensorRT-LLM, to whose version it belongs."""
    made = (_preprocessing(ensemble), _tensorrt_llm(ensemble), _postprocessing(ensemble), _ensemble(ensemble))
    # Triton wants a directory for each version, also of models that have no files.
    return {model.name: {"config.pbtxt": render.config_text(model), "1/.keep": b""} for model in made}


def _preprocessing(ensemble: Ensemble) -> Any:
    given = {
        "tokenizer_dir": ensemble.tokenizer_dir,
        "add_special_tokens": ensemble.add_special_tokens,
        # NVIDIA's model requires it to be there.
        "multimodal_model_path": "",
        "gpt_model_path": ensemble.engine_dir,
    }
    model = _model(ensemble, "preprocessing", "python", given)
    _queue(ensemble, model)
    model.instance_group.add(
        count=ensemble.preprocessing_instance_count, kind=config.schema.ModelInstanceGroup.KIND_CPU
    )
    ensemble_tensors.add(model, ensemble_tensors.PREPROCESSING, ensemble)
    return model


def _tensorrt_llm(ensemble: Ensemble) -> Any:
    scheduling = {name: getattr(ensemble, name) for name in Scheduling.model_fields}
    given = {_KEYS.get(name, name): value for name, value in scheduling.items()}
    fixed = {"FORCE_CPU_ONLY_INPUT_TENSORS": "no", "executor_worker_path": _WORKER}
    model = _model(ensemble, "tensorrt_llm", "tensorrtllm", given | fixed)
    model.model_transaction_policy.decoupled = ensemble.decoupled_mode
    _queue(ensemble, model)
    # The backend chooses its GPUs itself.
    model.instance_group.add(count=1, kind=config.schema.ModelInstanceGroup.KIND_CPU)
    ensemble_tensors.add(model, ensemble_tensors.TENSORRT_LLM, ensemble)
    return model


def _postprocessing(ensemble: Ensemble) -> Any:
    given = {"tokenizer_dir": ensemble.tokenizer_dir, "skip_special_tokens": ensemble.skip_special_tokens}
    model = _model(ensemble, "postprocessing", "python", given)
    model.dynamic_batching.SetInParent()
    model.instance_group.add(
        count=ensemble.postprocessing_instance_count, kind=config.schema.ModelInstanceGroup.KIND_CPU
    )
    ensemble_tensors.add(model, ensemble_tensors.POSTPROCESSING, ensemble)
    return model


def _ensemble(ensemble: Ensemble) -> Any:
    model = _model(ensemble, "ensemble", "", {})
    model.platform = "ensemble"
    ensemble_tensors.add(model, ensemble_tensors.ENSEMBLE, ensemble)
    for name, inputs, outputs in ensemble_tensors.STEPS:
        step = model.ensemble_scheduling.step.add(model_name=name, model_version=-1)
        step.input_map.update(inputs)
        step.output_map.update(outputs)
    return model


def _model(ensemble: Ensemble, name: str, backend: str, given: dict[str, Any]) -> Any:
    hashed = ensemble.model_dump(mode="json", exclude_none=True)
    texts = {key: _text(value) for key, value in given.items() if value is not None}
    model = config.new_model(name, "ensemble", hashed, texts)
    model.backend = backend
    model.max_batch_size = ensemble.triton_max_batch_size
    return model


def _queue(ensemble: Ensemble, model: Any) -> None:
    model.dynamic_batching.preferred_batch_size.append(ensemble.triton_max_batch_size)
    model.dynamic_batching.max_queue_delay_microseconds = ensemble.max_queue_delay_microseconds
    model.dynamic_batching.default_queue_policy.max_queue_size = ensemble.max_queue_size


def _text(value: Any) -> str:
    """A parameter as the backend reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
