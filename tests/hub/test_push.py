"""A stage is published as one commit and one tag, or not at all; the real client talks to a Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import CheckpointError, HubError, UnsafeFileError
from polysense.hub import push_run, push_stage
from polysense.hub.push import publishable
from polysense.storage import write_manifest
from tests.hub.child import CANARIES
from tests.hub.stages import stage_record, write_stage

_FILES = {"README.md", "config.json", "metrics.json", "model.safetensors", "processor_config.json", "stage.json",
          "tokenizer.json", "tokenizer_config.json"}  # fmt: skip


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the child process found, and everything it printed."""
    folder = tmp_path_factory.mktemp("hub")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.hub.child", str(folder)], capture_output=True, text=True, timeout=300, cwd=root,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


@pytest.fixture(scope="module")
def outcome(child: tuple[dict[str, Any], str]) -> dict[str, Any]:
    return child[0]


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    return write_stage(tmp_path / "stage-1-depth", number=1)


def test_a_stage_is_one_commit_and_one_tag(outcome: dict[str, Any]) -> None:
    published = outcome["published"]
    assert published["commits"] == 3, "the Hub's own first commit and one per stage"
    assert set(published["refs"]) == {"main", "stage-1", "stage-2"} and published["main_is_second"]
    requests = [request for request in published["requests"] if "/commit/" in request or "/tag/" in request]
    assert ["commit" in request for request in requests] == [True, False], "the tag follows the commit"


def test_a_stage_brings_all_its_files_and_removes_those_of_the_stage_before(outcome: dict[str, Any]) -> None:
    refs = outcome["published"]["refs"]
    assert set(refs["stage-1"]) == _FILES | {".gitattributes", "extra.txt"}
    assert set(refs["stage-2"]) == _FILES | {".gitattributes"}
    assert outcome["published"]["weights_as_on_disk"] == [True, True]


def test_pushing_again_changes_nothing(outcome: dict[str, Any]) -> None:
    assert outcome["repeated"] == {"new_commits": 0, "same": True}


def test_every_revision_loads_as_it_was_pushed(outcome: dict[str, Any]) -> None:
    loaded = outcome["loaded"]
    assert loaded["by_class"] == loaded["by_auto"] == {"stage-1": True, "stage-2": True}
    assert loaded["different"] and loaded["snapshot_weights"]
    assert loaded["processors"] == [["UniAlignProcessor", ["image", "text", "depth"]]] * 2


def test_the_cards_quick_start_runs(outcome: dict[str, Any]) -> None:
    assert 'from_pretrained("me/model", revision="stage-1")' in outcome["published"]["card"]
    assert outcome["quick_start"]["shape"] == [1, 16]
    assert outcome["quick_start"]["norm"] == pytest.approx(1.0, abs=1e-5)


def test_the_quick_start_of_a_mera_card_asks_about_a_file(outcome: dict[str, Any]) -> None:
    found = outcome["quick_start_of_mera"]
    assert found["kind"] == "MeraForConditionalGeneration" and isinstance(found["answer"], str)
    assert found["tokens"][0] == 1 and found["tokens"][1] > 16, "the file alone takes sixteen tokens of the prompt"


def test_a_stage_of_comet_is_published_with_the_nets_that_read_its_files(outcome: dict[str, Any]) -> None:
    found = outcome["comet"]
    files = ("config.json", "model.safetensors")
    nets = {f"nets/ear/{name}" for name in (*files, "stage.json")}
    nets |= {f"nets/words/{name}" for name in (*files, "tokenizer.json", "tokenizer_config.json")}
    own = {"README.md", "config.json", "extractors.json", "metrics.json", "model.safetensors", "stage.json"}
    assert set(found["refs"]["stage-2"]) == set(found["refs"]["main"]) == {*own, *nets, ".gitattributes"}
    assert found["commits"] == 2, "the Hub's own first commit and the stage's"
    assert "/home" not in found["net"] and found["loads"] == [True, True]


def test_the_card_of_a_stage_of_comet_tells_its_codebook(outcome: dict[str, Any]) -> None:
    card = outcome["comet"]["card"]
    assert "16 codes." in card and "| 1 | 12 |\n| 2 | 4 |" in card
    assert "| audio | 50.0 | 1.8 |" in card and "25.0 % of the codes are used by none" in card
    assert 'CometReader.from_pretrained("me/comet", revision="stage-2")' in card


def test_a_published_stage_of_comet_gives_the_codes_of_its_folder(outcome: dict[str, Any]) -> None:
    codes = outcome["comet"]["codes"]
    assert len(codes["folder"]) == 10 and all(0 <= code < 16 for code in codes["folder"])
    assert codes["card"] == codes["folder"] == codes["command"][0] and len(codes["command"][1]) == 3


def test_a_cut_connection_never_shows_half_a_stage(outcome: dict[str, Any]) -> None:
    cuts = outcome["cuts"]
    assert len(cuts) == 16 and sum(bool(cut["message"]) for cut in cuts) >= 10
    for cut in cuts:
        assert "half" not in cut["seen"].values(), cut
        assert cut["seen"]["stage-1"] == "stage-1", cut
        assert cut["seen"].get("stage-2", "stage-2") == "stage-2", cut
        assert cut["message"].startswith("HubError: me/cut") or not cut["message"], cut


def test_pushing_again_after_a_cut_completes_the_stage_with_one_commit(outcome: dict[str, Any]) -> None:
    for cut in outcome["cuts"]:
        assert cut["again"] == "", cut
        assert cut["at_last"] == {"main": "stage-2", "stage-1": "stage-1", "stage-2": "stage-2"}, cut
        assert cut["commits"] == 3, cut


def test_a_commit_that_somebody_else_overtook_is_refused(outcome: dict[str, Any]) -> None:
    assert outcome["overtaken"]["message"].startswith("HubError: me/busy: the Hub did not take stage-2")
    assert outcome["overtaken"]["refs"]["main"] == ["theirs.txt"] and "stage-2" not in outcome["overtaken"]["refs"]


def test_a_published_tag_keeps_its_meaning(outcome: dict[str, Any]) -> None:
    assert "the tag stage-1 already names other content" in outcome["changed"]


def test_a_refusal_of_the_server_is_one_clear_error(outcome: dict[str, Any]) -> None:
    for message in outcome["refused"]["messages"].values():
        assert message.startswith("HubError: me/forbidden: the Hub did not take stage-2") and "push again" in message
    assert outcome["refused"]["seen"] == []


def test_what_is_to_be_private_never_goes_to_a_repository_that_everyone_can_read(outcome: dict[str, Any]) -> None:
    found = outcome["private"]
    assert found["private"] and found["commits"] == 2, "the Hub's own first commit and the stage's"
    assert found["message"].startswith("HubError: me/open: the repository is there already, and everyone can read it")
    assert found["open"] == {"main": ["theirs.txt"]}
    assert found["default"] == [False, True], "without --private, what the owner has chosen counts"


def test_a_run_is_published_stage_by_stage(outcome: dict[str, Any]) -> None:
    assert outcome["run"] == {"tags": ["stage-1", "stage-2"], "in_order": True}


def test_no_secret_reaches_logs_errors_cards_or_files(child: tuple[dict[str, Any], str]) -> None:
    outcome, printed = child
    everything = printed + json.dumps(outcome)
    for canary in CANARIES.values():
        assert canary not in everything
    assert "[removed]" in outcome["refused"]["messages"]["418"], "the server repeated the token; the error must not"


@pytest.mark.parametrize("text", ["hf_" + "a1B2" * 8, "gho_" + "a" * 36, "https://me:secret@host/x"])
def test_a_secret_in_a_text_file_is_refused_without_being_shown(stage: Path, text: str) -> None:
    (stage / "notes.txt").write_text(f"first line\nuse {text} here\n")
    with pytest.raises(CheckpointError, match=r"notes\.txt: line 2 holds") as caught:
        publishable(stage, "me/x")
    assert text not in str(caught.value)


def test_the_value_of_a_secret_variable_is_refused(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "correct-horse")
    record = json.loads((stage / "stage.json").read_text())
    (stage / "stage.json").write_text(json.dumps({**record, "command": "train --password correct-horse"}))
    with pytest.raises(CheckpointError, match="the value of MY_PASSWORD") as caught:
        publishable(stage, "me/x")
    assert "correct-horse" not in str(caught.value)


def test_local_paths_are_cut_in_what_goes_out_and_kept_on_disk(stage: Path) -> None:
    record = json.loads((stage / "stage.json").read_text())
    (stage / "stage.json").write_text(json.dumps({**record, "command": "polysense train --output /home/me/runs/x"}))
    sent = publishable(stage, "me/x")["stage.json"]
    assert isinstance(sent, bytes) and b"/home" not in sent and b"--output .../x" in sent
    assert "/home/me/runs/x" in (stage / "stage.json").read_text()


def test_checksums_hidden_files_and_foreign_files_stay_at_home(stage: Path) -> None:
    (stage / "nets").mkdir()
    for name in (".lock", "notes.docx", "nets/MANIFEST.json"):
        (stage / name).write_text("{}")
    write_manifest(stage)
    assert set(publishable(stage, "me/x")) == _FILES


def test_a_stage_that_was_damaged_since_it_was_written_is_refused(stage: Path) -> None:
    write_manifest(stage)
    (stage / "README.md").write_text("a card may be edited\n")
    publishable(stage, "me/x")
    weights = bytearray((stage / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (stage / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        push_stage(stage, "me/x")


def test_the_card_goes_last(stage: Path) -> None:
    assert list(publishable(stage, "me/x"))[-1] == "README.md"


def test_a_stage_without_a_card_is_refused(stage: Path) -> None:
    (stage / "README.md").unlink()
    with pytest.raises(CheckpointError, match="no model card"):
        push_stage(stage, "me/x")


def test_a_pickle_offered_as_weights_is_refused(stage: Path) -> None:
    (stage / "model.safetensors").write_bytes(b"\x80\x04" + b"0" * 64)
    with pytest.raises(UnsafeFileError, match="pickle"):
        push_stage(stage, "me/x")


def test_an_impossible_tag_is_refused(stage: Path) -> None:
    with pytest.raises(HubError, match="cannot be a tag"):
        push_stage(stage, "me/x", tag="a tag")


@pytest.mark.parametrize("name", ["model", "me/", "me//model", "a/b/c", "https://huggingface.co/me/x"])
def test_a_repository_without_owner_or_name_is_refused_before_anything_is_sent(stage: Path, name: str) -> None:
    with pytest.raises(HubError, match=r"cannot be a repository\. Give owner/name"):
        push_stage(stage, name)


def test_a_run_of_rivals_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    for name, number in (("stage-1-image", 1), ("stage-2-audio-a", 2), ("stage-2-audio-b", 2)):
        folder = tmp_path / "stages" / name
        folder.mkdir(parents=True)
        record = {**stage_record(), "stage": number, "name": name}
        (folder / "stage.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"stage-2-audio-[ab] and stage-2-audio-[ab] are stage 2"):
        push_run(tmp_path, "me/x")


def test_a_run_without_finished_stages_is_refused(tmp_path: Path) -> None:
    (unfinished := tmp_path / "stages" / ".stage-1-image.tmp").mkdir(parents=True)
    (unfinished / "stage.json").write_text(json.dumps(stage_record(stage=1)))
    with pytest.raises(CheckpointError, match="no stages"):
        push_run(tmp_path, "me/x")
