"""Stage folders as a recipe writes them, small enough to publish in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from polysense import UniAlignModel
from polysense.hub import card_of_folder
from polysense.models.unialign.processing_unialign import UniAlignProcessor
from polysense.testing.tiny import IMAGE_SIZE, tiny_clip
from tests.models.mera.saved import write_mera

WORDS = ["<pad>", "<bos>", "<unk>", "<eos>", "a", "red", "blue", "cube", "sphere"]


def stage_record(**changes: Any) -> dict[str, Any]:
    return {
        "system": "unialign", "stage": 2, "name": "stage-2-depth", "parent": "stage-1-image", "trained": ["depth"],
        "modalities": ["image", "text", "depth"],
        "base_model": {"name": "openai/clip-vit-base-patch16", "license": "mit"},
        "data": [{"name": "world stills", "samples": 2400, "license": "Apache-2.0", "content_hash": "ab12"}],
        "frozen": {".*": False, r"tokenizers\.depth\..*": True},
        "parameters": {"base": [9000, 0], "tokenizer depth": [600, 600], "experts depth": [400, 400]},
        "hyperparameters": {"learning_rate": 0.002, "model": {"num_experts": 2}},
        "seed": 7, "steps": 1200, "seconds": 75.2, "versions": {"torch": "2.13.0", "polysense": "0.1.0"},
        "command": "polysense train unialign --config world --output runs/x", "commit": "0123abc",
        "limits": ["Trained on a synthetic world."],
    } | changes  # fmt: skip


def result(**changes: Any) -> dict[str, Any]:
    return {
        "task": "zero-shot classification", "modality": "depth", "dataset": "world stills test", "metric": "top1",
        "value": 0.6125, "low": 0.58, "high": 0.64, "chance": 0.125, "upper_bound": 0.875, "count": 300,
    } | changes  # fmt: skip


def metrics_record(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"command": "polysense evaluate runs/x/stages/stage-2-depth", "seed": 7, "commit": "0123abc",
            "results": list(results) or [result()]} | changes  # fmt: skip


def mera_record(**changes: Any) -> dict[str, Any]:
    names = {"system": "mera", "name": "stage-2-depth", "trained": ["depth"], "modalities": ["depth", "text"]}
    chosen = {"conversations": {"instructions": ["what is this ?"]}}
    return stage_record(**{**names, "parent": None, "hyperparameters": chosen, **changes})


def mera_metrics(**changes: Any) -> dict[str, Any]:
    said = result(task="captioning", dataset="depth", metric="CIDEr-D (ptb)", value=1.312, low=1.2, high=1.4,
                  chance=0.08, upper_bound=None)  # fmt: skip
    answered = {**said, "task": "question answering", "metric": "accuracy (gpt-4o-mini)", "value": 0.7, "low": 0.6,
                "high": 0.8}  # fmt: skip
    judged = {"judge": "gpt-4o-mini", "answers": 300, "coverage": 0.9934, "complete": True}
    return metrics_record(said, answered, **{"judgements": {"depth": judged}, **changes})


def tiny_processor(modalities: list[str]) -> UniAlignProcessor:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>",
        model_max_length=16,
    )  # fmt: skip
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    processor = UniAlignProcessor(CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=side), fast)
    for modality in modalities:
        processor.add_modality(modality)
    return processor


def write_stage(folder: Path, *, number: int, senses: tuple[str, ...] = ("depth",), **changes: Any) -> Path:
    """A whole stage folder: weights (drawn from its number), config, processor, records, card."""
    model = UniAlignModel.from_clip(tiny_clip(), list(senses), seed=number)
    model.save_pretrained(folder)
    tiny_processor(list(senses)).save_pretrained(folder)
    record = stage_record(stage=number, name=f"stage-{number}-depth", parent=None, **changes)
    (folder / "stage.json").write_text(json.dumps(record))
    (folder / "metrics.json").write_text(json.dumps(metrics_record()))
    (folder / "README.md").write_text(card_of_folder(folder))
    return folder


def write_mera_stage(folder: Path) -> Path:
    """A stage folder of MERA: a tiny LLaVA that has learned depth."""
    write_mera(folder, "depth")
    (folder / "stage.json").write_text(json.dumps(mera_record()))
    (folder / "metrics.json").write_text(json.dumps(mera_metrics()))
    (folder / "README.md").write_text(card_of_folder(folder))
    return folder
