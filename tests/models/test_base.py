"""Loading refuses what does not fit and what is hostile: nothing is read outside, no code runs, memory stays small."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPModel
from transformers.utils import is_flash_attn_2_available

from polysense import CometModel, MeraForConditionalGeneration, UniAlignModel
from polysense.errors import CheckpointError, ConfigError, PolysenseError, UnsafeFileError
from polysense.models.base import count_parameters, load_foreign, local_folder, model_key, weights_digest
from polysense.testing import tiny_clip, tiny_senses

KEY = "tokenizers.depth.position"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a small saved model."""
    folder = tmp_path_factory.mktemp("saved")
    UniAlignModel.from_clip(tiny_clip(), tiny_senses()[:1]).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(saved: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in saved.items():
        (folder / name).write_bytes(content)
    return folder


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


# ---- another kind of model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CometModel, MeraForConditionalGeneration])
def test_a_model_of_another_kind_is_named(folder: Path, kind: Any) -> None:
    with pytest.raises(CheckpointError, match=f"is of type 'unialign', not '{kind.config_class.model_type}'"):
        kind.from_pretrained(folder)


def test_a_clip_is_sent_to_what_builds_on_it(tmp_path: Path) -> None:
    tiny_clip().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is of type 'clip', not 'unialign'.*from_clip"):
        UniAlignModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", [AutoModel, UniAlignModel])
def test_what_is_not_there_to_load_with_is_no_fault_of_the_folder(folder: Path, kind: Any) -> None:
    with pytest.raises(CheckpointError, match="or leave out attn_implementation"):
        kind.from_pretrained(folder, attn_implementation="nonsense")
    if not is_flash_attn_2_available():
        with pytest.raises(CheckpointError, match="Install what is missing, or load it without"):
            kind.from_pretrained(folder, attn_implementation="flash_attention_2")


# ---- weights that do not fit ------------------------------------------------------------------------------------


def test_a_missing_weight_is_named(folder: Path) -> None:
    weights(folder, lambda state: state.update(extra=torch.zeros_like(state.pop(KEY))))
    with pytest.raises(CheckpointError, match=rf"missing_keys \['{KEY}'\]; unexpected_keys \['extra'\]"):
        UniAlignModel.from_pretrained(folder)


def test_fewer_weights_than_the_config_describes_are_refused_before_they_are_allocated(folder: Path) -> None:
    weights(folder, lambda state: state.pop(KEY))
    with pytest.raises(CheckpointError, match=r"the config describes \d+ weights, the files hold \d+"):
        UniAlignModel.from_pretrained(folder)


def test_an_unexpected_weight_is_named(folder: Path) -> None:
    weights(folder, lambda state: state.update(extra=torch.zeros(3)))
    with pytest.raises(CheckpointError, match=r"the weights do not fit the config \(unexpected_keys \['extra'\]\)"):
        UniAlignModel.from_pretrained(folder)


def test_a_weight_of_another_shape_is_named(folder: Path) -> None:
    weights(folder, lambda state: state.update({KEY: torch.zeros(20, 32)}))
    with pytest.raises(CheckpointError, match=rf"mismatched_keys .*{KEY}"):
        UniAlignModel.from_pretrained(folder)


def test_a_model_of_another_type_is_told_by_its_type(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{folder}: the model is of type 'unialign', not 'comet'"):
        CometModel.from_pretrained(folder)


def test_a_config_that_cannot_be_used_names_the_folder_and_the_key(folder: Path) -> None:
    config(folder, lambda values: values.update(top_k=-9))
    with pytest.raises(CheckpointError, match=rf"{folder}: in the config, .*top_k.*-9"):
        UniAlignModel.from_pretrained(folder)


def test_loading_information_is_returned_on_request(folder: Path) -> None:
    loaded: Any = UniAlignModel.from_pretrained(folder, output_loading_info=True)
    assert isinstance(loaded[0], UniAlignModel) and not loaded[1]["missing_keys"]


def test_a_frozen_base_is_frozen_again(folder: Path) -> None:
    model = UniAlignModel.from_pretrained(folder)
    trains = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trains == {"experts", "tokenizers"}
    scaled = UniAlignModel.from_pretrained(folder, train_logit_scale=True)
    assert scaled.clip.logit_scale.requires_grad


def test_a_variant_would_bypass_the_checks(folder: Path) -> None:
    with pytest.raises(ConfigError, match="variants of a checkpoint are not supported"):
        UniAlignModel.from_pretrained(folder, variant="fp16")


def test_a_subfolder_is_judged_like_a_folder(folder: Path) -> None:
    assert local_folder(folder.parent, {"subfolder": "model"}) == folder
    with pytest.raises(CheckpointError, match="there is no such folder"):
        local_folder(folder, {"subfolder": "stage-2"})


def test_a_folder_has_no_revisions(folder: Path) -> None:
    assert local_folder(folder, {"revision": None}) == folder
    with pytest.raises(ConfigError, match=r"^revision: .* is a folder here, which has no revisions"):
        UniAlignModel.from_pretrained(folder, revision="stage-2")


def test_a_hub_snapshot_is_fetched_without_pickles_and_judged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **arguments: Any) -> str:
        asked.update(arguments, name=name)
        return str(folder)

    monkeypatch.setattr("polysense.models.base.snapshot_download", download)
    arguments = {"revision": "stage-2", "token": None, "dtype": torch.float32}
    assert local_folder("someone/model", arguments) == folder
    assert asked["revision"] == "stage-2" and "token" not in asked
    assert not any("bin" in pattern for pattern in asked["allow_patterns"])
    assert arguments == {"dtype": torch.float32}
    (folder / "model.safetensors").write_bytes(pickle.dumps({}))
    with pytest.raises(UnsafeFileError, match="is a pickle"):
        local_folder("someone/model", {})


def test_what_cannot_be_fetched_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no\nnetwork")

    monkeypatch.setattr("polysense.models.base.snapshot_download", fail)
    with pytest.raises(CheckpointError, match=r"^me/x: the model cannot be loaded \(OSError: no network\)"):
        local_folder("me/x", {})
    for name in ("/no/where", "./here", "a/b/c"):
        with pytest.raises(CheckpointError, match=f"^{name}: there is no such folder"):
            local_folder(name, {})


# ---- models of transformers' own --------------------------------------------------------------------------------


def test_a_foreign_model_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    clip = tiny_clip()
    clip.save_pretrained(tmp_path)
    assert torch.equal(load_foreign(CLIPModel, tmp_path).get_parameter("logit_scale"), clip.logit_scale)
    weights(tmp_path, lambda state: state.pop("visual_projection.weight"))
    with pytest.raises(CheckpointError, match=r"the folder lacks the weights \['visual_projection.weight'\]"):
        load_foreign(CLIPModel, tmp_path)
    assert isinstance(load_foreign(CLIPModel, tmp_path, may_lack=r"visual_projection\..*"), CLIPModel)
    config(tmp_path, lambda c: c.update(model_type="evil"))
    with pytest.raises(CheckpointError, match="the model cannot be loaded") as caught:
        load_foreign(AutoModel, tmp_path)
    assert caught.value.__cause__ is not None


def test_weights_that_nobody_needs_are_not_listed_and_others_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("transformers.modeling_utils")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])  # transformers' records do not propagate
    caplog.set_level(logging.WARNING, logger.name)
    tiny_clip().save_pretrained(tmp_path)
    weights(tmp_path, lambda state: (state.pop("visual_projection.weight"), state.update(head=torch.zeros(1))))
    load_foreign(CLIPModel, tmp_path, may_lack=r"visual_projection\..*")
    assert not caplog.messages
    CLIPModel.from_pretrained(tmp_path)
    assert "LOAD REPORT" in caplog.text, "transformers' own loading is as it was"
    weights(tmp_path, lambda state: state.update({"visual_projection.weight": torch.zeros(1, 1)}))
    with pytest.raises(CheckpointError, match="For details look at the above report"):
        load_foreign(CLIPModel, tmp_path)
    assert "MISMATCH" in caplog.text


# ---- hostile folders --------------------------------------------------------------------------------------------


class Bomb:
    """Unpickling it would create the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


CODE = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "auto_map": lambda c: c.update(auto_map=CODE),
    "auto_map of the base": lambda c: c["clip_config"].update(auto_map=CODE),
    "auto_map of a tower": lambda c: c["clip_config"]["vision_config"].update(auto_map=CODE),
    "attention kernels, internal": lambda c: c.update(_attn_implementation_internal="evil/kernels"),
    "attention kernels of a tower": lambda c: c["clip_config"]["vision_config"].update(
        _attn_implementation_internal="evil/kernels"
    ),
    "attention kernels": lambda c: c.update(attn_implementation="evil/kernels"),
    "attention kernels, private": lambda c: c.update(_attn_implementation="evil/kernels"),
    "experts kernels": lambda c: c.update(experts_implementation="evil/kernels"),
    "custom generation": lambda c: c.update(custom_generate="evil/generate"),
    "remote code": lambda c: c.update(trust_remote_code=True),
    "weights elsewhere": lambda c: c.update(transformers_weights="../outside.safetensors"),
    "deep nesting": lambda c: c.update(extra=nested(60)),
    "a billion labels": lambda c: c.update(num_labels=10**9),
    "a billion labels of a tower": lambda c: c["clip_config"]["text_config"].update(num_labels=10**9),
    "huge width": lambda c: c["clip_config"]["vision_config"].update(hidden_size=10**9, num_attention_heads=1),
    "largest widths": lambda c: c["clip_config"]["vision_config"].update(
        hidden_size=16384, intermediate_size=65536, num_hidden_layers=128
    ),
    "negative width": lambda c: c["clip_config"]["vision_config"].update(hidden_size=-4),
    "zero heads": lambda c: c["clip_config"]["vision_config"].update(num_attention_heads=0),
    "zero patch": lambda c: c["clip_config"]["vision_config"].update(patch_size=0),
    "huge picture": lambda c: c["clip_config"]["vision_config"].update(image_size=10**6),
    "largest picture": lambda c: c["clip_config"]["vision_config"].update(image_size=2048, patch_size=1),
    "huge vocabulary": lambda c: c["clip_config"]["text_config"].update(vocab_size=10**12),
    "largest vocabulary": lambda c: c["clip_config"]["text_config"].update(vocab_size=10**6, hidden_size=16384),
    "fractional layers": lambda c: c["clip_config"]["vision_config"].update(num_hidden_layers=2.5),
    "text as width": lambda c: c["clip_config"]["vision_config"].update(hidden_size="32"),
    "base is text": lambda c: c.update(clip_config="clip"),
    "base is a list": lambda c: c.update(clip_config=[1]),
    "no base": lambda c: c.pop("clip_config"),
    "unknown activation": lambda c: c["clip_config"]["vision_config"].update(hidden_act="__import__('os')"),
    "dtype is a function": lambda c: c.update(dtype="load"),
    "too many experts": lambda c: c.update(num_experts=10**6),
    "huge rank": lambda c: c.update(expert_rank=10**6),
    "most experts": lambda c: c.update(num_experts=64, expert_rank=1024),
    "experts as text": lambda c: c.update(num_experts="2"),
    "unknown site": lambda c: c.update(expert_site="os.system"),
    "visible groups nowhere": lambda c: c.update(visible_groups={"depth": ["nowhere"]}),
    "senses are a list": lambda c: c.update(modalities=["depth"]),
    "sense is a number": lambda c: c["modalities"].update(depth=3),
    "sense of another name": lambda c: c["modalities"]["depth"].update(name="other"),
    "sense with a path": lambda c: c["modalities"].update({"../x": {"name": "../x", "kind": "grid"}}),
    "sense named like a method": lambda c: c["modalities"].update(train={"name": "train", "kind": "grid"}),
    "sense of unknown kind": lambda c: c["modalities"]["depth"].update(kind="os"),
    "sense with unknown key": lambda c: c["modalities"]["depth"].update(imports=["evil"]),
    "sense of many channels": lambda c: c["modalities"]["depth"].update(channels=10**9),
    "sense without channels": lambda c: c["modalities"]["depth"].update(channels=0),
    "tokenizer of many patches": lambda c: c["modalities"]["depth"].update(tokenizer={"stride": 1, "patch_size": 1}),
    "tokenizer that is wide": lambda c: c["modalities"].update(
        points={"name": "points", "kind": "points", "tokenizer": {"width": 10**8}}
    ),
    "tokenizer of negative width": lambda c: c["modalities"].update(
        points={"name": "points", "kind": "points", "tokenizer": {"width": -8}}
    ),
    "tokenizer option unknown": lambda c: c["modalities"]["depth"].update(tokenizer={"hook": "evil"}),
    "a thousand senses": lambda c: c["modalities"].update(
        {f"s{i}": {"name": f"s{i}", "kind": "grid"} for i in range(1000)}
    ),
}  # fmt: skip


def raw_header(folder: Path, header: bytes, length: int | None = None, data: bytes = bytes(64)) -> None:
    size = len(header) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + header + data)


def entry(**changes: Any) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64], **changes}}).encode()


def index(folder: Path, name: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))


def only_pickle(folder: Path, name: str, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(canary)))


def zipped_pickle(folder: Path, name: str, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"w": Bomb(canary)}, folder / name)


def linked(folder: Path, name: str, outside: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)


def index_of_a_pickle(folder: Path, canary: Path) -> None:
    (folder / "evil.safetensors").write_bytes(pickle.dumps(Bomb(canary)))
    index(folder, "evil.safetensors")


def index_of_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "p.safetensors")
    index(folder, "p.safetensors")


def folder_as_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


FILES: dict[str, Callable[[Path, Path, Path], Any]] = {
    "config is no JSON": lambda f, c, o: (f / "config.json").write_text("{'a'"),
    "config is a list": lambda f, c, o: (f / "config.json").write_text("[]"),
    "config is empty": lambda f, c, o: (f / "config.json").write_text(""),
    "config is missing": lambda f, c, o: (f / "config.json").unlink(),
    "config is ten thousand deep": lambda f, c, o: (f / "config.json").write_text('{"a":' * 10_000),
    "config is a hole of 40 MiB": lambda f, c, o: os.truncate(f / "config.json", 40 << 20),
    "config is a link out": lambda f, c, o: linked(f, "config.json", o),
    "weights are a link out": lambda f, c, o: linked(f, "model.safetensors", o),
    "weights are a folder": lambda f, c, o: folder_as_weights(f),
    "weights are missing": lambda f, c, o: (f / "model.safetensors").unlink(),
    "weights are empty": lambda f, c, o: (f / "model.safetensors").write_bytes(b""),
    "index leads up": lambda f, c, o: index(f, "../outside.safetensors"),
    "index is absolute": lambda f, c, o: index(f, str(o)),
    "index names a folder": lambda f, c, o: index(f, "sub/../../outside.safetensors"),
    "index names a pipe": lambda f, c, o: index_of_a_pipe(f),
    "index names a number": lambda f, c, o: index(f, 7),
    "index names a pickle": lambda f, c, o: index_of_a_pickle(f, c),
    "index is a list": lambda f, c, o: (f / "model.safetensors.index.json").write_text("[]"),
    "index has no map": lambda f, c, o: (f / "model.safetensors.index.json").write_text("{}"),
    "adapter of another base": lambda f, c, o: (f / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(o.parent)})
    ),
    "pickle as weights": lambda f, c, o: (f / "model.safetensors").write_bytes(pickle.dumps(Bomb(c))),
    "pickle of protocol 0 as weights": lambda f, c, o: (f / "model.safetensors").write_bytes(pickle.dumps(Bomb(c), 0)),
    "pytorch_model.bin alone": lambda f, c, o: only_pickle(f, "pytorch_model.bin", c),
    "model.pt alone": lambda f, c, o: only_pickle(f, "model.pt", c),
    "zipped pickle as weights": lambda f, c, o: zipped_pickle(f, "model.safetensors", c),
    "zipped pickle alone": lambda f, c, o: zipped_pickle(f, "pytorch_model.bin", c),
    "header longer than the file": lambda f, c, o: raw_header(f, entry(), length=2**40),
    "header of maximal length": lambda f, c, o: raw_header(f, entry(), length=2**64 - 1),
    "header is no JSON": lambda f, c, o: raw_header(f, b"{not json" + b" " * 20),
    "header is deep": lambda f, c, o: raw_header(f, b'{"a":' * 5000),
    "offsets beyond the end": lambda f, c, o: raw_header(f, entry(data_offsets=[0, 2**40])),
    "offsets reversed": lambda f, c, o: raw_header(f, entry(data_offsets=[64, 0])),
    "shape too large for its bytes": lambda f, c, o: raw_header(f, entry(shape=[2**31, 2**31])),
    "shape overflows": lambda f, c, o: raw_header(f, entry(shape=[2**62, 2**62])),
    "negative shape": lambda f, c, o: raw_header(f, entry(shape=[-16])),
    "unknown dtype": lambda f, c, o: raw_header(f, entry(dtype="PICKLE")),
}  # fmt: skip


@pytest.fixture
def bounded() -> Iterator[None]:
    """An address space of 3 GiB beyond what is in use: a hostile size fails the test instead of the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Paths that Python opens while the test runs."""
    seen: set[str] = set()
    active = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open" and isinstance(arguments[0], str):
            seen.add(arguments[0])

    sys.addaudithook(note)
    yield seen
    active.clear()


def refuse(folder: Path, canary: Path) -> None:
    with pytest.raises(PolysenseError) as caught:
        UniAlignModel.from_pretrained(folder)
    assert caught.value.fix
    assert not canary.exists()
    with pytest.raises(Exception):  # noqa: B017 - transformers may be the first to stumble; it must stumble
        AutoModel.from_pretrained(folder)
    assert not canary.exists()


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("payload", CONFIGS)
def test_a_hostile_config_is_refused(payload: str, folder: Path, tmp_path: Path) -> None:
    config(folder, CONFIGS[payload])
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    refuse(folder, tmp_path / "canary")


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("payload", FILES)
def test_hostile_files_are_refused_and_nothing_outside_is_read(
    payload: str, folder: Path, tmp_path: Path, opened: set[str]
) -> None:
    outside = tmp_path / "outside.safetensors"
    save_file({"w": torch.zeros(4)}, outside)
    FILES[payload](folder, tmp_path / "canary", outside)
    opened.clear()
    refuse(folder, tmp_path / "canary")
    assert not any(name.startswith(str(outside)) for name in opened)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_in_a_header_never_load_as_something_else(seed: int, folder: Path) -> None:
    """A flip inside the header either is refused or touches nothing that is loaded."""
    path, draw = folder / "model.safetensors", random.Random(seed)
    raw = bytearray(path.read_bytes())
    expected = load_file(path)
    place = draw.randrange(8 + int.from_bytes(raw[:8], "little"))
    raw[place] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    try:
        state = UniAlignModel.from_pretrained(folder).state_dict()
    except CheckpointError:
        return
    assert all(torch.equal(state[name], value) for name, value in expected.items())


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_weights_are_refused(share: float, folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(CheckpointError):
        UniAlignModel.from_pretrained(folder)


def test_the_message_of_a_failure_inside_transformers_keeps_its_cause(folder: Path) -> None:
    raw_header(folder, entry(dtype="PICKLE"))
    with pytest.raises(CheckpointError, match=r"the checkpoint cannot be loaded \(SafetensorError") as caught:
        UniAlignModel.from_pretrained(folder)
    assert caught.value.__cause__ is not None


@pytest.mark.slow
def test_a_refusal_costs_little_memory(folder: Path) -> None:
    """In a process of its own: the largest sizes that the limits let through, refused within 600 MiB."""
    config(folder, CONFIGS["largest widths"])
    script = (
        "import resource, sys\n"
        "from polysense import UniAlignModel\n"
        "from polysense.errors import CheckpointError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    UniAlignModel.from_pretrained(sys.argv[1])\n"
        "except CheckpointError:\n"
        "    sys.exit((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 > 600)\n"
        "sys.exit(3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(sys.modules["polysense"].__path__[0]).parent)}
    assert subprocess.run([sys.executable, "-c", script, str(folder)], env=environment, check=False).returncode == 0


def test_a_digest_of_weights_tells_names_types_shapes_and_bits() -> None:
    weights = {"a": torch.ones(2, 3), "b": torch.zeros((), dtype=torch.bfloat16)}
    others: list[dict[str, Any]] = [
        {**weights, "a": torch.ones(3, 2)}, {**weights, "a": torch.ones(2, 3).double()}, {"a": weights["a"]},
        {**weights, "a": torch.ones(2, 3) + 2**-23}, {"c": weights["a"], "b": weights["b"]},
    ]  # fmt: skip
    digests = {weights_digest(each) for each in (weights, *others)}
    assert len(digests) == 1 + len(others)
    turned = {"b": weights["b"], "a": torch.ones(3, 2).t()}  # another layout in memory, in another order
    assert weights_digest(turned) == weights_digest(weights)


def test_a_models_key_is_the_same_wherever_it_was_loaded_from(tmp_path: Path) -> None:
    for name in "ab":
        tiny_clip().save_pretrained(tmp_path / name)
    one, other = (CLIPModel.from_pretrained(tmp_path / name) for name in "ab")
    assert one.config._name_or_path != other.config._name_or_path and model_key(one) == model_key(other)
    other.config.text_config.eos_token_id += 1  # says where a text is read: the weights are the same
    assert model_key(one) != model_key(other)


def test_parameters_are_counted_by_part() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1, bias=False), torch.nn.Linear(1, 4))
    model[0].weight.requires_grad_(False)
    table = count_parameters(model, lambda name: "last" if name.startswith("2.") else "first")
    assert table == {"first": (6 + 3 + 3, 3 + 3), "last": (8, 8)}
