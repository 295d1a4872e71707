"""Tables in the form of AVVP's and AVE's, with their peculiarities: several events, none, and commas in names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polysense.data import EventLayout, EventTable, SampleDataset
from polysense.errors import ConfigError, ManifestError, UnsafeFileError

AVVP_AUDIO = """filename\tonset\toffset\tevent_labels
one_0_10\t0\t8\tSpeech
one_0_10\t8\t10\tBlender
one_0_10\t2\t3\tBlender
two_5_15\t9\t9\tSpeech
two_5_15\t1\t3\tFrying_(food)
"""
AVVP_VISUAL = "filename\tonset\toffset\tevent_labels\none_0_10\t0,5,0\t1,9,5\tSpeech,Speech,Cello\n"
AVE = """Category&VideoID&Quality&StartTime&EndTime
Church bell&aaa&good&0&10
Violin, fiddle&bbb&good&3&7
Bark&bbb&good&7&10
"""


def avvp(folder: Path, **changed: Any) -> EventTable:
    (folder / "audio.csv").write_text(AVVP_AUDIO)
    (folder / "visual.csv").write_text(AVVP_VISUAL)
    layout: dict[str, Any] = {
        "tables": {"audio": "audio.csv", "video": "visual.csv"}, "delimiter": "\t",
        "columns": ("filename", "onset", "offset", "event_labels"), "clip": "filename", "label": "event_labels",
        "start": "onset", "end": "offset", "media": {"audio": "wav/{filename}.wav", "video": "mp4/{filename}.mp4"},
    }  # fmt: skip
    return EventTable(EventLayout(**{**layout, **changed}), folder)


def ave(folder: Path, **changed: Any) -> EventTable:
    (folder / "trainSet.txt").write_text(AVE)
    layout: dict[str, Any] = {
        "tables": {"video": "trainSet.txt", "audio": "trainSet.txt"}, "delimiter": "&", "clip_per_row": True,
        "columns": ("Category", "VideoID", "Quality", "StartTime", "EndTime"), "clip": "VideoID",
        "label": "Category", "start": "StartTime", "end": "EndTime", "media": {"video": "AVE/{VideoID}.mp4"},
    }  # fmt: skip
    return EventTable(EventLayout(**{**layout, **changed}), folder)


def test_rows_of_one_clip_are_one_sample_with_the_seconds_of_each_sense(tmp_path: Path) -> None:
    table = avvp(tmp_path)
    assert isinstance(table, SampleDataset) and len(table) == 2
    one = table[0]
    assert one.extra["seconds"]["audio"] == [
        ["Speech"], ["Speech"], ["Speech", "Blender"], *[["Speech"]] * 5, ["Blender"], ["Blender"]
    ]  # fmt: skip
    assert one.media["video"].source == tmp_path / "mp4/one_0_10.mp4"
    assert table.labels("audio") == ["Speech", "Frying_(food)"] and one.labels["audio"] == "Speech"


def test_several_events_may_stand_in_one_row_and_the_same_one_twice(tmp_path: Path) -> None:
    seconds = avvp(tmp_path)[0].extra["seconds"]["video"]
    assert seconds == [["Speech", "Cello"], *[["Cello"]] * 4, *[["Speech"]] * 4, []]


def test_a_sense_whose_table_lacks_the_clip_has_no_labels_of_it(tmp_path: Path) -> None:
    table = avvp(tmp_path)
    assert set(table[1].extra["seconds"]) == {"audio"} and table.labels("video")[1] is None


def test_an_event_of_no_length_covers_no_second(tmp_path: Path) -> None:
    assert avvp(tmp_path)[1].extra["seconds"]["audio"][9] == []


def test_every_row_may_be_a_clip_and_names_may_have_commas(tmp_path: Path) -> None:
    table = ave(tmp_path)
    assert [table[index].id for index in range(3)] == ["aaa/2", "bbb/3", "bbb/4"]
    assert table.labels("video") == table.labels("audio") == ["Church bell", "Violin, fiddle", "Bark"]
    assert [bool(each) for each in table[1].extra["seconds"]["audio"]] == [False] * 3 + [True] * 4 + [False] * 3


def test_classes_get_the_names_of_another_data_set_and_others_may_be_left_out(tmp_path: Path) -> None:
    names = {"Violin, fiddle": "Violin_fiddle", "Bark": "Dog"}
    assert ave(tmp_path, rename=names).labels("video") == ["Church bell", "Violin_fiddle", "Dog"]
    assert ave(tmp_path, rename=names, classes=["Dog", "Cat"]).labels("video") == ["Dog"]


def test_a_split_keeps_the_clips_that_its_list_names(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("filename\tevent_labels\ntwo_5_15\tSpeech\n")
    assert [avvp(tmp_path, listed="val.csv")[0].id] == ["two_5_15"] and len(avvp(tmp_path, listed="val.csv")) == 1
    with pytest.raises(ManifestError, match=r"test\.csv.*Put the table there"):
        avvp(tmp_path, listed="test.csv")
    (tmp_path / "other.csv").write_text("filename\nthree\n")
    with pytest.raises(ManifestError, match="hold no event"):
        avvp(tmp_path, listed="other.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\tb\n", "has 2 columns of 4"), ("x\tone\t3\tDog\n", "do not fit"), ("x\t1,2\t3\tDog\n", "do not fit"),
     ("x\tnan\t3\tDog\n", "do not fit"), ("", "no event"), ("x\t5\t3\tDog\n", "'Dog' lasts from 5 to 3"),
     ("x\t1,2\t3,4\tDog, \n", "class '' lasts from 2 to 4")],
)  # fmt: skip
def test_rows_that_do_not_fit_the_layout_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text(text)
    with pytest.raises(ManifestError, match=f"odd.csv.*{message}"):
        avvp(tmp_path, tables={"audio": "odd.csv"})


def test_a_missing_table_and_a_path_that_leads_outside_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        avvp(tmp_path, tables={"audio": "nowhere.csv"})
    with pytest.raises(UnsafeFileError):
        avvp(tmp_path, media={"audio": "../{filename}.wav"})[0]
    with pytest.raises(ConfigError, match="does not name columns"):
        avvp(tmp_path, media={"audio": "{file}.wav"})[0]


def test_a_layout_needs_its_columns() -> None:
    with pytest.raises(ConfigError, match=r"lacks the columns \['end'\]"):
        EventLayout(tables={"audio": "a"}, columns=("id", "label", "start"), delimiter="\t", clip="id", label="label",
                    start="start", end="end", media={})  # fmt: skip
