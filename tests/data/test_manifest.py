from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from polysense.data import Manifest, resolve_inside
from polysense.errors import ManifestError, MediaError, UnsafeFileError


def write(folder: Path, rows: list[Any], name: str = "train.jsonl") -> Path:
    (folder / "media").mkdir(exist_ok=True)
    for file in ("a.png", "b.png"):
        (folder / "media" / file).write_bytes(file.encode())
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(sample_id: str = "one", path: str = "media/a.png", **more: Any) -> dict[str, Any]:
    return {"id": sample_id, "media": {"image": path}, **more}


def test_a_row_becomes_a_sample_with_its_facts_and_further_keys(tmp_path: Path) -> None:
    depth = {"path": "media/b.png", "intrinsics": [1, 2, 3, 4], "baseline": 0.075}
    rows = [
        {
            "id": "one",
            "media": {"image": "media/a.png", "depth": depth},
            "labels": {"image": "dog"},
            "captions": {"image": ["a dog", "the dog"]},
            "kind": "still",
        }
    ]
    sample = Manifest(write(tmp_path, rows))[0]
    assert sample.ref("image").source == tmp_path.resolve() / "media/a.png"
    assert sample.ref("depth").facts == {"intrinsics": [1, 2, 3, 4], "baseline": 0.075}
    assert sample.labels == {"image": "dog"} and sample.captions == {"image": ("a dog", "the dog")}
    assert sample.extra == {"kind": "still"}


def test_rows_are_read_in_any_order_and_blank_lines_are_not_rows(tmp_path: Path) -> None:
    manifest = Manifest(write(tmp_path, [row("one"), "", row("two", labels={"image": "cat"}), "  "]))
    assert len(manifest) == 2
    assert [manifest[1].id, manifest[0].id, manifest[-1].id] == ["two", "one", "two"]
    assert manifest.labels("image") == [None, "cat"]
    with pytest.raises(IndexError):
        manifest[2]


def test_the_root_may_be_another_folder(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    path = write(tmp_path, [row()]).rename(tmp_path / "manifests/train.jsonl")
    Manifest(path, tmp_path).validate()
    with pytest.raises(ManifestError, match=r"line 1: media.image: .*does not exist"):
        Manifest(path).validate()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"id": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"media": {"image": "a"}}, "'id' is missing"),
        ({"id": 3, "media": {"image": "a"}}, "'id' is missing"),
        ({"id": "x"}, "'media' is missing"),
        ({"id": "x", "media": {}}, "'media' is missing"),
        ({"id": "x", "media": {"image": 3}}, r"media\.image has no path"),
        (row(labels={"image": 3}), "'labels'"),
        (row(captions={"image": "one"}), "'captions'"),
    ],
)
def test_a_malformed_row_is_named_with_its_line(tmp_path: Path, bad: Any, reason: str) -> None:
    manifest = Manifest(write(tmp_path, [row("fine"), "", bad]))
    assert manifest[0].id == "fine"
    with pytest.raises(ManifestError, match=rf"train\.jsonl, line 3: .*{reason}"):
        manifest[1]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a.png", "media/../../a.png", "C:\\a.png", "link/a.png", "a\0.png"]
)
def test_no_path_leads_outside_the_root(tmp_path: Path, path: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside/link").symlink_to(tmp_path / "outside")
    manifest = Manifest(write(tmp_path / "inside", [row(path=path)]))
    with pytest.raises(UnsafeFileError, match=r"line 1, media\.image: path .* leads outside"):
        manifest[0]


def test_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert resolve_inside(tmp_path.resolve(), "b/x", where="") == tmp_path.resolve() / "a/x"


def test_a_changed_file_is_refused_where_checksums_are_wanted(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"a.png").hexdigest()
    path = write(tmp_path, [{"id": "one", "media": {"image": {"path": "media/a.png", "sha256": sha256}}}])
    assert Manifest(path, check_sha256=True)[0].ref("image").facts == {}
    (tmp_path / "media/a.png").write_bytes(b"other")
    assert Manifest(path)[0].id == "one"
    with pytest.raises(MediaError, match=r"a\.png: .*SHA-256 differs"):
        Manifest(path, check_sha256=True)[0]
    (tmp_path / "media/a.png").unlink()
    with pytest.raises(MediaError, match="cannot be read"):
        Manifest(path, check_sha256=True)[0]


def test_validation_finds_two_rows_of_one_id(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="line 2: id 'one' was already used in line 1"):
        Manifest(write(tmp_path, [row(), row()])).validate()


def test_a_missing_or_empty_manifest_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        Manifest(tmp_path / "none.jsonl")
    with pytest.raises(ManifestError, match="no rows"):
        Manifest(write(tmp_path, [""]))
