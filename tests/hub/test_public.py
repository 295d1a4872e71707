"""What may leave the machine."""

from __future__ import annotations

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
        ("https://example.org/home/page", "https://example.org/home/page"),
        ("runs/data/x and/or 3/4", "runs/data/x and/or 3/4"),
    ],
)
def test_local_paths_are_cut_to_their_last_part(text: str, expected: str) -> None:
    assert without_local_paths(text) == expected


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
