"""Cards are rendered from the run, complete, and with nothing typed by hand."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from polysense import Modality, register_modality
from polysense import modality as registry
from polysense.errors import CheckpointError
from polysense.hub import card_of_folder, render_card
from polysense.processing import GridProcessor
from tests.hub.stages import mera_metrics, mera_record, metrics_record, result, stage_record
from tests.report.runs import KEYS, write_mera_run

_PATTERN = r"""---
(?P<metadata>.+)
---

# UniAlign: image, text, depth

.+

## Quick start

```bash
pip install polysense
```

```python
import polysense
.+
```
.+
## Stages

(\|.+\|\n)+
## What was frozen and what was trained

(\|.+\|\n)+
The table .+

(\|.+\|\n)+
## Data

(\|.+\|\n)+
## Metrics

.+

(\|.+\|\n)+
Made by .+

```bash
.+
```

## Training

.+ optimiser steps in .+ by

```bash
.+
```

(\|.+\|\n)+
(\|.+\|\n)+
## Limits

(- .+\n)+
## Licences

.+

(\|.+\|\n)+$"""


def test_a_card_has_every_section_in_order() -> None:
    assert re.match(_PATTERN, render_card(stage_record(), metrics_record()), re.S)


def test_the_metadata_is_what_the_hub_reads() -> None:
    card = render_card(stage_record(), metrics_record())
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "polysense" and metadata["license"] == "apache-2.0"
    assert metadata["base_model"] == ["openai/clip-vit-base-patch16"]
    assert metadata["pipeline_tag"] == "feature-extraction" and "depth" in metadata["tags"]
    measured = metadata["model-index"][0]["results"][0]
    assert measured["metrics"][0]["value"] == 0.6125 and measured["dataset"]["name"] == "world stills test"


def test_the_metadata_stays_short_and_the_table_has_everything() -> None:
    senses = ("image", "depth", "audio", "video")
    measures = [("zero-shot classification", "top1"), ("zero-shot classification", "top5"), ("retrieval", "R@1")]
    figures = [result(modality=sense, dataset=data, task=task, metric=metric, value=0.123456789)
               for sense in senses for data in ("a", "b") for task, metric in measures]  # fmt: skip
    card = render_card(stage_record(), metrics_record(*figures))
    front = card.split("---")[1]
    listed = yaml.safe_load(front)["model-index"][0]["results"]
    assert [(each["dataset"]["name"], each["dataset"]["config"]) for each in listed] == [
        (data, sense) for sense in senses for data in ("a", "b")
    ]
    assert {metric["value"] for each in listed for metric in each["metrics"]} == {0.1235}
    assert {metric["type"] for each in listed for metric in each["metrics"]} == {"top1"}
    assert len(front.splitlines()) < 140 and card.count("\n| retrieval |") == 8


def test_a_commit_that_files_differed_from_is_told_in_words() -> None:
    card = render_card(stage_record(commit="0123abc+"), metrics_record(commit=""))
    assert "commit `0123abc` with changes that were not committed, by" in card
    assert "(seed 7, commit unknown)" in card and "0123abc+" not in card


def test_figures_of_different_senses_stay_apart_in_the_metadata() -> None:
    card = render_card(stage_record(), metrics_record(result(), result(modality="image", value=0.9)))
    listed = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    assert {each["dataset"]["config"]: each["metrics"][0]["value"] for each in listed} == {
        "depth": 0.6125,
        "image": 0.9,
    }


def test_every_metric_stands_with_interval_chance_bound_and_command() -> None:
    card = render_card(stage_record(), metrics_record())
    row = "| zero-shot classification | depth | world stills test | top1 | 61.3 [58.0, 64.0] | 12.5 | 87.5 | 300 |"
    assert row in card
    assert "```bash\npolysense evaluate runs/x/stages/stage-2-depth\n```" in card


def test_ranks_are_no_percentages_and_what_is_unknown_is_a_dash() -> None:
    row = result(metric="median_rank", value=3.5, low=None, high=None, chance=None, upper_bound=None, count=None)
    assert "| median_rank | 3.5 | - | - |" in render_card(stage_record(), metrics_record(row))


def test_a_bound_is_what_the_system_means_by_it() -> None:
    rows = metrics_record(result())
    assert "the upper bound is a model of the same size" in " ".join(render_card(stage_record(), rows).split())
    card = render_card({**stage_record(), "system": "comet"}, rows)
    assert "the upper bound is the same head, trained on the sense that it is tested on" in " ".join(card.split())


def test_without_upper_bounds_there_is_no_column_of_them() -> None:
    card = render_card(stage_record(), metrics_record(result(upper_bound=None)))
    assert "upper bound" not in card and "| top1 | 61.3 [58.0, 64.0] | 12.5 | 300 |" in card


def test_the_card_of_mera_has_merge_coefficients_and_relative_gains(tmp_path: Path) -> None:
    stages = write_mera_run(tmp_path) / "stages"
    last = stages / f"stage-3-point_cloud-{KEYS['MERA']}"
    record = json.loads((last / "stage.json").read_text())
    record["merge"] = {"method": "dare", "options": {"density": 0.1}, "coefficient": 1 / 3,
                       "rounding": {"once": 1.5e-8, "by_stage": 0.0}}  # fmt: skip
    (last / "stage.json").write_text(json.dumps(record))
    card = card_of_folder(last)
    assert "| 1 | image | - | - | - | - | 100.0 |" in card
    assert "| 2 | audio | - | - | - | 87.5 | 91.7 |" in card
    assert "| 3 | point_cloud | dare (density 0.1) | 0.3333 | 1.5e-08 / 0 | 81.2 | - |" in card
    assert "backward relative gain" not in render_card(stage_record(), metrics_record())


def test_the_card_of_mera_speaks_of_answers_and_names_the_judge() -> None:
    card = render_card(mera_record(), mera_metrics())
    assert "a language model that answers about files of 1 sense (depth), learned one at a time" in card
    assert "AutoModelForImageTextToText" in card and "embedding" not in card
    assert "| captioning | depth | depth | CIDEr-D (ptb) | 131.2 [120.0, 140.0] | 8.0 | 300 |" in card
    assert "CIDEr-D is shown times one hundred" in card
    assert "| depth | gpt-4o-mini | 300 | 99.3 | yes |" in card and "accuracy (gpt-4o-mini)" in card


def test_a_judgement_that_is_not_complete_is_told() -> None:
    judged = mera_metrics(judgements={"depth": {"judge": "x", "answers": 10, "coverage": 0.5, "complete": False}})
    assert "| depth | x | 10 | 50.0 | no: it is not among the figures |" in render_card(mera_record(), judged)


def test_a_stage_without_metrics_says_so() -> None:
    card = render_card(stage_record(), None)
    assert "This stage was not evaluated." in card and "model-index" not in card


def test_parameters_are_added_up() -> None:
    assert "| **all** | 10,000 | 1,000 (10.0 %) |" in render_card(stage_record())


def test_the_template_has_no_figure_of_its_own() -> None:
    template = (files("polysense.hub") / "card_template.md").read_text()
    prose = re.sub(r"\{[{%].*?[%}]\}|Apache-2\.0", "", template, flags=re.S)
    assert not re.findall(r"\d", prose)


def test_the_quick_start_embeds_a_file_of_the_newest_sense() -> None:
    card = render_card(stage_record(trained=["video"], modalities=["image", "text", "video"]))
    assert 'model.embed("video", processor(videos=["clip.mp4"]))' in card


def test_a_sense_from_outside_the_library_is_named() -> None:
    card = render_card(stage_record(modalities=["image", "text", "thermal_unheard_of"]))
    assert "The sense `thermal_unheard_of` is not part of polysense" in card
    assert "The sense `depth`" not in card


def test_a_sense_of_the_users_is_named_whatever_processor_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    monkeypatch.setattr(registry, "_PROCESSORS", dict(registry._PROCESSORS))
    register_modality(Modality(name="thermal", kind="grid", channels=1), GridProcessor)
    card = render_card(stage_record(modalities=["image", "text", "thermal"]))
    assert "The sense `thermal` is not part of polysense" in card


def test_the_history_names_every_stage_and_the_licence_of_every_base(tmp_path: Path) -> None:
    anchor = stage_record(stage=1, name="stage-1-image", parent=None, trained=["image", "text"],
                          base_model={"name": "tiny anchor", "license": "CC0-1.0"})  # fmt: skip
    for record in (anchor, stage_record()):
        folder = tmp_path / record["name"]
        folder.mkdir()
        (folder / "stage.json").write_text(json.dumps(record))
    card = card_of_folder(tmp_path / "stage-2-depth")
    assert "| 1 | stage-1-image | tiny anchor | image, text |" in card
    assert "| 2 | stage-2-depth (this one) | stage-1-image | depth |" in card
    assert "| tiny anchor | CC0-1.0 |" in card and "| openai/clip-vit-base-patch16 | mit |" in card


def test_a_stage_that_names_itself_as_parent_ends(tmp_path: Path) -> None:
    folder = tmp_path / "stage-2-depth"
    folder.mkdir()
    (folder / "stage.json").write_text(json.dumps(stage_record(parent="stage-2-depth")))
    assert card_of_folder(folder).startswith("---\n")


def test_secrets_and_local_paths_do_not_reach_the_card() -> None:
    command = f"HF_TOKEN=hf_{'q' * 30} polysense train unialign --output /home/ann/runs/x"
    card = render_card(stage_record(command=command), metrics_record(command=command))
    assert "hf_q" not in card and "/home" not in card
    assert "HF_TOKEN=[removed] polysense train unialign --output .../x" in card


def test_text_stays_inside_its_table_cell() -> None:
    data = [{"name": "a | b\nc <script>", "samples": 1, "license": None, "content_hash": None}]
    assert r"| a \| b c &lt;script> | 1 | not stated | `none` |" in render_card(stage_record(data=data))


@pytest.mark.parametrize("key", ["seed", "parameters", "limits", "base_model"])
def test_a_record_that_lacks_a_key_is_refused(key: str) -> None:
    record = stage_record()
    del record[key]
    with pytest.raises(CheckpointError, match=rf"the keys \['{key}'\] are missing"):
        render_card(record)


def test_a_mistyped_result_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"results\[0\]: value is of type str"):
        render_card(stage_record(), metrics_record(result(value="high")))
