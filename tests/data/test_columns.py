"""Column mapping on small parquet files with the columns of the public data sets that `paper.yaml` names."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Array2D, Audio, ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PillowImage

from polysense.data import ColumnDataset, ColumnMapping
from polysense.data.conversations import Conversations, Turn
from polysense.errors import ConfigError, ManifestError, UnsafeFileError
from polysense.modality import get_modality
from polysense.processing import processor_for


def png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    PillowImage.new(mode, (4, 4)).save(file, format="PNG")
    return file.getvalue()


def parquet(path: Path, rows: dict[str, Any], features: Features | None = None) -> str:
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return str(path)


def test_imagenet_images_come_undecoded_with_class_names(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["tench", "goldfish"])})
    file = parquet(
        tmp_path / "imagenet.parquet", {"image": [{"bytes": png(), "path": "n1.JPEG"}] * 2, "label": [1, 0]}, features
    )
    data = ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}, labels={"image": "label"}))
    assert len(data) == 2 and data.labels("image") == ["goldfish", "tench"]
    assert data[0].ref("image").source == png() and data[0].labels == {"image": "goldfish"}
    assert data[1].id == "1" and data.labels("audio") == [None, None]


def test_the_hidden_labels_of_a_test_split_are_no_labels(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["tench"])})
    file = parquet(tmp_path / "test.parquet", {"image": [{"bytes": png(), "path": None}], "label": [-1]}, features)
    data = ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}, labels={"image": "label"}))
    assert data[0].labels == {} and data.labels("image") == [None]


def test_class_numbers_are_names_whatever_they_are_read_for(tmp_path: Path) -> None:
    features = Features(
        {"image": Image(), "kinds": List(ClassLabel(names=["dog", "bark"])), "focal": List(Value("float32")),
         "sensor": ClassLabel(names=["kv1", "kv2"])}
    )  # fmt: skip
    rows = {"image": [{"bytes": png(), "path": None}] * 3, "kinds": [[0, 1], [1, -1], []], "sensor": [1, 0, None],
            "focal": [[1.0]] * 3}  # fmt: skip
    file = parquet(tmp_path / "p.parquet", rows, features)
    facts = {"camera": "sensor", "baseline": {"column": "sensor", "values": {"kv1": 0.1, "kv2": 0.2, None: 0.3}}}
    mapping = ColumnMapping(media={"image": "image", "depth": "{sensor}.png"}, labels={"image": "kinds"},
                            captions={"image": "sensor"}, facts={"image": facts})  # fmt: skip
    data = ColumnDataset.from_parquet(file, mapping, root=tmp_path)
    assert data.labels("image") == ["dog", "bark", None] and data[2].labels == {}
    assert data[0].labels == {"image": "dog"} and data[0].extra["kinds"] == ["dog", "bark"] and data[1].extra == {}
    assert [data[row].captions["image"] for row in range(3)] == [("kv2",), ("kv1",), ()]
    assert [dict(data[row].ref("image").facts) for row in range(3)] == [
        {"camera": "kv2", "baseline": 0.2}, {"camera": "kv1", "baseline": 0.1}, {"camera": None, "baseline": 0.3},
    ]  # fmt: skip
    assert data[0].ref("depth").source == tmp_path.resolve() / "kv2.png" and "depth" not in data[2].media
    unread = ColumnMapping(media={"image": "image"}, facts={"image": {"f": {"column": "focal", "values": {"a": 1}}}})
    with pytest.raises(ManifestError, match=r"row 0: fact 'f' does not translate \[1.0\]"):
        ColumnDataset.from_parquet(file, unread)[0]


def test_shapenet_points_come_as_arrays_with_captions(tmp_path: Path) -> None:
    points = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    features = Features(
        {"id": Value("string"), "points": Array2D((4, 3), "float32"), "image": Image(), "category": Value("string"),
         "captions": List(Value("string"))}
    )  # fmt: skip
    rows = {"id": ["x", "y"], "points": list(points), "image": [{"bytes": png(), "path": None}] * 2,
            "category": ["chair", "lamp"], "captions": [["a chair", "one chair"], []]}  # fmt: skip
    mapping = ColumnMapping(media={"point_cloud": "points", "image": "image"}, labels={"point_cloud": "category"},
                            captions={"point_cloud": "captions"}, id="id")  # fmt: skip
    data = ColumnDataset.from_parquet(parquet(tmp_path / "shapenet.parquet", rows, features), mapping)
    sample = data[1]
    assert sample.id == "y" and sample.labels == {"point_cloud": "lamp"} and sample.captions == {"point_cloud": ()}
    cloud = sample.ref("point_cloud").source
    assert isinstance(cloud, np.ndarray) and np.array_equal(cloud, points[1])
    assert data[0].captions["point_cloud"] == ("a chair", "one chair")


def test_point_lists_of_any_length_come_as_arrays(tmp_path: Path) -> None:
    rows = {"points": [[[0.0, 1.0, 2.0]] * 5, [[0.0, 1.0, 2.0]] * 2]}
    data = ColumnDataset.from_parquet(
        parquet(tmp_path / "p.parquet", rows), ColumnMapping(media={"point_cloud": "points"})
    )
    clouds = [data[index].ref("point_cloud").source for index in range(2)]
    assert [cloud.shape for cloud in clouds if isinstance(cloud, np.ndarray)] == [(5, 3), (2, 3)]


def test_sun_rgbd_depth_carries_its_camera(tmp_path: Path) -> None:
    features = Features(
        {"image": Image(), "depth": Image(), "intrinsics": List(Value("float64")), "sensor": Value("string"),
         "scene": Value("string")}
    )  # fmt: skip
    rows = {"image": [{"bytes": png(), "path": None}] * 2, "depth": [{"bytes": png("I;16"), "path": None}] * 2,
            "intrinsics": [[529.5, 0, 365.0, 0, 529.5, 265.0, 0, 0, 1]] * 2, "sensor": ["kv2", "other"],
            "scene": ["bedroom"] * 2}  # fmt: skip
    mapping = ColumnMapping.from_dict(
        {
            "media": {"image": "image", "depth": "depth"},
            "labels": {"depth": "scene"},
            "facts": {
                "depth": {
                    "intrinsics": "intrinsics",
                    "baseline": {"column": "sensor", "values": {"kv1": 0.075, "kv2": 0.075, "xtion": 0.095}},
                    "encoding": {"value": "sunrgbd"},
                }
            },
        }
    )
    data = ColumnDataset.from_parquet(parquet(tmp_path / "sun.parquet", rows, features), mapping)
    depth = data[0].ref("depth")
    assert depth.source == png("I;16")
    assert depth.facts["intrinsics"][0] == 529.5 and depth.facts["baseline"] == 0.075
    assert depth.facts["encoding"] == "sunrgbd" and data[0].ref("image").facts == {}
    with pytest.raises(ManifestError, match="row 1: fact 'baseline' does not translate 'other'"):
        data[1]


def test_audioset_clips_come_as_bytes_with_all_their_labels(tmp_path: Path) -> None:
    rows = {
        "video_id": ["-0RWZT-miFs"],
        "audio": [{"bytes": b"fLaC...", "path": "a.flac"}],
        "labels": [["/m/03v3yw", "/m/0k4j"]],
        "human_labels": [["Keys jangling", "Car"]],
    }
    stored = Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))
    stored.to_parquet(tmp_path / "audioset.parquet")
    mapping = ColumnMapping(media={"audio": "audio"}, labels={"audio": "human_labels"}, id="video_id")
    data = ColumnDataset.from_parquet(str(tmp_path / "audioset.parquet"), mapping)
    assert data[0].ref("audio").source == b"fLaC..." and data[0].id == "-0RWZT-miFs"
    assert data[0].labels == {"audio": "Keys jangling"} and data[0].extra["human_labels"] == ["Keys jangling", "Car"]
    assert data.labels("audio") == ["Keys jangling"]


def test_vggsound_clips_serve_audio_and_video_from_one_column(tmp_path: Path) -> None:
    rows = {"video": [b"....ftypisom"], "label": ["dog barking"]}
    mapping = ColumnMapping(media={"audio": "video", "video": "video"}, labels={"audio": "label", "video": "label"})
    data = ColumnDataset.from_parquet(parquet(tmp_path / "vggsound.parquet", rows), mapping)
    assert data[0].ref("audio").source == data[0].ref("video").source == b"....ftypisom"
    assert data[0].labels == {"audio": "dog barking", "video": "dog barking"}


def test_paths_in_rows_are_refused_unless_a_root_holds_them(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media/a.png").write_bytes(png())
    file = parquet(tmp_path / "p.parquet", {"image": ["a.png", "/etc/passwd", "../p.parquet"]})
    mapping = ColumnMapping(media={"image": "image"})
    with pytest.raises(UnsafeFileError, match=r"row 0, image: the row points to the file 'a\.png'"):
        ColumnDataset.from_parquet(file, mapping)[0]
    data = ColumnDataset.from_parquet(file, mapping, root=tmp_path / "media")
    assert data[0].ref("image").source == (tmp_path / "media/a.png").resolve()
    for index in (1, 2):
        with pytest.raises(UnsafeFileError, match="leads outside"):
            data[index]


def test_whole_paths_may_go_by_the_name_that_the_root_is_given_by(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    folders = ("data", "disk")
    file = parquet(tmp_path / "p.parquet", {"image": [str(tmp_path / folder / "a.png") for folder in folders]})
    data = ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}), root=tmp_path / "data")
    assert [data[row].ref("image").source for row in range(2)] == [tmp_path.resolve() / "disk" / "a.png"] * 2


def test_decoded_sounds_come_with_their_rate(tmp_path: Path) -> None:
    file = parquet(tmp_path / "p.parquet", {"audio": [{"array": [0.5, -0.5] * 400, "sampling_rate": 16_000}]})
    sound = ColumnDataset.from_parquet(file, ColumnMapping(media={"audio": "audio"}))[0].ref("audio").open()
    assert len(processor_for(get_modality("audio"), 32).load(sound)) == 800


def test_a_row_without_media_lacks_the_modality(tmp_path: Path) -> None:
    file = parquet(tmp_path / "p.parquet", {"image": [png(), None]})
    assert "image" not in ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}))[1].media


def test_rows_of_question_answering_become_questions_with_all_their_answers(tmp_path: Path) -> None:
    rows = {"image": [png()] * 3, "question": ["what is it ?", "how many ?", "who ?"],
            "answers": [["cup", "mug", "cup"], ["2"], []]}  # fmt: skip
    mapping = ColumnMapping(
        media={"image": "image"}, questions={"image": {"question": "question", "answer": "answers"}}
    )
    data = ColumnDataset.from_parquet(parquet(tmp_path / "qa.parquet", rows), mapping)
    assert [data[row].extra["questions"] for row in range(3)] == [
        [{"modality": "image", "question": "what is it ?", "answer": ["cup", "mug", "cup"]}],
        [{"modality": "image", "question": "how many ?", "answer": "2"}],
        [],  # nothing answers it
    ]
    turns = Conversations(suffix="").test(data[0], "image")
    assert turns == [Turn("question", "what is it ?", ("cup", "mug", "cup"))]


@pytest.mark.parametrize(
    ("rule", "samples"),
    [
        (None, {"0": ("a", "b", "a"), "1": (), "2": ("c",)}),
        ("first", {"0": ("a",), "1": (), "2": ("c",)}),
        ("each", {"0/0": ("a",), "0/1": ("b",), "0/2": ("a",), "2/0": ("c",)}),
        ("distinct", {"0/0": ("a",), "0/1": ("b",), "2/0": ("c",)}),
    ],
)
def test_the_captions_of_a_row_stay_together_or_are_samples_of_their_own(
    rule: Any, samples: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    rows = {"image": [png()] * 3, "text": [["a", "b", "a"], [], ["c"]], "name": ["x", "y", "z"]}
    lists = {} if rule is None else {"text": rule}
    mapping = ColumnMapping(
        media={"image": "image"}, captions={"image": "text"}, labels={"image": "name"}, lists=lists
    )
    data = ColumnDataset.from_parquet(parquet(tmp_path / "captions.parquet", rows), mapping)
    found = [data[index] for index in range(len(data))]
    assert {sample.id: sample.captions["image"] for sample in found} == samples
    assert data.labels("image") == [sample.labels["image"] for sample in found]


def test_rows_that_fulfil_no_condition_are_left_out_and_keep_their_numbers(tmp_path: Path) -> None:
    features = Features({"image": Value("binary"), "sure": Value("string"), "text": Value("string"),
                         "kind": ClassLabel(names=["cup", "ball"])})  # fmt: skip
    rows = {"image": [png()] * 4, "sure": ["yes", "no", "yes", "yes"], "text": ["ab", "ab", "abc", "a"],
            "kind": [0, 0, 0, 1]}  # fmt: skip
    file = parquet(tmp_path / "rows.parquet", rows, features)

    def numbers(**where: Any) -> list[str]:
        data = ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}, where=where))
        return [data[index].id for index in range(len(data))]

    assert numbers(sure={"equals": "yes"}) == ["0", "2", "3"]
    assert numbers(sure={"equals": "yes"}, text={"at_most_characters": 2}) == ["0", "3"]
    assert numbers(kind={"equals": "ball"}) == ["3"]  # a class goes by its name
    with pytest.raises(ConfigError, match=r"no row is left whose 'sure' fulfils .*True.*'yes'.*quotation marks"):
        numbers(sure={"equals": True})


def test_a_path_may_be_made_of_columns_and_stays_inside_the_root(tmp_path: Path) -> None:
    rows = {"folder": ["a", "..", None], "number": [7, 8, 9]}
    file = parquet(tmp_path / "p.parquet", rows)
    mapping = ColumnMapping(media={"image": "media/{folder}/{number:03d}.png"})
    assert mapping.has_paths and mapping.columns == ["folder", "number"]
    data = ColumnDataset.from_parquet(file, mapping, root=tmp_path)
    assert data[0].ref("image").source == (tmp_path / "media/a/007.png").resolve()
    with pytest.raises(UnsafeFileError, match="leads outside"):
        data[1]
    assert data[2].media == {}
    with pytest.raises(UnsafeFileError, match="the row points to the file"):
        ColumnDataset.from_parquet(file, mapping)[0]
    with pytest.raises(ManifestError, match=r"row 0, .*: the row makes no path"):
        ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "{folder:03d}"}), root=tmp_path)[0]


def test_captions_of_several_columns_are_taken_together_and_endings_left_off_paths(tmp_path: Path) -> None:
    """Clotho has five columns of captions; FlickrSoundNet names the sounds, and pictures have the same names."""
    (tmp_path / "clotho.csv").write_text("file_name,caption_1,caption_2\nrain.1.wav,rain falls,water drips\n")
    mapping = ColumnMapping(media={"audio": "wav/{file_name}", "image": "jpg/{file_name:stem}.jpg"},
                            captions={"audio": ["caption_1", "caption_2"]})  # fmt: skip
    sample = ColumnDataset.from_files("csv", str(tmp_path / "clotho.csv"), mapping, root=tmp_path)[0]
    assert sample.captions == {"audio": ("rain falls", "water drips")}
    assert sample.media["image"].source == tmp_path.resolve() / "jpg" / "rain.1.jpg"
    assert sample.media["audio"].source == tmp_path.resolve() / "wav" / "rain.1.wav"


def test_an_empty_cell_of_a_csv_file_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sound,picture\na.wav,\n,b\n")
    mapping = ColumnMapping(media={"audio": "sound", "image": "jpg/{picture}.jpg"})
    data = ColumnDataset.from_files("csv", str(tmp_path / "a.csv"), mapping, root=tmp_path)
    assert [list(data[row].media) for row in range(2)] == [["audio"], ["image"]]


def test_csv_files_are_texts_and_json_files_are_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,answer\n007,none\n008,"yes, 2"\n009,\n')
    mapping = ColumnMapping(media={"audio": "{id}.wav"}, questions={"audio": {"question": "id", "answer": "answer"}})
    data = ColumnDataset.from_files("csv", str(tmp_path / "a.csv"), mapping, root=tmp_path)
    assert data[0].ref("audio").source == tmp_path.resolve() / "007.wav"
    assert [[asked["answer"] for asked in data[row].extra["questions"]] for row in range(3)] == [
        ["none"], ["yes, 2"], []
    ]  # fmt: skip
    (tmp_path / "a.json").write_text('[{"id": 7, "text": ["a", "b"]}, {"id": 8, "text": []}]')
    mapping = ColumnMapping(media={"video": "vid{id}.avi"}, captions={"video": "text"})
    data = ColumnDataset.from_files("json", str(tmp_path / "a.json"), mapping, root=tmp_path)
    assert data[0].captions == {"video": ("a", "b")} and data[1].captions == {"video": ()}
    assert data[1].ref("video").source == tmp_path.resolve() / "vid8.avi"


def test_what_is_missing_from_a_list_of_texts_is_no_text(tmp_path: Path) -> None:
    columns = {"image": [png()] * 3, "text": [["a", None, "", "b"], [None], None], "kind": [[None, "dog"], [], None]}
    file = parquet(tmp_path / "p.parquet", columns)
    mapping = ColumnMapping(media={"image": "image"}, captions={"image": "text"}, labels={"image": "kind"})
    data = ColumnDataset.from_parquet(file, mapping)
    assert [data[row].captions["image"] for row in range(3)] == [("a", "b"), (), ()]
    assert list(data.labels("image")) == ["dog", None, None]
    each = ColumnMapping(media={"image": "image"}, captions={"image": "text"}, lists={"text": "each"})
    data = ColumnDataset.from_parquet(file, each)
    assert [data[row].captions["image"] for row in range(len(data))] == [("a",), ("b",)]


@pytest.mark.parametrize(
    "text", [{"raw": "a dog", "tokens": ["a"]}, [{"answer": "a dog"}], [["a", "dog"]], b"a dog"], ids=str
)
@pytest.mark.parametrize(
    "read", [{"captions": {"image": "text"}}, {"labels": {"image": "text"}},
             {"questions": {"image": {"question": "image", "answer": "text"}}}], ids=str,
)  # fmt: skip
def test_objects_are_not_read_as_texts(tmp_path: Path, text: Any, read: dict[str, Any]) -> None:
    file = parquet(tmp_path / "p.parquet", {"image": ["a.png"], "text": [text]})
    with pytest.raises(ConfigError, match=r"column 'text' holds no texts but .* put what is meant into one"):
        ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}, **read), root=tmp_path)


@pytest.mark.parametrize("rows", ["1.wav,a dog, barking\n2.wav,rain\n", "1.wav,a dog,\n2.wav,rain,\n"])
def test_the_first_column_of_a_csv_file_is_no_index_where_its_rows_are_too_long(tmp_path: Path, rows: str) -> None:
    (tmp_path / "a.csv").write_text(f"file,caption\n{rows}")
    mapping = ColumnMapping(media={"audio": "file"}, captions={"audio": "caption"})
    with pytest.raises(ConfigError, match=r"a\.csv: .*the first row has more columns than the line of names"):
        ColumnDataset.from_files("csv", str(tmp_path / "a.csv"), mapping, root=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"questions": {"image": {"question": "q"}}}, "the questions about 'image' are {'question': 'q'}. Give"),
        ({"lists": {"text": "last"}}, "lists: 'text' is 'last'"),
        ({"lists": {"image": "first"}}, "lists: 'image' is 'first'. Give a column of captions or answers one of"),
        ({"lists": {"text": "each", "a": "distinct"}, "questions": {"image": {"question": "q", "answer": "a"}}},
         "lists: several columns are to make samples"),
        ({"where": {"text": {"longer": 3}}}, "where: text: there is no condition 'longer'"),
        ({"media": {"image": "a/{0.name}"}}, "media: the path 'a/{0.name}' does not name columns"),
        ({"media": {"image": "a/{}"}}, "media: the path 'a/{}' does not name columns"),
        ({"media": {"image": "a/{b"}}, "media: the path 'a/{b' does not name columns"),
    ],
)  # fmt: skip
def test_lists_questions_conditions_and_paths_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        ColumnMapping(**{"media": {"image": "image"}, "captions": {"image": "text"}, **settings})


def test_mappings_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    file = parquet(tmp_path / "p.parquet", {"image": [png()]})
    with pytest.raises(ConfigError, match=r"no columns \['picture'\]"):
        ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "picture"}))
    with pytest.raises(ConfigError, match=r"unknown key 'label'\. Did you mean 'labels'"):
        ColumnMapping.from_dict({"media": {"image": "image"}, "label": {}})
    with pytest.raises(ConfigError, match="names no media"):
        ColumnMapping(media={})
    wrong: list[Any] = [{"value": 1, "column": "c"}, {"column": "c"}, {"column": "c", "values": [1]}, {}, None, 0.075]
    for fact in wrong:
        with pytest.raises(ConfigError, match="fact 'baseline'"):
            ColumnMapping(media={"depth": "d"}, facts={"depth": {"baseline": fact}})


def test_streamed_data_and_dictionaries_of_splits_are_refused() -> None:
    rows = Dataset.from_dict({"file": ["a.flac"]})
    for given in (rows.to_iterable_dataset(), DatasetDict(train=rows)):
        with pytest.raises(ConfigError, match=f"this is a {type(given).__name__}, .*without streaming"):
            ColumnDataset(given, ColumnMapping(media={"audio": "file"}))
