"""Frozen encoders and language models as extractors of sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer, RobertaConfig, RobertaModel

from polysense.errors import CheckpointError, ConfigError, FeatureShapeError, MediaError
from polysense.models.encoders import PointBertConfig, PointBertEncoder, StepNet, StepNetConfig
from polysense.models.encoders.extraction import (
    EncoderExtractor,
    SequenceExtractor,
    StoredExtractor,
    TextExtractor,
    WhitenedExtractor,
    extractor_digest,
    fit_whitening,
    read_whitening,
    save_whitening,
)
from polysense.nn.whitening import Whitening
from polysense.processing import (
    DepthProcessor,
    Fit,
    ImageProcessor,
    PointCloudProcessor,
    SequenceProcessor,
    VideoProcessor,
)
from polysense.testing import tiny_llama, tiny_tokenizer

NET = StepNetConfig(height=16, width=16, widths=[8, 8], frames_per_step=2)


def film(steps: int = 3, fit: Fit = "repeat", seed: int = 0, raster: bool = True) -> EncoderExtractor:
    torch.manual_seed(seed)
    part = VideoProcessor(modality="video", size=16, windows=6, seconds=0.5)
    return EncoderExtractor(encoder=StepNet(NET).eval(), part=part, steps=steps, fit=fit, raster=raster)


def text(steps: int = 4) -> TextExtractor:
    return TextExtractor(model=tiny_llama().model.eval(), tokenizer=tiny_tokenizer(), steps=steps)


FRAMES = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), np.uint8)
RATE = {"frame_rate": 2.0}


def test_a_film_becomes_steps_with_a_raster() -> None:
    extractor = film()
    steps = extractor(FRAMES, RATE)
    assert steps.shape == (3, 4, 4, 8)
    values = extractor.part([FRAMES], facts=[RATE])["video_values"]
    tokens = extractor.encoder.encode_tokens("video", values).tokens[0]
    assert torch.equal(steps.flatten(1, 2), tokens)
    assert torch.allclose(film(raster=False)(FRAMES, RATE), tokens.mean(dim=1))


def test_a_whole_film_has_the_steps_of_its_length() -> None:
    long = np.concatenate([FRAMES, FRAMES, FRAMES])
    whole = film(steps=3).whole(long, RATE)
    assert whole.shape == (9, 4, 4, 8) and torch.allclose(whole[:3], film(steps=3)(FRAMES, RATE), atol=1e-6)
    assert len(film(steps=3).whole(FRAMES[:2], RATE)) == 1, "a short one is not repeated"


def test_a_still_is_repeated_to_all_steps() -> None:
    net = StepNet(StepNetConfig(height=16, width=16, widths=[8])).eval()
    extractor = EncoderExtractor(encoder=net, part=ImageProcessor(modality="image", size=16), steps=3)
    steps = extractor(FRAMES[0])
    assert steps.shape == (3, 8, 8, 8) and torch.equal(steps[0], steps[2])


def test_what_is_assumed_of_a_source_is_what_its_processor_assumes() -> None:
    net = StepNet(StepNetConfig(height=16, width=16, channels=1, widths=[8])).eval()
    extractor = EncoderExtractor(encoder=net, part=DepthProcessor(modality="depth", size=16, channels=1), steps=3)
    whitened = WhitenedExtractor(extractor=extractor, whitening=Whitening.of(torch.randn(30, 8), 0.1))
    stored = StoredExtractor(part=SequenceProcessor(modality="depth", channels=2), steps=3)
    for each in (extractor, whitened):
        assert set(each.assumed({"focal": 80.0})) == {"baseline"}
    assert text().assumed({}) == stored.assumed({}) == {}


def test_tokens_without_a_raster_are_averaged() -> None:
    config = PointBertConfig(channels=3, num_groups=4, point_width=4, hidden_size=12, intermediate_size=16,
                             num_hidden_layers=1, num_attention_heads=2, keep_class=False)  # fmt: skip
    part = PointCloudProcessor(modality="point_cloud", num_groups=4, group_size=4)
    extractor = EncoderExtractor(encoder=PointBertEncoder(config).eval(), part=part, steps=2)
    assert extractor(np.random.default_rng(0).random((40, 3), np.float32)).shape == (2, 12)


def test_the_key_says_all_that_features_depend_on() -> None:
    digests = [extractor_digest(each) for each in (film(), film(seed=1), film(steps=2), film(fit="cut"))]
    assert len(set(digests)) == 4 and extractor_digest(film()) == digests[0]
    assert extractor_digest(text()) == extractor_digest(text()) != extractor_digest(text(steps=5))


def test_a_sentence_has_a_step_per_token_and_none_for_what_the_tokenizer_adds() -> None:
    extractor = text()
    steps = extractor(("a red ball",))
    assert steps.shape == (3, 32)
    ids = torch.tensor([extractor.tokenizer("a red ball")["input_ids"]])
    assert ids[0, 0] == extractor.tokenizer.bos_token_id
    with torch.no_grad():
        assert torch.allclose(steps, extractor.model(input_ids=ids).last_hidden_state[0, 1:], atol=1e-6)
    cut = extractor(("a red ball and a cup",))
    assert len(cut) == 4 and torch.allclose(cut[:3], steps, atol=1e-5)  # causal


def test_a_text_is_cut_to_what_its_net_takes_where_positions_are_more_than_tokens() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 4
    config = RobertaConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=8, max_position_embeddings=6, pad_token_id=1)  # fmt: skip
    extractor = TextExtractor(model=RobertaModel(config).eval(), tokenizer=tokenizer, steps=8)
    assert len(extractor(("a red ball and a cup and a red ball",))) == 3  # and the tokenizer's first


def test_a_narration_has_a_step_per_phrase() -> None:
    extractor = text()
    told = extractor(("a red ball", "a cup"))
    assert told.shape == (2, 32)
    assert torch.allclose(told[0], extractor(("a red ball",)).mean(dim=0), atol=1e-6)


def test_a_text_without_words_cannot_be_used() -> None:
    for phrase, problem in ((" ", "empty text"), ("a \udcff", "surrogates")):
        with pytest.raises(MediaError, match=problem):
            text()((phrase,))
    bare = BertTokenizer(vocab={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4})
    with pytest.raises(MediaError, match="without words"):
        replace(text(), tokenizer=bare)(("\u200b",))


def test_stored_features_are_brought_to_the_number_of_steps(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4.0).reshape(2, 2))
    part = SequenceProcessor(modality="audio", channels=2)
    steps = StoredExtractor(part=part, steps=3)(tmp_path / "a.npy")
    assert steps.tolist() == [[0.0, 1.0], [2.0, 3.0], [2.0, 3.0]]


def test_a_whitening_is_fitted_to_what_an_extractor_makes_and_unusable_texts_are_left_out() -> None:
    texts = [(("a red ball and a cup",), None), (("",), None), (("the blue cup",), None)]
    extractor = text()
    whitening = fit_whitening(extractor, texts, 0.1)
    told = torch.cat([extractor(texts[0][0]), extractor(texts[2][0])])
    assert torch.equal(whitening.matrix, Whitening.of(told, 0.1).matrix)
    with pytest.raises(MediaError, match="empty text"):
        fit_whitening(extractor, texts[1:2], 0.1)
    with pytest.raises(MediaError, match="no files to fit a whitening to"):
        fit_whitening(extractor, [], 0.1)


def test_whitened_sequences_are_those_of_the_extractor_through_the_whitening(tmp_path: Path) -> None:
    extractor = film()
    whitening = Whitening.of(torch.randn(30, 8), 0.1)
    whitened = WhitenedExtractor(extractor=extractor, whitening=whitening)
    steps = whitened(FRAMES, RATE)
    assert steps.shape == (3, 4, 4, 8) and torch.equal(steps, whitening(extractor(FRAMES, RATE)))
    others: list[SequenceExtractor] = [
        extractor,
        WhitenedExtractor(extractor=extractor, whitening=Whitening.of(torch.randn(30, 8), 0.1)),
    ]
    assert extractor_digest(whitened) not in map(extractor_digest, others)
    save_whitening(whitening, tmp_path)
    again = WhitenedExtractor(extractor=extractor, whitening=read_whitening(tmp_path))
    assert extractor_digest(again) == extractor_digest(whitened)
    with pytest.raises(FeatureShapeError, match="features of width 8, where 3 are whitened"):
        WhitenedExtractor(extractor=extractor, whitening=Whitening.of(torch.randn(9, 3), 0.1))(FRAMES, RATE)


def test_a_missing_or_damaged_whitening_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no whitening beside it"):
        read_whitening(tmp_path)
    (tmp_path / "whitening.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"whitening\.safetensors: cannot be read"):
        read_whitening(tmp_path)
