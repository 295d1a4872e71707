"""The surface that users build on. A change here is a change for them: it belongs in the changelog."""

from __future__ import annotations

import importlib
from dataclasses import fields

import pytest
from transformers import PreTrainedConfig

import polysense
from polysense.modality import Modality

SURFACE = {
    "polysense": [
        "CometConfig",
        "CometModel",
        "MeraConfig",
        "MeraForConditionalGeneration",
        "MeraProcessor",
        "Modality",
        "UniAlignConfig",
        "UniAlignModel",
        "UniAlignProcessor",
        "__version__",
        "register_modality",
    ],
    "polysense.nn": [
        "BlockExperts",
        "CodeStatistics",
        "Codebook",
        "CodebookOptions",
        "CodebookOutput",
        "CommonSpecificExperts",
        "FrozenCodes",
        "grow",
        "ExpertOptions",
        "ExpertSite",
        "ExpertTransformer",
        "Gate",
        "GroupExperts",
        "Tokenizer",
        "add_experts",
        "build_tokenizer",
        "linear_with_experts",
        "register_tokenizer",
        "routing_weights",
        "svd_experts",
        "tokenizer_kinds",
    ],
    "polysense.nn.connectors": [
        "Connector",
        "MLPConnector",
        "QFormerConnector",
        "build_connector",
        "connector_kinds",
        "connector_options",
        "register_connector",
    ],
    "polysense.nn.heads": ["EventClassifier", "EventLocaliser"],
    "polysense.losses": [
        "LocalisationLoss",
        "code_distribution",
        "commitment",
        "cross_cpc",
        "cross_modal_code",
        "dice",
        "exp_log",
        "gate_balance",
        "info_nce",
        "label_similarity",
        "mask_loss",
        "negative_log_likelihood",
        "soft_binding",
        "step_error",
        "vclub",
    ],
    "polysense.metrics": [
        "CaptionScore",
        "CodeActivation",
        "EventScore",
        "Memory",
        "RelativeGains",
        "UNDECIDED",
        "accuracy",
        "best_match_ranks",
        "cider_d",
        "class_embeddings",
        "code_activation",
        "code_counts",
        "composed",
        "constant_f1",
        "contour_accuracy",
        "event_score",
        "f1_interval",
        "linear_probe",
        "match_ranks",
        "mean_average_precision",
        "mean_interval",
        "memories",
        "perplexity",
        "plasticity",
        "proportion_interval",
        "recall_at",
        "region_similarity",
        "relative_gain",
        "relative_gains",
        "verdict",
    ],
    "polysense.metrics.hf": ["CiderMetric", "JudgeAccuracyMetric", "RelativeGainsMetric"],
    "polysense.metrics.judging": [
        "Answer",
        "Judge",
        "Judgement",
        "LlmJudge",
        "LlmJudgeOptions",
        "NormalisedMatchJudge",
        "Patience",
        "Verdict",
    ],
    "polysense.merging": [
        "Block",
        "MergeMethod",
        "add_deltas",
        "chosen_method",
        "concatenate_factors",
        "dare",
        "effective_weight",
        "get_merge_method",
        "lora_delta",
        "merge_coefficients",
        "merge_folders",
        "merge_methods",
        "register_merge_method",
        "running_average",
        "slerp",
        "task_arithmetic",
        "ties",
    ],
    "polysense.continual": [
        "CodebookStage",
        "EWC_SCOPES",
        "PseudoModality",
        "begin_stage",
        "ewc_pattern",
        "OnlineEwc",
        "Phase",
        "Stage",
        "TrainStage",
        "apply_freezing",
        "batch_fisher",
        "check_replay",
        "draw_replay",
        "join_replay",
        "normalised",
        "run_stages",
        "sample_fisher",
        "stage_details",
        "stage_folders",
        "stage_keys",
    ],
}

CONFIG_FIELDS = {
    "CometConfig": [
        "assignment",
        "codebook_decay",
        "codebook_epsilon",
        "codebook_sizes",
        "context_layers",
        "dropout",
        "encoder_config",
        "expert_combine",
        "expert_residual",
        "expert_specific",
        "hidden_size",
        "hold_old_codes",
        "horizon",
        "information",
        "intermediate_size",
        "mixing",
        "modalities",
        "num_attention_heads",
        "num_experts",
        "num_hidden_layers",
        "protect_old_codes",
        "restart_after",
        "steps",
    ],
    "MeraConfig": ["adapters", "encoder_configs", "modalities", "text_config", "tie_word_embeddings"],
    "UniAlignConfig": [
        "clip_config",
        "expert_alpha",
        "expert_init",
        "expert_rank",
        "expert_site",
        "image_experts",
        "image_tokenized",
        "modalities",
        "num_experts",
        "routing",
        "top_k",
        "train_logit_scale",
        "unified_text",
        "visible_groups",
    ],
}

METHODS = {
    "CometModel": [
        "add_modality",
        "decode",
        "encode",
        "encode_sequence",
        "extract",
        "forward",
        "freezing",
        "from_encoder",
        "from_features",
        "from_pretrained",
        "grow_codebook",
        "modalities",
        "push_to_hub",
        "save_pretrained",
        "snapshot",
        "specifics",
        "start_codebook",
    ],
    "MeraForConditionalGeneration": [
        "add_modality",
        "encode",
        "forward",
        "freezing",
        "from_llava",
        "from_parts",
        "from_pretrained",
        "generate",
        "modalities",
        "parameter_table",
        "push_to_hub",
        "save_pretrained",
        "to_llava",
        "token_layout",
    ],
    "MeraProcessor": [
        "add_modality",
        "apply_chat_template",
        "counts",
        "expand",
        "features",
        "from_llava",
        "from_model",
        "from_pretrained",
        "layout",
        "modalities",
        "save_pretrained",
        "token_id",
        "training_inputs",
    ],
    "UniAlignModel": [
        "add_modality",
        "embed",
        "encode_tokens",
        "forward",
        "freezing",
        "from_clip",
        "from_pretrained",
        "logit_scale",
        "modalities",
        "parameter_table",
        "save_pretrained",
        "push_to_hub",
        "token_spec",
        "unmask_experts",
    ],
}


@pytest.mark.parametrize("name", SURFACE)
def test_names_are_pinned_and_there(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(SURFACE[name])
    assert all(hasattr(module, each) for each in module.__all__)


@pytest.mark.parametrize("name", CONFIG_FIELDS)
def test_config_fields_are_pinned(name: str) -> None:
    inherited = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name for field in fields(getattr(polysense, name))} - inherited
    assert sorted(own) == CONFIG_FIELDS[name]


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_there(name: str) -> None:
    assert [each for each in METHODS[name] if not hasattr(getattr(polysense, name), each)] == []


def test_a_modality_spec_is_pinned_because_checkpoints_hold_it() -> None:
    assert [field.name for field in fields(Modality)] == [
        "name", "kind", "channels", "group", "tokenizer", "processor",
    ]  # fmt: skip


def test_the_version_is_a_version() -> None:
    assert [part.isdigit() for part in polysense.__version__.split(".")[:2]] == [True, True]
