"""What recipes of anchors share: a byte-pair tokenizer of their texts, and a plain Hugging Face folder at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from polysense.trainer import Hooks, LoopState, atomic_folder
from polysense.trainer.distributed import on_main

_ALPHABET = list("abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'-()/%&+")


def byte_pairs(texts: Iterable[str], *, special: Sequence[str], unknown: str, vocabulary: int) -> Tokenizer:
    """Byte pairs of lower-case words in CLIP's manner, every character known; special tokens come first, in order.

    Args:
        unknown: which of the special tokens stands for what is not known.
        vocabulary: most tokens, the special ones included.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=unknown, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer.train_from_iterator(
        chain(texts, _ALPHABET),  # alone, every character is seen at the end of a word, where it is another token
        trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(special), initial_alphabet=_ALPHABET,
                            end_of_word_suffix="</w>", show_progress=False),
    )  # fmt: skip
    return tokenizer


def saving(folder: Path, *parts: Any) -> Hooks:
    """At the end of a training, `save_pretrained` of every part into one folder, whole or not at all."""

    def write() -> None:
        with atomic_folder(folder) as temporary:
            for part in parts:
                part.save_pretrained(temporary)

    def save(state: LoopState) -> None:
        on_main(write)

    return Hooks(on_stage_end=save)
