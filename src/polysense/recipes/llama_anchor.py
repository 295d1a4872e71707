"""A small Llama that has read a generic language: what MERA's recipes begin with where nothing can be downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers import set_seed as seed_everything

from polysense.models.mera.chat import DEFAULT_TEMPLATE
from polysense.recipes.config import read_config
from polysense.recipes.pretraining import byte_pairs, saving
from polysense.trainer import LoopConfig, train, verify_folder
from polysense.trainer.language import LanguageObjective, TextFeed
from polysense.world.generic import generic_exchange, generic_text, generic_words

PAD, START, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
_MARKS = ("<|start_header_id|>", "<|end_header_id|>")
_OWN_WORDS = ("user", "assistant", "describe", "give", "short", "description", "say", "write", "caption", "answer",
              "briefly", "how", "many", "objects", "events", "happens", "when", "begin")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LlamaRecipe:
    """Config of `training/anchors/llama.yaml`.

    Attributes:
        model: fields of `LlamaConfig`.
        loop: see `LoopConfig`.
        batch_size: texts per process and micro-batch.
        sentences: most sentences of a text.
        chats: share of the texts that are told as a user and an assistant, in the chat template.
        exchanges: share of the chats in which the assistant answers from what the user said.
        placeholders: tokens that are reserved for senses.
        spare: further reserved tokens.
        vocabulary: most tokens of the tokenizer.
        corpus: texts that the tokenizer is made from.
        seed: of the corpus, of initial weights and of their training.
        imports: modules that register what the config names.
    """

    loop: LoopConfig
    model: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    sentences: int = 4
    chats: float = 0.5
    exchanges: float = 0.5
    placeholders: Sequence[str] = ()
    spare: int = 8
    vocabulary: int = 768
    corpus: int = 4_000
    seed: int = 0
    imports: Sequence[str] = ()


def train_tokenizer(texts: Iterable[str], recipe: LlamaRecipe) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of lower-case words, with Llama 3's marks of a turn, reserved tokens and padding."""
    spare = [f"<|reserved_special_token_{number}|>" for number in range(recipe.spare)]
    reserved = [*_MARKS, *recipe.placeholders, *spare]
    special = [PAD, START, END, UNKNOWN, *reserved]
    tokenizer = byte_pairs(texts, special=special, unknown=UNKNOWN, vocabulary=recipe.vocabulary)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=START, eos_token=END, unk_token=UNKNOWN,
        extra_special_tokens=reserved, chat_template=DEFAULT_TEMPLATE, model_max_length=_length(recipe),
    )  # fmt: skip


def build_llama(recipe: LlamaRecipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained Llama; its weights are a function of the recipe's seed."""
    seed_everything(recipe.seed)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    length = {"max_position_embeddings": _length(recipe)}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **ids, **{**length, **recipe.model}))


def write_text(recipe: LlamaRecipe, tokenizer: PreTrainedTokenizerFast, number: int) -> str:
    """Text `number` of the corpus as the model reads it: plain, or as a chat; its beginning token is not written."""
    count = 2 + number % max(1, recipe.sentences - 1)
    told = generic_text(recipe.seed, number, count)
    if (number * 61) % 100 >= 100 * recipe.chats:
        return " ".join(told) + END
    user, assistant = told[0], " ".join(told[1:])
    if (number * 37) % 100 < 100 * recipe.exchanges:
        user, assistant = generic_exchange(recipe.seed, number)
    chat = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return str(tokenizer.apply_chat_template(chat, tokenize=False)).removeprefix(START)


def train_llama(recipe: LlamaRecipe, output: Path) -> Path:
    """Train (or finish, or just return) `output/llama`: a plain Hugging Face folder of a Llama and its tokenizer.

    Raises:
        CheckpointError: a Llama is there and damaged.
    """
    folder = output / "llama"
    if folder.exists():
        verify_folder(folder)
        return folder
    told = (" ".join(generic_text(recipe.seed, number)) for number in range(recipe.corpus))
    asked = (" ".join(generic_exchange(recipe.seed, number)) for number in range(recipe.corpus // 4))
    own = [" ".join([*generic_words(), *_OWN_WORDS])] * 50  # often enough to be words of their own
    tokenizer = train_tokenizer(chain(told, asked, own), recipe)
    model = build_llama(recipe, tokenizer)
    feed = TextFeed(
        lambda number: write_text(recipe, tokenizer, number), tokenizer, recipe.batch_size,
        f"generic language, seed {recipe.seed}, chats {recipe.chats}, exchanges "
        f"{recipe.exchanges}, sentences {recipe.sentences}",
    )  # fmt: skip

    loop = replace(recipe.loop, seed=recipe.seed)
    train(LanguageObjective(model), feed, loop, output / "training" / "llama", hooks=saving(folder, model, tokenizer))
    return folder


def run(config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Path:
    """Train a Llama by a config; its folder is returned.

    Raises:
        ConfigError: naming file and key.
    """
    recipe = read_config(LlamaRecipe, "anchors", config_source, overrides, imports)
    return train_llama(recipe, output)


def _length(recipe: LlamaRecipe) -> int:
    return int(recipe.model.get("max_position_embeddings", 512))
