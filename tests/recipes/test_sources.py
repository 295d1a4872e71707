"""Data sets as recipes declare them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from polysense.data import EventLayout
from polysense.errors import ConfigError
from polysense.recipes.sources import DatasetSettings, SourceSettings, class_names, open_sources

COLUMNS = {"media": {"point_cloud": "points"}, "labels": {"point_cloud": "name"}, "captions": {"point_cloud": "name"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    points = np.zeros((3, 4, 3)).tolist()
    Dataset.from_dict({"points": points, "name": ["lamp", "chair", "lamp"]}).to_parquet(tmp_path / "a-0.parquet")
    row = {"media": {"image": "x.png"}, "labels": {"image": "cup"}, "captions": {"image": ["a"], "web": ["b"]}}
    rows = [{"id": str(number), **row} for number in range(3)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_manifest_is_opened_below_the_data_root(root: Path) -> None:
    dataset = DatasetSettings(manifest="m.jsonl", limit=2).open(root)
    assert len(dataset) == 2 and dataset[0].media["image"].source == root / "x.png"


def test_parquet_patterns_are_opened_by_column_mapping(root: Path) -> None:
    dataset = DatasetSettings(parquet=["a-*.parquet"], columns=COLUMNS).open(root)
    assert len(dataset) == 3 and class_names(dataset, "point_cloud") == ("chair", "lamp")
    assert class_names(dataset, "image") == ()


def test_csv_and_json_files_are_opened_by_column_mapping(root: Path) -> None:
    (root / "a.csv").write_text("cloud,text\n1,a\n2,b\n")
    (root / "a.json").write_text('[{"cloud": 1, "text": "a"}]')
    columns = {"media": {"point_cloud": "{cloud}.ply"}, "captions": {"point_cloud": "text"}}
    tables = [DatasetSettings(csv=["a.csv"], columns=columns), DatasetSettings(json=["a.json"], columns=columns)]
    opened = [each.open(root) for each in tables]
    assert [len(each) for each in opened] == [2, 1] and [each.name for each in tables] == ["a", "a"]
    assert all(each[0].media["point_cloud"].source == (root / "1.ply").resolve() for each in opened)
    digest = hashlib.sha256(hashlib.sha256((root / "a.csv").read_bytes()).digest()).hexdigest()
    assert tables[0].content_hash(root) == digest


def test_patterns_may_be_absolute_and_the_data_root_is_none(root: Path) -> None:
    folder = root / "run [1]"
    folder.mkdir()
    (root / "a-0.parquet").rename(folder / "a-0.parquet")
    inside, absolute = (DatasetSettings(parquet=[name], columns=COLUMNS) for name in ("a-*.parquet", f"{root}/*/a-*"))
    assert len(inside.open(folder)) == len(absolute.open(root)) == 3
    assert inside.content_hash(folder) == absolute.content_hash(root)


def test_what_is_wrong_with_a_file_is_told(root: Path) -> None:
    (root / "a.csv").write_bytes("name\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a.csv: the data set cannot be opened \(UnicodeDecodeError: 'utf-8'"):
        DatasetSettings(csv=["a.csv"], columns={"media": {"point_cloud": "name"}}).open(root)


def test_tables_of_events_are_opened_from_a_folder_of_the_data_root(root: Path) -> None:
    (root / "avvp").mkdir()
    (root / "avvp" / "eval.csv").write_text("a\t0\t2\tDog\n")
    layout = EventLayout(
        tables={"audio": "eval.csv"}, columns=["clip", "from", "to", "event"], delimiter="\t", clip="clip",
        start="from", end="to", label="event", media={"audio": "{clip}.wav"},
    )  # fmt: skip
    settings = DatasetSettings(folder="avvp", events=layout)
    dataset = settings.open(root)
    assert dataset.labels("audio") == ["Dog"] and settings.name == "eval"
    assert dataset[0].media["audio"].source == root / "avvp" / "a.wav"
    assert settings.key(root)["events"]["tables"] == {"audio": "eval.csv"} and settings.key(root)["folder"] == "avvp"
    digest = hashlib.sha256(hashlib.sha256((root / "avvp" / "eval.csv").read_bytes()).digest()).hexdigest()
    assert settings.content_hash(root) == digest


def test_samples_are_drawn_at_random_the_same_at_every_opening_and_fewer_are_among_more(root: Path) -> None:
    row = {"media": {"image": "x.png"}}
    (root / "many.jsonl").write_text("".join(json.dumps({"id": str(n), **row}) + "\n" for n in range(50)))

    def ids(sample: int, limit: int | None = None) -> list[str]:
        dataset = DatasetSettings(manifest="many.jsonl", sample=sample, limit=limit).open(root)
        return [dataset[index].id for index in range(len(dataset))]

    few, more = ids(5), ids(20)
    assert len(few) == 5 and few == ids(5) and set(few) < set(more) and few != [str(n) for n in range(5)]
    assert sorted(more, key=int) == more and ids(20, limit=2) == more[:2] and len(ids(99)) == 50


def test_captions_of_several_keys_are_pooled(root: Path) -> None:
    dataset = DatasetSettings(manifest="m.jsonl", captions={"image": ["image", "web"]}).open(root)
    assert dataset[0].captions["image"] == ("a", "b") and dataset.labels("image") == ["cup"] * 3


def test_labels_told_by_templates_take_the_place_of_captions_and_of_what_is_meant(root: Path) -> None:
    row = {"media": {"audio": "x.wav", "video": "x.mp4"}, "semantics": {"audio": "small cup", "video": "red cup"}}
    rows = [
        {"id": "a", **row, "labels": {"audio": "ringing cup"}, "captions": {"audio": ["long"], "video": ["red"]}},
        {"id": "b", **row, "captions": {"audio": ["no label"]}},
    ]
    (root / "told.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    settings = DatasetSettings(manifest="told.jsonl", templates={"audio": ["the sound of a {}", "a {} is heard"]})
    dataset = settings.open(root)
    assert dataset[0].captions == {
        "audio": ("the sound of a ringing cup", "a ringing cup is heard"), "video": ("red",)
    }  # fmt: skip
    assert dataset[0].extra["semantics"] == {"audio": "ringing cup", "video": "red cup"}
    assert dataset[1].captions == {"audio": ("no label",)} and dataset.labels("audio") == ["ringing cup", None]
    assert dataset[1].extra["semantics"] == row["semantics"]


def test_labels_are_narrated_in_the_seconds_of_their_event(root: Path) -> None:
    row = {"media": {"audio": "x.wav"}, "labels": {"audio": "ringing cup"},
           "seconds": {"audio": ["background", "ring", "ring"], "video": ["ring"] * 3}}  # fmt: skip
    (root / "seconds.jsonl").write_text(json.dumps({"id": "a", **row}) + "\n")
    settings = DatasetSettings(manifest="seconds.jsonl", templates={"audio": ["a {}"]}, quiet={"audio": "nothing"})
    assert settings.open(root)[0].extra["narrations"] == {"audio": ["nothing", "ringing cup", "ringing cup"]}
    plain = replace(settings, quiet={})
    assert not plain.open(root)[0].extra["narrations"] and plain.key(root) != settings.key(root)
    with pytest.raises(ConfigError, match="quiet: video is not told by its labels"):
        replace(settings, quiet={"video": "nothing"})


def test_only_samples_that_have_a_value_are_used(root: Path) -> None:
    rows = [{"id": str(n), "media": {"image": "x.png"}, "split": ("train", "test")[n % 2]} for n in range(5)]
    (root / "split.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    settings = DatasetSettings(manifest="split.jsonl", having={"split": "test"})
    dataset = settings.open(root)
    assert [dataset[index].id for index in range(len(dataset))] == ["1", "3"] and dataset.labels("image") == [None] * 2
    assert settings.key(root)["having"] == {"split": "test"}
    with pytest.raises(ConfigError, match=r"split: no sample has \{'split': 'none'\}"):
        replace(settings, having={"split": "none"}).open(root)


@pytest.mark.parametrize("templates", [[], ["a cup"], ["{} and {}"]])
def test_templates_without_a_place_for_the_label_are_refused(templates: list[str]) -> None:
    with pytest.raises(ConfigError, match="the templates of audio are"):
        DatasetSettings(manifest="m.jsonl", templates={"audio": templates})


@pytest.mark.parametrize("name", ["limit", "sample"])
@pytest.mark.parametrize("value", [0, -3])
def test_no_samples_at_all_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        DatasetSettings(manifest="m.jsonl", **{name: value})  # type: ignore[arg-type]


def test_the_content_hash_is_that_of_the_files(root: Path) -> None:
    digest = hashlib.sha256(hashlib.sha256((root / "m.jsonl").read_bytes()).digest()).hexdigest()
    assert DatasetSettings(manifest="m.jsonl").content_hash(root) == digest
    assert DatasetSettings(hub="someone/data", split="test").content_hash(root) == "someone/data[test]"


def test_the_key_is_another_one_for_other_samples_of_the_same_file(root: Path) -> None:
    plain = DatasetSettings(manifest="m.jsonl")
    assert plain.key(root) == {"content_hash": plain.content_hash(root)}
    others = [replace(plain, limit=2), replace(plain, sample=2), replace(plain, captions={"image": ["web"]}),
              replace(plain, templates={"image": ["a {}"]})]  # fmt: skip
    keys = [json.dumps(each.key(root), sort_keys=True) for each in (plain, *others)]
    assert len(set(keys)) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DatasetSettings(), "depth: data: a data set needs exactly one of"),
        (DatasetSettings(manifest="m.jsonl", hub="a/b"), "depth: data: a data set needs exactly one of"),
        (DatasetSettings(manifest="none.jsonl"), r"depth: data: .*none\.jsonl: there is no such manifest"),
        (DatasetSettings(parquet=["b-*.parquet"]), r"depth: data: columns: the keys \['media'\] are missing"),
        (DatasetSettings(parquet=["b-*.parquet"], columns=COLUMNS), r"b-\*\.parquet: there is no such parquet file"),
        (DatasetSettings(csv=["b.csv"], columns=COLUMNS), r"b\.csv: there is no such csv file"),
        (DatasetSettings(parquet=["m.jsonl"], columns=COLUMNS), r"m\.jsonl: the data set cannot be opened"),
        (DatasetSettings(parquet=["a-*.parquet"], columns={"media": {"depth": "xyz"}}), r"no columns \['xyz'\]"),
        (DatasetSettings(parquet=["a-*.parquet"], columns={**COLUMNS, "lables": {}}), "unknown key 'lables'"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_named_with_its_source(settings: DatasetSettings, message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_sources({"depth": SourceSettings(modality="depth", data=settings)}, root)


def test_a_source_that_cannot_serve_is_named(root: Path) -> None:
    settings = SourceSettings(modality="image", data=DatasetSettings(manifest="m.jsonl"), anchors=["image"])
    with pytest.raises(ConfigError, match=r"sources: web: .*anchors \['image'\] cannot be used"):
        settings.source("web", settings.data.open(root))
