"""The README's examples, executed as they stand: in a folder of their own, one after another; both demonstrations."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from polysense.cli import main
from polysense.cli.main import build_parser
from polysense.data import Manifest
from polysense.data.conversations import Conversations
from polysense.recipes import demo, demo_mera, llama_anchor
from polysense.recipes.config import read_config
from polysense.recipes.sources import open_sources
from polysense.recipes.unialign import UniAlignRecipe
from polysense.report import Table
from polysense.testing import tiny_anchor
from polysense.trainer import atomic_folder

README = Path(__file__).parents[1] / "README.md"
SMALL = [
    "world.size=tiny", "bounds=0", "loop.steps=2", "loop.warmup_steps=0", "evaluation.pool=4",
    "senses.point_cloud.tokenizer={groups: 8, width: 8}",
    "senses.point_cloud.processor={num_points: 64, num_groups: 8, group_size: 4}",
    *(f"sources.{sense}.batch_size=2" for sense in ("depth", "point_cloud", "video", "audio")),
]  # fmt: skip

LLAMA = ["model.num_hidden_layers=1", "model.hidden_size=32", "model.intermediate_size=64", "corpus=200",
         "loop.steps=1", "batch_size=4"]  # fmt: skip
SHORT = [
    "world.size=tiny", "adapter.rank=2", "evaluation.limit=2", "evaluation.max_new_tokens=4", "realign.replay=0.5",
    *(f"{phase}.{length}" for phase in ("connector", "joint", "realign") for length in ("steps=2", "batch_size=2")),
]  # fmt: skip


def example(name: str) -> str:
    """The fenced block that follows the mark `<!-- example: name -->`."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert found, f"the README has no example {name}"
    return found.group(1)


def python(folder: Path, code: str, **environment: str) -> str:
    """Run code in a new interpreter, in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=180,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `make demo` has run, on a tiny world with a tiny anchor."""
    home = tmp_path_factory.mktemp("home")
    with atomic_folder(home / "runs/demo/anchor") as anchor:
        tiny_anchor(anchor)
    lines: list[str] = []
    old = Path.cwd()
    os.chdir(home)
    try:
        page = demo.run(Path("runs/demo"), lines.append, lambda stages: None, overrides=SMALL)
        assert page.exists()
    finally:
        os.chdir(old)
    assert any("Embed a file of your own" in line for line in lines)
    return home


def test_the_demo_leaves_five_stages_a_report_and_a_snippet_that_runs(folder: Path) -> None:
    stages = sorted(path.name for path in (folder / "runs/demo/stages").iterdir())
    assert stages == ["stage-1-anchor", "stage-2-depth", "stage-3-point-cloud", "stage-4-video", "stage-5-audio"]
    assert "data:image/png" in (folder / "runs/demo/report/report.html").read_text("utf-8")


def test_a_checkpoint_embeds_as_the_readme_says(folder: Path) -> None:
    assert "tensor" in python(folder, example("embed"))


def test_a_clip_gets_new_senses_as_the_readme_says(folder: Path) -> None:
    assert "experts depth" in python(folder, example("from_clip"))


def test_a_row_of_the_readme_is_one_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(example("train.jsonl"), encoding="utf-8")
    sample = Manifest(tmp_path / "train.jsonl")[0]
    assert sample.media["depth"].facts == {"focal": 525, "baseline": 0.075} and sample.labels["audio"] == "dog"
    assert [turn.answers for turn in Conversations().test(sample, "audio")] == [("a dog barks", "barking"), ("a dog",)]


def test_a_recipe_on_files_of_ones_own_opens_them_and_builds_no_world(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(example("mine.yaml"), encoding="utf-8")
    recipe = read_config(UniAlignRecipe, "unialign", tmp_path / "mine.yaml")
    files = tmp_path / recipe.data_root
    files.mkdir(parents=True)
    for name in ("train.jsonl", "test.jsonl"):
        (files / name).write_text(example("train.jsonl"), encoding="utf-8")
    opened = open_sources(recipe.sources, files)
    assert [list(data.labels(name)) for name, data in opened.items()] == [["dog"]]
    assert [len(data.open(files)) for split in recipe.evaluation.splits.values() for data in split] == [1]
    assert recipe.world is None and {*recipe.stages[0].trains} == {*recipe.sources}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if "polysense " in line or "train.py " in line]


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_readme_is_one(line: str) -> None:
    words = shlex.split(line, comments=True)
    start = next(place for place, word in enumerate(words) if word == "polysense" or word.endswith("train.py"))
    script = Path(words[start])
    arguments = (
        words[start + 1 :] if script.name == "polysense" else ["train", script.parent.name, *words[start + 1 :]]
    )
    parsed, rest = build_parser().parse_known_args(arguments)
    assert [word for word in rest if "=" not in word or word.startswith("-")] == []
    assert script.name == "polysense" or (README.parent / script).exists()
    assert callable(parsed.run)


def test_the_evidence_uses_thermal_as_the_readme_has_it() -> None:
    module = (README.parent / "eval" / "thermal.py").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in example("thermal.py").splitlines() if line and not line.startswith("#")]
    assert [line for line in module if line and not line.startswith('"""')] == wanted


def test_thermal_takes_at_most_fifteen_lines_and_reloads_where_its_code_is_unknown(folder: Path) -> None:
    module, config = example("thermal.py"), example("thermal.yaml")
    lines = [line for line in (module + config).splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 15
    (folder / "thermal.py").write_text(module, encoding="utf-8")
    (folder / "thermal.yaml").write_text(config, encoding="utf-8")
    arguments = ["train", "unialign", "--config", "thermal.yaml", "--output", "runs/thermal", *SMALL,
                 "sources.thermal.batch_size=2"]  # fmt: skip
    train = f"import sys; from polysense.cli import main; sys.exit(main({arguments!r}))"
    python(folder, train, PYTHONPATH=".")
    fresh = (
        "import torch, polysense\n"
        "from transformers import AutoModel, AutoProcessor\n"
        "stage = 'runs/thermal/stages/stage-2-thermal'\n"
        "model, processor = AutoModel.from_pretrained(stage), AutoProcessor.from_pretrained(stage)\n"
        "size = processor.size\n"
        "print(model.embed('thermal', torch.zeros(1, 1, size, size)).shape)\n"
        "try:\n"
        "    processor(thermal=['runs/demo/world/media/thermal/still-test-000000.png'])\n"
        "except polysense.errors.UnregisteredModalityError as error:\n"
        "    print('register_modality' in str(error))\n"
    )
    (folder / "thermal.py").rename(folder / "hidden.txt")
    assert python(folder, fresh).split("\n")[:2] == ["torch.Size([1, 16])", "True"]


def test_a_loss_of_ones_own_weighs_what_the_config_says(folder: Path) -> None:
    (folder / "spread.py").write_text(example("spread.py"), encoding="utf-8")
    arguments = ["train", "unialign", "--config", "demo", "--output", "runs/spread", *SMALL,
                 "anchor=runs/demo/anchor", "data_root=runs/demo/world", "stages=[{name: depth, trains: [depth]}]",
                 "imports=[spread]", "objective.terms.spread=0.1"]  # fmt: skip
    python(folder, f"import sys; from polysense.cli import main; sys.exit(main({arguments!r}))", PYTHONPATH=".")
    lines = next((folder / "runs/spread").rglob("log.jsonl")).read_text(encoding="utf-8").splitlines()
    assert any('"depth/spread"' in line for line in lines)
    record = json.loads((folder / "runs/spread/stages/stage-2-depth/stage.json").read_text("utf-8"))
    assert record["hyperparameters"]["objective"]["terms"] == {"spread": 0.1}


def test_the_demonstration_of_mera_compares_it_with_fine_tuning_and_is_not_computed_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    llm = llama_anchor.run("llama", Path("runs/small"), LLAMA)
    lines: list[str] = []
    tables: list[Table] = []

    def show() -> Path:
        overrides = [*SHORT, f"llm={llm}", "senses.audio.encoder=unialign:demo"]  # its own net takes minutes
        return demo_mera.run(Path("runs/demo"), lines.append, tables.extend, overrides=overrides, grown=SMALL)

    page = show()
    names = sorted(path.name.rpartition("-")[0] for path in Path("runs/demo/mera/stages").iterdir())
    assert names == ["stage-1-audio", "stage-1-image", *["stage-2-audio"] * 2, *["stage-3-point_cloud"] * 2]
    assert [table.title.partition(",")[0] for table in tables] == [
        "captioning", "question answering", "backward relative gain",
        "what it answers about a test file of each sense",
    ]  # fmt: skip
    assert [row[0] for row in tables[-1].rows] == ["image", "image", "audio", "audio", "point cloud", "point cloud"]
    assert page.read_text("utf-8").count("data:image/png") == 3, "scores, curves and answers"
    assert any(line.startswith("\nFinished in ") and "load averages" in line for line in lines)
    assert not Path("runs/demo/mera/training/rivals.log").read_text("utf-8").count("Traceback")
    written = {path: path.stat().st_mtime_ns for path in Path("runs/demo").rglob("*.safetensors")}
    show()
    assert written == {path: path.stat().st_mtime_ns for path in Path("runs/demo").rglob("*.safetensors")}
    capsys.readouterr()
    assert main(shlex.split(lines[-1])[1:]) == 0, "the command that the demonstration ends with"
    assert capsys.readouterr().out.strip() == tables[-1].rows[-1][3], "says what the table says"
    sample = next(Path("runs/demo/world/media/point_cloud").glob("*.ply"))
    exec(lines[-2].replace("your-file", str(sample)), {})


def test_the_figures_are_those_of_the_reports() -> None:
    done = subprocess.run([sys.executable, str(README.parent / "eval" / "readme.py"), "--check"], check=False)
    assert done.returncode == 0, "run `python eval/readme.py` after making a report"
