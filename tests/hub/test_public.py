"""What may leave the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polysense.hub.public import redacted, secrets_in, without_local_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("polysense train --output /home/ann/runs/x", "polysense train --output .../x"),
        ('{"path": "/root/a b"}', '{"path": ".../a b"}'),
        ("file:///Users/ann/model", ".../model"),
        (r"C:\Users\ann\model", ".../model"),
        ("PATH=/tmp/a:/tmp/b", "PATH=.../a:.../b"),
        ("~/models/clip", ".../clip"),
        ('"/Volumes/My Disk/x" and /raid/y', '".../x" and .../y'),
        (r'{"text": "a\"/raid/a b/x\"\n/nas/c"}', r'{"text": "a\".../x\"\n.../c"}'),
        ('"/opt/x/python -m polysense --output runs/y"', '".../python -m polysense --output runs/y"'),
        (r'"\\\\nas\\share\\x" and \\nas\share\y', r'".../x" and .../y'),
        ("file:///D:/ann/model and D:/ann/model/", ".../model and .../model/"),
        ("**/raid/ann/x** [here](//nas/share/x.md)", "**.../x** [here](.../x.md)"),
    ],
)
def test_local_paths_are_cut_to_their_last_part(text: str, expected: str) -> None:
    assert without_local_paths(text) == expected


PREFIXES = (
    "/raid",
    "/nas/team",
    "/Volumes/Disk",
    "/scratch2/a-b",
    "C:",
    "d:/x",
    r"E:\data",
    r"\\nas\share",
    "~",
    "//nas/s",
)
PLACES = (
    "{}",
    "at {}",
    '"{}"',
    "({})",
    "`{}`",
    "--model={}",
    "[x]({})",
    "| {} |",
    "**{}**",
    "{}: damaged",
    "a\n{}\nb",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("place", PLACES)
def test_no_absolute_path_leaves_wherever_it_stands(prefix: str, place: str) -> None:
    names = [f"n{number}-é" for number in range(3)]
    path = ("\\" if "\\" in prefix else "/").join([prefix, *names])
    for text, left in ((path, names[-1]), (json.dumps(path)[1:-1], json.dumps(names[-1])[1:-1])):
        assert without_local_paths(place.format(text)) == place.format(f".../{left}")
    public = json.loads(without_local_paths(json.dumps({"said": place.format(path)})))
    assert public == {"said": place.format(f".../{names[-1]}")}


@pytest.mark.parametrize(
    "text",
    ["https://example.org/home/page?a=1/2", "s3://bucket/a/b", "hf://datasets/org/name", "127.0.0.1:8000/v1/chat",
     "org/name", "runs/data/x and/or 3/4", "mean / std", "../up/and/down", "./x/y", "train/**/a/*.png", "**/a/*.png",
     "</td></tr><br/>", "[/INST]", "#!/usr/bin/env python", "{root}/a/b", "f(x)/g/h", r"\alpha\beta",
     r"\\alpha\\beta\\c", r"Q:\nWhat\nA:", r"\(\d+/\d+\)", "/name", "10:30/11:30"],
)  # fmt: skip
def test_what_is_no_path_of_a_machine_stays(text: str) -> None:
    for quoted in (text, f'"{text}"', f"`{text}`", f"| {text} |"):
        assert without_local_paths(quoted) == quoted


def test_the_working_folder_becomes_a_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert without_local_paths(f"read {tmp_path}/runs/x") == "read ./runs/x"


def test_secrets_are_found_by_line_and_kind() -> None:
    text = "fine\ntoken hf_" + "x" * 30 + "\n-----BEGIN RSA PRIVATE KEY-----"
    assert list(secrets_in(text)) == [(2, "a Hugging Face token"), (3, "a private key")]


def test_ordinary_text_holds_no_secret() -> None:
    assert not list(secrets_in("commit 0123456789abcdef0123456789abcdef01234567, sk-learn, hf_hub, tokens: 77"))


def test_secret_variables_are_known_by_name_and_switches_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "k-12345678")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-or-true")
    monkeypatch.setenv("USE_TOKEN", "1")
    assert redacted("k-12345678 false-or-true 1") == "[removed] false-or-true 1"


@pytest.mark.parametrize("secret", ['say "friend" \\o/', "pässword-ü", "first line\nsecond line"])
def test_a_secret_is_known_in_json_too(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_PASSWORD", secret)
    for plain in (True, False):
        text = json.dumps({"a": [secret]}, ensure_ascii=plain)
        assert list(secrets_in(text)) == [(1, "the value of SERVICE_PASSWORD")]
        assert redacted(text) == '{"a": ["[removed]"]}'


def test_a_secret_that_begins_with_another_is_removed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "k-12345678")
    monkeypatch.setenv("B_TOKEN", "k-12345678-and-more")
    assert redacted("k-12345678-and-more k-12345678") == "[removed] [removed]"


@pytest.mark.parametrize("address", ["redis://:opensesame@host/0", "HTTPS://Ann:opensesame@host/x.git"])
def test_a_password_in_an_address_is_found_whatever_stands_around_it(address: str) -> None:
    assert list(secrets_in(address)) == [(1, "a password in an address")]
    assert "opensesame" not in redacted(address)
