"""Stage folders as a recipe writes them, small enough to publish in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, CLIPImageProcessorPil, PreTrainedTokenizerFast

from polysense import CometModel, UniAlignModel
from polysense.hub import card_of_folder
from polysense.modality import Modality
from polysense.models.encoders import StepNet, StepNetConfig
from polysense.models.unialign.processing_unialign import UniAlignProcessor
from polysense.recipes.comet_codes import SavedExtractors, save_extractors
from polysense.recipes.feature_pairs import ExtractorSettings
from polysense.storage import write_manifest
from polysense.testing.tiny import IMAGE_SIZE, tiny_clip, tiny_tokenizer
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


def comet_record(**changes: Any) -> dict[str, Any]:
    names = {"system": "comet", "name": "stage-2-audio-text", "trained": ["audio", "text"],
             "modalities": ["text", "audio"]}  # fmt: skip
    return stage_record(**{**names, "parent": None, **changes})


def comet_metrics(**changes: Any) -> dict[str, Any]:
    codes = {"hits": {"audio": [3, 0, 1, 0], "text": [2, 2, 0, 0]}, "perplexity": {"audio": 1.75, "text": 2.0},
             "active_in": {"1": 0.5, "2": 0.25}, "dead": 0.25}  # fmt: skip
    found = result(task="retrieval audio to text", modality="audio", metric="recall@1")
    return metrics_record(found, **{"codebook": {"sizes": [12, 4]}, "codes": codes, **changes})


def write_comet_stage(folder: Path, nets: Path) -> Path:
    """A stage folder of COMET: a codebook of sounds and texts, with the untrained nets of `nets` that read them.

    As those of a recipe, the nets have checksums of their own and remember where they come from.
    """
    options = {"windows": 10, "seconds": 1.0, "layout": "consecutive", "mel_bins": 16, "picture": False}
    sense = Modality(name="audio", kind="spectrogram", channels=1, processor=options)
    ear = StepNetConfig(sense=sense.to_dict(), channels=1, height=16, width=98, widths=[8, 8], vector=True)
    StepNet(ear).save_pretrained(nets / "ear")
    (nets / "ear" / "stage.json").write_text(json.dumps({"command": "polysense train --output /home/me/runs/x"}))
    write_manifest(nets / "ear")
    words = BertConfig(vocab_size=96, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    BertModel(words).save_pretrained(nets / "words")
    tiny_tokenizer().save_pretrained(nets / "words")
    model = CometModel.from_features(
        {"text": {"feature_dim": 8, "recurrent": True}, "audio": {"feature_dim": 8}}, hidden_size=8,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, context_layers=1, num_experts=2,
        codebook_sizes=[12, 4],
    )  # fmt: skip
    model.save_pretrained(folder)
    used = {"audio": ExtractorSettings(encoder="ear"), "text": ExtractorSettings(language_model="words")}
    save_extractors(SavedExtractors(steps=10, extractors=used), nets, folder)
    (folder / "stage.json").write_text(json.dumps(comet_record()))
    (folder / "metrics.json").write_text(json.dumps(comet_metrics()))
    (folder / "README.md").write_text(card_of_folder(folder))
    return folder
