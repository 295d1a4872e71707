"""What a run of MERA's recipe can be given wrong, by the command line: one clear error, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from polysense.cli import main
from polysense.continual.stage_adapter import adapter_folder
from polysense.recipes import mera
from polysense.recipes.answering import AnswerEvaluator
from polysense.storage import MANIFEST, write_manifest
from polysense.testing import tiny_recipe, tiny_tokenizer
from polysense.testing.recipe import TESTS
from tests.metrics.judging.scripted import Endpoint, Reply, compare, scripted

OTHER_BASE = "the adapter of stage 1 is for weights of shape"
CONNECTOR = "senses.image.connector={kind: mlp, depth: 3}"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("parts"), steps=1)


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both stages."""
    output = tmp_path_factory.mktemp("finished")
    mera.run(str(config), output)
    return output


def refused(config: Path, output: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The one line of error that a run ends with."""
    capsys.readouterr()
    assert main(["train", "mera", "--config", str(config), "--output", str(output), *overrides]) == 1
    told = capsys.readouterr().err
    assert told.count("polysense: ") == 1 and "Traceback" not in told
    return told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (CONNECTOR, "do not fit kind 'mlp'"),
        ("realign.replay=0.01", "realign: replay: image: a share of 0.01 of its 8 samples is less than one sample"),
        ("joint.replay=0.01", "joint: replay: image: a share of 0.01 of its 8 samples is less than one sample"),
        ("realign.replay=0", "realign: the phase has neither data nor replay"),
        ("stages=[image, audio]", "stages: audio: a stage needs its sense's settings and a data set"),
        ("stages=[image, image]", "stages: image: a sense is learned in one stage"),
        ("evaluation.judge={model: m, options: {base_url: nowhere}}", "not a plain http or https address"),
        ("evaluation.judge.model=m", "evaluation: judge: OPENAI_API_KEY: there is no key for OpenAI's endpoint"),
        ("evaluation.tests.image.data.manifest=none.jsonl", "evaluation: tests: image: "),
        (
            "evaluation.tests.depth.modality=dept",
            "evaluation: tests: depth: unknown modality 'dept' (known here: image",
        ),
        ("evaluation.tests.depth.data.manifest=undescribed.jsonl", "has no caption or question about depth"),
        ("sources.depth.data.manifest=undescribed.jsonl", "sources: depth: data: test-0: the sample has no caption"),
        ("sources.depth.data.manifest=unseen.jsonl", "sources: depth: data: test-0: the sample has no media of moda"),
        ("sources.depth.data.manifest=questions.jsonl", "sources: depth: data: test-0: the sample has no caption"),
        ("sources.depth.data.manifest=null.jsonl", "null.jsonl, line 1: 'captions' is not an object of modality to"),
        ("evaluation.tests.depth.data.limit=1", "tests: depth: limit: CIDEr-D is not defined for one sample"),
        ("evaluation.limit=1", "tests: image: limit: CIDEr-D is not defined for one sample"),
        ("senses.depth.layer=9", "tiny.yaml: senses: depth: there is no layer 9"),
        ("senses.depth.connector={kind: mlq}", "tiny.yaml: senses: depth: there is no connector kind 'mlq'"),
        ("senses.depth.processor={sizes: 3}", "tiny.yaml: senses: depth: "),
        ("senses.depth.pool=0", "tiny.yaml: senses: depth: "),
        ("senses.depth.encoder=nowhere/at/all", "senses: depth: encoder: nowhere/at/all: there is no such folder"),
        ("adapter.targets=nothing", "tiny.yaml: adapter: targets: no adapter can be added"),
        ("adapter.targets='.*_proj'", "tiny.yaml: adapter: targets: model.encoders."),
        ("method={name: ewc}", "depth: method: image: a share of 0.01 of its 8 samples is less than one sample"),
        ("loop.mixed_precision=fp8", "mixed_precision is 'fp8'"),
        ("llm=''", "llm: there is no language model to begin with"),
        ("llm=lama", "or one of llama, llama-demo.\n"),
        (
            "senses.depth.encoder=clipp",
            "or one of clip, clip-demo, unialign:demo, unialign:paper, unialign:world, "
            "unialign:world-incremental, net:",
        ),
        ("llm=/no/where/at", "llm: /no/where/at: there is no such folder"),
        ("senses.depth.encoder=/no/where/at", "senses: depth: encoder: /no/where/at: there is no such folder"),
        ("senses.depth.encoder=net:smell", "senses: depth: encoder: features.yaml has no net 'smell'"),
        ("senses.depth.encoder=unialign:nope", "nope: the config cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_trained(
    override: str, message: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    rows = [json.loads(line) for line in (config.parent / "test.jsonl").read_text().splitlines()]
    changes: dict[str, dict[str, Any]] = {
        "undescribed": {"captions": {}, "questions": []}, "questions": {"captions": {}},
        "null": {"captions": {"depth": None}}, "unseen": {"media": {"image": rows[0]["media"]["image"]}},
    }  # fmt: skip
    for name, change in changes.items():
        (config.parent / f"{name}.jsonl").write_text("\n".join(json.dumps({**row, **change}) for row in rows))
    assert message in refused(config, tmp_path / "run", capsys, override)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("part", "setting", "files"),
    [("llm", "llm", "tokenizer*"), ("encoder", "senses.image.encoder", "*processor_config.json")],
)
def test_a_part_that_lacks_what_goes_with_its_weights_is_refused(
    part: str, setting: str, files: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(config.parent / part, tmp_path / part, ignore=shutil.ignore_patterns(files, MANIFEST))
    told = refused(config, tmp_path / "run", capsys, f"{setting}={folder}")
    assert f"{folder}: the model cannot be loaded (" in told


def test_a_language_model_without_a_token_to_pad_with_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = tmp_path / "llm"
    shutil.copytree(config.parent / "llm", llm)
    tokenizer = tiny_tokenizer(pad_token=None, unk_token=None)
    vocabulary = {token for token in tokenizer.get_vocab() if "reserved" in token}
    tokenizer.save_pretrained(llm)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (llm / name).read_text()
        for token in vocabulary:
            text = text.replace(token, "ordinary")
        (llm / name).write_text(text)
    told = refused(config, tmp_path / "run", capsys, f"llm={llm}")
    assert "the tokenizer has neither a padding token nor a reserved one" in told


def exchanged(stages: list[Path]) -> None:
    """The second stage under the name of the first."""
    shutil.rmtree(stages[0])
    stages[1].rename(stages[0])


def without_the_first(stages: list[Path]) -> None:
    shutil.rmtree(stages[0])


def of_another_base(stages: list[Path]) -> None:
    """The first stage with an adapter of a language model of another width, well written."""
    path = adapter_folder(stages[0], 1) / "adapter_model.safetensors"
    factors = {name: torch.cat([each, each], dim=1) if ".lora_A." in name else torch.cat([each, each])
               for name, each in load_file(path).items()}  # fmt: skip
    save_file(factors, path)
    details = json.loads((stages[0] / MANIFEST).read_text())["details"]
    write_manifest(stages[0], details)
    shutil.rmtree(stages[1])


@pytest.mark.parametrize(
    ("disturb", "method", "message"),
    [
        (exchanged, "merge=running_average", "the folder holds the stage 'stage-2-depth"),
        (without_the_first, "merge=running_average", "the stage is there, the one it was made from is not"),
        (of_another_base, "merge=running_average", OTHER_BASE),
        (of_another_base, "method={name: ewc, share: 0.5}", OTHER_BASE),
        (of_another_base, "method={name: pathweave}", OTHER_BASE),
    ],
)
def test_stages_out_of_order_and_adapters_of_another_base_are_named(
    disturb: Callable[[list[Path]], None], method: str, message: str, finished: Path, config: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(finished / "stages", tmp_path / "run" / "stages")
    disturb(sorted((tmp_path / "run" / "stages").iterdir()))
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "stages").rglob("*") if path.is_file()}
    told = refused(config, tmp_path / "run", capsys, method)
    assert message in told
    assert not list((tmp_path / "run").glob("training/*/connector")), "the first phase would have been in vain"
    assert {path: path.read_bytes() for path in before} == before


def test_a_test_of_a_sense_that_is_learned_later_waits_for_it(config: Path, tmp_path: Path) -> None:
    overrides = ["stages=[image]", "evaluation.tests.depth.data.manifest=not-yet.jsonl"]
    last = mera.run(str(config), tmp_path, overrides)
    assert {each["modality"] for each in json.loads((last / "metrics.json").read_text())["results"]} == {"image"}


def test_a_judge_that_refuses_loses_no_answer_of_a_stage(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged_by(endpoint: Endpoint) -> str:
        return f"evaluation.judge={{model: tiny-judge, options: {{base_url: {endpoint.url}}}}}"

    batches, answers = list[str](), AnswerEvaluator.answers

    def counted(self: AnswerEvaluator, samples: Any, turns: Any, modality: str) -> list[str]:
        batches.append(modality)
        return answers(self, samples, turns, modality)

    monkeypatch.setattr(AnswerEvaluator, "answers", counted)
    with scripted(lambda asked: Reply(status=401)) as endpoint:
        assert "refuses every request" in refused(config, tmp_path, capsys, "stages=[image]", judged_by(endpoint))
    asked = len(batches)
    with scripted(compare) as endpoint:
        last = mera.run(str(config), tmp_path, ["stages=[image]", judged_by(endpoint)])
    assert asked == len(batches) > 0
    assert len((last / "answers.jsonl").read_text().splitlines()) == 2 * TESTS


def test_a_sense_that_was_not_learned_yet_is_named(
    finished: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More or fewer features than placeholders are in `tests/models/mera/test_placeholders.py`."""
    first = sorted((finished / "stages").iterdir())[0]
    picture = next(config.parent.glob("*-depth.png"))
    assert main(["chat", str(first), f"{picture}:depth", "--ask", "what is this ?"]) == 1
    assert "unknown modality 'depth' (known here: image" in capsys.readouterr().err
