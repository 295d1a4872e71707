from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polysense.errors import CheckpointError, ConfigError, UnsafeFileError
from polysense.merging import (
    add_deltas,
    effective_weight,
    get_merge_method,
    merge_folders,
    merge_methods,
    running_average,
    streaming,
    weight_files,
)
from polysense.merging.weight_files import INDEX, WEIGHTS
from polysense.storage import verify_folder

State = dict[str, Tensor]
NAMES = ("base", "previous", "current")


def model(dtype: torch.dtype = torch.float32) -> State:
    state = {"llm.0.weight": torch.randn(7, 5), "llm.1.weight": torch.randn(13), "llm.scale": torch.randn(())}
    return {key: tensor.to(dtype) for key, tensor in state.items()} | {"llm.steps": torch.arange(30)}


def save(folder: Path, state: State, *, shards: int = 1) -> Path:
    folder.mkdir()
    if shards == 1:
        save_file(state, folder / WEIGHTS)
        return folder
    weight_map = {key: f"model-{i % shards}.safetensors" for i, key in enumerate(state)}
    for name in set(weight_map.values()):
        save_file({key: state[key] for key in state if weight_map[key] == name}, folder / name)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def load(folder: Path) -> State:
    return {key: tensor for path in folder.glob("*.safetensors") for key, tensor in load_file(path).items()}


def equal(first: State, second: State) -> bool:
    return set(first) == set(second) and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key]) for key in first
    )


@pytest.fixture
def models(tmp_path: Path) -> dict[str, State]:
    states = {name: model() for name in NAMES}
    for name, state in states.items():
        save(tmp_path / name, state)
    return states


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("method", merge_methods())
def test_folders_are_merged_bit_for_bit_as_in_memory(
    tmp_path: Path, method: str, dtype: torch.dtype, shards: int
) -> None:
    states = {name: model(dtype) for name in NAMES}
    base, previous, current = (
        save(tmp_path / name, state, shards=shards if name != "current" else 1) for name, state in states.items()
    )
    merge_folders([previous, current], tmp_path / "merged", stage=3, method=method, base=base, chunk_bytes=24)
    expected = get_merge_method(method)(states["previous"], states["current"], stage=3, base=states["base"])
    assert equal(load(tmp_path / "merged"), expected)
    assert verify_folder(tmp_path / "merged")["details"]["merge"]["method"] == method


def test_options_reach_the_method(tmp_path: Path, models: dict[str, State]) -> None:
    merge_folders([tmp_path / "previous", tmp_path / "current"], tmp_path / "merged", stage=2, method="dare", seed=7)
    expected = get_merge_method("dare")(models["previous"], models["current"], stage=2, seed=7)
    assert equal(load(tmp_path / "merged"), expected)


@pytest.mark.parametrize("place", ["previous/merged", "current/a/b", "base/merged", "."])
def test_a_result_within_a_source_or_around_it_is_refused(
    tmp_path: Path, models: dict[str, State], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders, before = [tmp_path / "previous", tmp_path / "current"], sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="lie within one another"):
        merge_folders(folders, place, stage=2, base=tmp_path / "base")
    if place.startswith("previous") or place == ".":
        with pytest.raises(ConfigError, match=r"the result's folder and .*previous lie within one another"):
            add_deltas(folders[0], {}, tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_many_models_are_merged_in_one_pass_and_rounded_once(tmp_path: Path) -> None:
    states = [model(torch.bfloat16) for _ in range(5)]
    folders = [save(tmp_path / str(i), state) for i, state in enumerate(states)]
    merge_folders(folders, tmp_path / "merged", stage=2, chunk_bytes=24)
    merged, step_by_step = load(tmp_path / "merged")["llm.0.weight"], states[0]
    for stage, state in enumerate(states[1:], start=2):
        step_by_step = running_average(step_by_step, state, stage=stage)
    mean = torch.stack([state["llm.0.weight"].double() for state in states]).mean(dim=0)
    errors = [(each.double() - mean).norm().item() for each in (merged, step_by_step["llm.0.weight"])]
    assert errors[0] < errors[1], "rounding at every stage costs more than rounding once"
    assert torch.equal(merged, mean.bfloat16())


def test_no_read_is_larger_than_the_chunk(
    tmp_path: Path, models: dict[str, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    read = weight_files.read_numbers

    def spy(tensor: weight_files.StoredTensor, start: int, stop: int) -> Tensor:
        sizes.append(stop - start)
        return read(tensor, start, stop)

    monkeypatch.setattr("polysense.merging.streaming.read_numbers", spy)
    folders = [tmp_path / "previous", tmp_path / "current"]
    merge_folders(folders, tmp_path / "merged", stage=2, chunk_bytes=24)
    assert max(sizes) == 6
    merge_folders(folders, tmp_path / "merged", stage=2, chunk_bytes=24, method="slerp")
    assert max(sizes) == 35
    assert equal(models["previous"], load(tmp_path / "previous"))


def test_shared_modules_are_merged_and_the_senses_stand_side_by_side(tmp_path: Path) -> None:
    previous = model() | {"connectors.image": torch.randn(3)}
    current = model() | {"connectors.image": torch.randn(3), "connectors.audio": torch.randn(4).half()}
    folders = [save(tmp_path / "previous", previous), save(tmp_path / "current", current, shards=2)]
    merge_folders(folders, tmp_path / "merged", stage=2, shared=["llm"])
    expected = running_average(previous, current, stage=2, shared=["llm"])
    assert equal(load(tmp_path / "merged"), expected)
    assert expected["connectors.image"].equal(previous["connectors.image"])


@pytest.mark.parametrize(("shape", "state"), [(None, "lacks connectors.audio of"), ((5,), "another shape")])
def test_a_config_that_would_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, shape: tuple[int, ...] | None, state: str
) -> None:
    previous = save(tmp_path / "previous", model() | {"connectors.audio": torch.randn(4)})
    current = save(tmp_path / "current", model() | ({} if shape is None else {"connectors.audio": torch.randn(shape)}))
    (current / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"current: the last model.* {state}.* order of their stages"):
        merge_folders([previous, current], tmp_path / "merged", stage=2, shared=["llm"])
    assert not (tmp_path / "merged").exists()


def test_a_model_keeps_its_config_and_tokenizer_and_more_can_be_added(
    tmp_path: Path, models: dict[str, State]
) -> None:
    for name, text in (("config.json", '{"stage": 2}'), ("tokenizer.json", "{}"), ("notes.md", "x"), (INDEX, None)):
        if text is not None:
            (tmp_path / "current" / name).write_text(text)
    merge_folders(
        [tmp_path / "previous", tmp_path / "current"], tmp_path / "merged", stage=2,
        finish=lambda folder: (folder / "card.md").write_text("merged"),
    )  # fmt: skip
    names = {"MANIFEST.json", "card.md", "config.json", WEIGHTS, "tokenizer.json"}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == names
    assert set(verify_folder(tmp_path / "merged")["files"]) == names - {"MANIFEST.json"}


def test_a_source_can_be_the_target(tmp_path: Path, models: dict[str, State]) -> None:
    merge_folders([tmp_path / "previous", tmp_path / "current"], tmp_path / "previous", stage=2)
    assert equal(load(tmp_path / "previous"), running_average(models["previous"], models["current"], stage=2))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, os.strerror(errno.EIO))])
def test_an_interrupted_merge_leaves_nothing_behind(
    tmp_path: Path, models: dict[str, State], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    calls = iter(range(9))
    read = weight_files.read_numbers

    def breaks(tensor: weight_files.StoredTensor, start: int, stop: int) -> Tensor:
        if next(calls, None) is None:
            raise error
        return read(tensor, start, stop)

    monkeypatch.setattr("polysense.merging.streaming.read_numbers", breaks)
    with pytest.raises((KeyboardInterrupt, CheckpointError), match=r"Input/output error|^$"):
        merge_folders([tmp_path / "previous", tmp_path / "current"], tmp_path / "merged", stage=2, chunk_bytes=24)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_what_does_not_fit_is_named_before_a_byte_is_written(
    tmp_path: Path, models: dict[str, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "atomic_folder", None)
    wrong = {"dtype": models["current"] | {"llm.1.weight": torch.zeros(13).half()},
             "shape": models["current"] | {"llm.1.weight": torch.zeros(14)}}  # fmt: skip
    for name, state in wrong.items():
        folder = save(tmp_path / name, state)
        with pytest.raises(ConfigError, match=rf"{name}/model\.safetensors: llm\.1\.weight: the tensor (is|has)"):
            merge_folders([tmp_path / "previous", folder], tmp_path / "merged", stage=2)
        with pytest.raises(ConfigError, match=rf"{name}/model\.safetensors: llm\.1\.weight: the tensor (is|has)"):
            merge_folders(
                [tmp_path / "previous", tmp_path / "current"], tmp_path / "merged", stage=2, base=folder, method="ties"
            )


def test_a_folder_that_lacks_a_tensor_is_named_among_several(tmp_path: Path, models: dict[str, State]) -> None:
    lacking = save(tmp_path / "lacking", {key: models["current"][key] for key in ("llm.0.weight", "llm.steps")})
    folders = [tmp_path / "previous", tmp_path / "current", lacking]
    with pytest.raises(ConfigError, match=r"/lacking: the current model lacks llm\.1\.weight, llm\.scale"):
        merge_folders(folders, tmp_path / "merged", stage=2)
    with pytest.raises(ConfigError, match=r"/lacking: the base model lacks llm\.1\.weight"):
        merge_folders(folders[:2], tmp_path / "merged", stage=2, method="ties", base=lacking)
    assert not (tmp_path / "merged").exists()


def test_numbers_that_cannot_be_merged_are_named_and_nothing_is_left(tmp_path: Path, models: dict[str, State]) -> None:
    models["current"]["llm.1.weight"][5] = float("nan")
    nan = save(tmp_path / "nan", models["current"])
    steps = save(tmp_path / "steps", model() | {"llm.steps": torch.arange(30) % 29})
    for folder, message in ((nan, "llm.1.weight: the tensor holds infinite"), (steps, "llm.steps: the int64 tensor")):
        with pytest.raises(ConfigError, match=rf"{folder.name}/model\.safetensors: {message}"):
            merge_folders([tmp_path / "previous", folder], tmp_path / "merged", stage=2, chunk_bytes=24)
        assert not list(tmp_path.glob("*merged*"))


def test_a_hostile_index_is_refused(tmp_path: Path, models: dict[str, State]) -> None:
    (tmp_path / "current" / INDEX).write_text(json.dumps({"weight_map": {"w": "../previous/model.safetensors"}}))
    with pytest.raises(UnsafeFileError, match="is not a plain file name"):
        merge_folders([tmp_path / "previous", tmp_path / "current"], tmp_path / "merged", stage=2)


def test_one_folder_is_no_merge(tmp_path: Path, models: dict[str, State]) -> None:
    with pytest.raises(ConfigError, match="two folders or more"):
        merge_folders([tmp_path / "previous"], tmp_path / "merged", stage=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_deltas_are_added_some_rows_at_a_time(tmp_path: Path, dtype: torch.dtype) -> None:
    state = model(dtype)
    deltas = {"llm.0.weight": [(torch.randn(r, 5), torch.randn(7, r), 1 / r) for r in (1, 2, 3)]}
    add_deltas(save(tmp_path / "start", state), deltas, tmp_path / "merged", chunk_bytes=48)
    merged = load(tmp_path / "merged")
    expected = effective_weight(state["llm.0.weight"], deltas["llm.0.weight"]).to(dtype)
    torch.testing.assert_close(merged["llm.0.weight"], expected)
    assert equal(merged | {"llm.0.weight": state["llm.0.weight"]}, state)


def test_deltas_have_to_fit(tmp_path: Path) -> None:
    folder = save(tmp_path / "start", model())
    delta = (torch.zeros(1, 5), torch.zeros(7, 1), 1.0)
    for key, factors, message in (
        ("llm.9.weight", delta, "llm.9.weight: there is no such weight"),
        ("llm.steps", delta, "llm.steps: there is no such weight"),
        ("llm.1.weight", delta, r"llm.1.weight: a LoRA for weights of shape \(7, 5\) meets \(13,\)"),
        ("llm.0.weight", (delta[0], torch.full((7, 1), float("inf")), 1.0), "llm.0.weight: the tensor holds infinite"),
    ):
        with pytest.raises(ConfigError, match=message):
            add_deltas(folder, {key: [factors]}, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["start"]
