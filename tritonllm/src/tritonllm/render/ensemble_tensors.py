"""The tensors of the models of TensorRT-LLM's ensemble, and how they are connected. Pure.

A tensor is written `NAME TYPE DIMS`; a type in lower case is a parameter of the ensemble. Marks: `?` optional, `*` ragged
batches, `s` one value without a dimension of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tritonllm.render import config


class Tensors(NamedTuple):
    """Inputs and outputs of a model, one for each line."""

    inputs: str
    outputs: str


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


PREPROCESSING = Tensors(
    """
    QUERY STRING 1
    DECODER_QUERY STRING 1 ?
    IMAGE_BYTES UINT8 -1,-1,-1,-1 ?
    IMAGE_URL STRING 1 ?
    IMAGES STRING -1 ?
    VIDEO_BYTES UINT8 -1,-1,-1,-1 ?
    REQUEST_OUTPUT_LEN INT32 1
    BAD_WORDS_DICT STRING -1 ?
    STOP_WORDS_DICT STRING -1 ?
    EMBEDDING_BIAS_WORDS STRING -1 ?
    EMBEDDING_BIAS_WEIGHTS FP32 -1 ?
    END_ID INT32 1 ?
    PAD_ID INT32 1 ?
    PROMPT_TABLE_EXTRA_ID UINT64 1 ?
    """,
    """
    INPUT_ID INT32 -1
    REQUEST_INPUT_LEN INT32 1
    DECODER_INPUT_ID INT32 -1
    REQUEST_DECODER_INPUT_LEN INT32 1
    BAD_WORDS_IDS INT32 2,-1
    STOP_WORDS_IDS INT32 2,-1
    EMBEDDING_BIAS FP32 -1
    REQUEST_OUTPUT_LEN INT32 -1
    OUT_END_ID INT32 1
    OUT_PAD_ID INT32 1
    OUT_PROMPT_TABLE_EXTRA_IDS UINT64 -1
    PIXEL_VALUES FP16 -1,-1,-1,-1
    ASPECT_RATIO_IDS INT64 -1
    ASPECT_RATIO_MASK INT64 -1,-1
    CROSS_ATTENTION_MASK INT64 -1,-1,-1
    IMAGE_SIZES INT64 -1,2
    IS_VIDEO_INPUT BOOL 1
    ATTENTION_MASK INT64 -1
    IMAGE_GRID_THW INT64 3
    VISION_INPUT_ID INT32 -1
    """,
)

POSTPROCESSING = Tensors(
    """
    TOKENS_BATCH INT32 -1,-1
    SEQUENCE_LENGTH INT32 -1
    """,
    """
    OUTPUT STRING -1
    """,
)

# Of the engine and of the ensemble.
_STATISTICS = """
    cum_log_probs FP32 -1
    output_log_probs FP32 -1,-1
    context_logits logits_datatype -1,-1
    generation_logits logits_datatype -1,-1,-1
    batch_index INT32 1
    sequence_index INT32 1
    kv_cache_alloc_new_blocks INT32 1
    kv_cache_reused_blocks INT32 1
    kv_cache_alloc_total_blocks INT32 1
    arrival_time_ns INT64 1
    first_scheduled_time_ns INT64 1
    first_token_time_ns INT64 1
    last_token_time_ns INT64 1
    acceptance_rate FP32 1
    total_accepted_draft_tokens INT32 1
    total_draft_tokens INT32 1
    num_input_tokens INT32 1
    num_output_tokens INT32 1
    """

TENSORRT_LLM = Tensors(
    """
    input_ids INT32 -1 ?*
    encoder_input_features encoder_input_features_data_type -1,-1 ?*
    encoder_output_lengths INT32 1 ?s
    input_lengths INT32 1 s
    request_output_len INT32 1 s
    num_return_sequences INT32 1 ?s
    draft_input_ids INT32 -1 ?*
    decoder_input_ids INT32 -1 ?*
    decoder_input_lengths INT32 1 ?s
    draft_logits logits_datatype -1,-1 ?*
    draft_acceptance_threshold FP32 1 ?s
    end_id INT32 1 ?s
    pad_id INT32 1 ?s
    stop_words_list INT32 2,-1 ?*
    bad_words_list INT32 2,-1 ?*
    embedding_bias FP32 -1 ?*
    beam_width INT32 1 ?s
    temperature FP32 1 ?s
    runtime_top_k INT32 1 ?s
    runtime_top_p FP32 1 ?s
    runtime_top_p_min FP32 1 ?s
    runtime_top_p_decay FP32 1 ?s
    runtime_top_p_reset_ids INT32 1 ?s
    len_penalty FP32 1 ?s
    early_stopping BOOL 1 ?s
    repetition_penalty FP32 1 ?s
    min_tokens INT32 1 ?s
    beam_search_diversity_rate FP32 1 ?s
    presence_penalty FP32 1 ?s
    frequency_penalty FP32 1 ?s
    seed UINT64 1 ?s
    return_log_probs BOOL 1 ?s
    return_context_logits BOOL 1 ?s
    return_generation_logits BOOL 1 ?s
    return_perf_metrics BOOL 1 ?s
    return_num_input_tokens BOOL 1 ?s
    return_num_output_tokens BOOL 1 ?s
    exclude_input_in_output BOOL 1 ?s
    stop BOOL 1 ?s
    streaming BOOL 1 ?s
    prompt_embedding_table prompt_embedding_table_data_type -1,-1 ?*
    prompt_table_extra_ids UINT64 -1 ?*
    prompt_vocab_size INT32 1 ?s
    cross_attention_mask BOOL -1,-1 ?*
    mrope_rotary_cos_sin FP32 -1 ?
    mrope_position_deltas INT64 1 ?
    lora_task_id UINT64 1 ?s
    lora_weights FP16 -1,-1 ?*
    lora_config INT32 -1,3 ?*
    context_phase_params UINT8 -1 ?*
    skip_cross_attn_blocks BOOL 1 ?*
    retention_token_range_starts INT32 -1 ?*
    retention_token_range_ends INT32 -1 ?*
    retention_token_range_priorities INT32 -1 ?*
    retention_token_range_durations_ms INT32 -1 ?*
    retention_decode_priority INT32 1 ?*
    retention_decode_duration_ms INT32 1 ?*
    guided_decoding_guide_type STRING 1 ?*
    guided_decoding_guide STRING 1 ?*
    lookahead_window_size INT32 1 ?*
    lookahead_ngram_size INT32 1 ?*
    lookahead_verification_set_size INT32 1 ?*
    """,
    """
    output_ids INT32 -1,-1
    sequence_length INT32 -1
    context_phase_params UINT8 -1
    """
    + _STATISTICS,
)

ENSEMBLE = Tensors(
    """
    text_input STRING 1
    decoder_text_input STRING 1 ?
    max_tokens INT32 1
    num_return_sequences INT32 1 ?
    bad_words STRING -1 ?
    stop_words STRING -1 ?
    exclude_input_in_output BOOL 1 ?
    end_id INT32 1 ?
    pad_id INT32 1 ?
    top_k INT32 1 ?
    top_p FP32 1 ?
    temperature FP32 1 ?
    length_penalty FP32 1 ?
    repetition_penalty FP32 1 ?
    min_tokens INT32 1 ?
    presence_penalty FP32 1 ?
    frequency_penalty FP32 1 ?
    seed UINT64 1 ?
    return_log_probs BOOL 1 ?
    return_context_logits BOOL 1 ?
    return_generation_logits BOOL 1 ?
    return_perf_metrics BOOL 1 ?
    return_num_input_tokens BOOL 1 ?
    return_num_output_tokens BOOL 1 ?
    beam_width INT32 1 ?
    stream BOOL 1 ?
    prompt_embedding_table prompt_embedding_table_data_type -1,-1 ?
    prompt_table_extra_id UINT64 1 ?
    prompt_vocab_size INT32 1 ?
    embedding_bias_words STRING -1 ?
    embedding_bias_weights FP32 -1 ?
    lora_task_id UINT64 1 ?
    lora_weights FP16 -1,-1 ?*
    lora_config INT32 -1,3 ?*
    guided_decoding_guide_type STRING 1 ?*
    guided_decoding_guide STRING 1 ?*
    """,
    """
    text_output STRING -1
    """
    + _STATISTICS,
)

# Inputs of the engine that have the name of one of the ensemble.
_PASSED = [
    "beam_width",
    "exclude_input_in_output",
    "frequency_penalty",
    "guided_decoding_guide",
    "guided_decoding_guide_type",
    "lora_config",
    "lora_task_id",
    "lora_weights",
    "min_tokens",
    "num_return_sequences",
    "presence_penalty",
    "prompt_embedding_table",
    "prompt_vocab_size",
    "repetition_penalty",
    "return_context_logits",
    "return_generation_logits",
    "return_log_probs",
    "return_num_input_tokens",
    "return_num_output_tokens",
    "return_perf_metrics",
    "seed",
    "temperature",
]

STEPS: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    (
        "preprocessing",
        {
            "QUERY": "text_input",
            "DECODER_QUERY": "decoder_text_input",
            "REQUEST_OUTPUT_LEN": "max_tokens",
            "BAD_WORDS_DICT": "bad_words",
            "STOP_WORDS_DICT": "stop_words",
            "EMBEDDING_BIAS_WORDS": "embedding_bias_words",
            "EMBEDDING_BIAS_WEIGHTS": "embedding_bias_weights",
            "END_ID": "end_id",
            "PAD_ID": "pad_id",
            "PROMPT_TABLE_EXTRA_ID": "prompt_table_extra_id",
        },
        {
            "REQUEST_INPUT_LEN": "_REQUEST_INPUT_LEN",
            "INPUT_ID": "_INPUT_ID",
            "REQUEST_DECODER_INPUT_LEN": "_REQUEST_DECODER_INPUT_LEN",
            "DECODER_INPUT_ID": "_DECODER_INPUT_ID",
            "REQUEST_OUTPUT_LEN": "_REQUEST_OUTPUT_LEN",
            "STOP_WORDS_IDS": "_STOP_WORDS_IDS",
            "BAD_WORDS_IDS": "_BAD_WORDS_IDS",
            "EMBEDDING_BIAS": "_EMBEDDING_BIAS",
            "OUT_END_ID": "_PREPROCESSOR_END_ID",
            "OUT_PAD_ID": "_PREPROCESSOR_PAD_ID",
            "OUT_PROMPT_TABLE_EXTRA_IDS": "_OUT_PROMPT_TABLE_EXTRA_IDS",
        },
    ),
    (
        "tensorrt_llm",
        {
            "input_ids": "_INPUT_ID",
            "decoder_input_ids": "_DECODER_INPUT_ID",
            "input_lengths": "_REQUEST_INPUT_LEN",
            "decoder_input_lengths": "_REQUEST_DECODER_INPUT_LEN",
            "request_output_len": "_REQUEST_OUTPUT_LEN",
            "end_id": "_PREPROCESSOR_END_ID",
            "pad_id": "_PREPROCESSOR_PAD_ID",
            "embedding_bias": "_EMBEDDING_BIAS",
            "stop_words_list": "_STOP_WORDS_IDS",
            "bad_words_list": "_BAD_WORDS_IDS",
            "prompt_table_extra_ids": "_OUT_PROMPT_TABLE_EXTRA_IDS",
            "runtime_top_k": "top_k",
            "runtime_top_p": "top_p",
            "len_penalty": "length_penalty",
            "streaming": "stream",
            **{name: name for name in _PASSED},
        },
        {
            "output_ids": "_TOKENS_BATCH",
            "sequence_length": "_SEQUENCE_LENGTH",
            **{line.split()[0]: line.split()[0] for line in _lines(_STATISTICS)},
        },
    ),
    (
        "postprocessing",
        {"TOKENS_BATCH": "_TOKENS_BATCH", "SEQUENCE_LENGTH": "_SEQUENCE_LENGTH"},
        {"OUTPUT": "text_output"},
    ),
)
"""Each step's model, its inputs and its outputs by name, with the ensemble's tensors; `_` begins those between steps."""


def add(model: config.ModelConfig, tensors: Tensors, types: Any) -> None:
    """Adds tensors to a model.

    Args:
        model: the configuration.
        tensors: what to add.
        types: has the data types that are parameters.
    """
    for line in _lines(tensors.inputs):
        name, kind, dims, marks = _parsed(line, types)
        added = model.input.add(
            name=name, data_type=kind, dims=dims, optional="?" in marks, allow_ragged_batch="*" in marks
        )
        if "s" in marks:
            added.reshape.SetInParent()
    for line in _lines(tensors.outputs):
        name, kind, dims, _ = _parsed(line, types)
        model.output.add(name=name, data_type=kind, dims=dims)


def _parsed(line: str, types: Any) -> tuple[str, int, list[int], str]:
    name, kind, dims, *marks = line.split()
    kind = getattr(types, kind) if kind.islower() else f"TYPE_{kind}"
    return name, config.schema.DataType.Value(kind), [int(size) for size in dims.split(",")], "".join(marks)
