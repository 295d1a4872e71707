"""Everything that needs the real Hub client, in its own process: the client reads HF_ENDPOINT when it is imported.

Run as `python -m tests.hub.child FOLDER`; prints one JSON object, which `test_push.py` judges.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hub.loopback import Hub, Repository, Snapshot, loopback_hub

CANARIES = {"HF_TOKEN": "hf_canaryCanaryCanaryCanary", "WANDB_API_KEY": "wandb-canary-0001"}
_REQUESTS = 8  # that one push takes


def main(folder: Path) -> dict[str, Any]:
    with loopback_hub() as hub:
        os.environ |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "cache"), **CANARIES}
        logging.basicConfig(level=logging.INFO)
        from tests.hub.stages import write_comet_stage, write_mera_stage, write_stage

        first = write_stage(folder / "run" / "stages" / "stage-1-depth", number=1)
        second = write_stage(folder / "run" / "stages" / "stage-2-depth", number=2)
        (first / "extra.txt").write_text("only the first stage has this file\n")
        answering = write_mera_stage(folder / "mera" / "stage-2-depth")
        coding = write_comet_stage(folder / "comet" / "stage-2-audio-text", folder / "nets")
        return {
            "published": published(hub, first, second),
            "repeated": repeated(hub, first, second),
            "loaded": loaded(first, second),
            "quick_start": quick_start(hub, folder),
            "quick_start_of_mera": quick_start_of_mera(hub, folder, answering),
            "comet": codes_of_comet(hub, folder, coding),
            "cuts": cuts(hub, first, second),
            "overtaken": overtaken(hub, first, second),
            "changed": changed(first),
            "refused": refused(hub, second),
            "private": private(hub, first),
            "run": whole_run(hub, folder / "run"),
        }


def failure(call: Callable[[], object]) -> str:
    """Type and message of what a call raises; empty when it succeeds."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def names(files: Snapshot) -> list[str]:
    return sorted(files)


def published(hub: Hub, first: Path, second: Path) -> dict[str, Any]:
    from polysense.hub import push_stage

    push_stage(first, "me/model")
    requests = list(hub.requests)
    push_stage(second, "me/model")
    seen = hub.visible("me/model")
    texts = {name: data.decode() for name, data in seen["stage-1"].items() if name.endswith((".json", ".md"))}
    return {
        "refs": {ref: names(files) for ref, files in seen.items()},
        "main_is_second": seen["main"] == seen["stage-2"],
        "weights_as_on_disk": [
            seen[ref]["model.safetensors"] == (stage / "model.safetensors").read_bytes()
            for ref, stage in (("stage-1", first), ("stage-2", second))
        ],
        "commits": len(hub.repositories["me/model"].commits),
        "requests": requests,
        "card": texts["README.md"],
        "texts": texts,
    }


def repeated(hub: Hub, first: Path, second: Path) -> dict[str, Any]:
    from polysense.hub import push_stage

    before = len(hub.repositories["me/model"].commits)
    oids = [push_stage(stage, "me/model").oid for stage in (first, second)]
    repository = hub.repositories["me/model"]
    return {
        "new_commits": len(repository.commits) - before,
        "same": oids == [repository.tags["stage-1"], repository.tags["stage-2"]],
    }


def loaded(first: Path, second: Path) -> dict[str, Any]:
    from huggingface_hub import snapshot_download
    from transformers import AutoModel, AutoProcessor

    from polysense import UniAlignModel

    def weights(name: str | Path, kind: Any, **arguments: str) -> dict[str, Any]:
        return dict(kind.from_pretrained(name, **arguments).state_dict())

    def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
        return one.keys() == other.keys() and all(bool((one[key] == other[key]).all()) for key in one)

    here = {"stage-1": weights(first, UniAlignModel), "stage-2": weights(second, UniAlignModel)}
    processors = [AutoProcessor.from_pretrained("me/model", revision=revision) for revision in here]
    snapshot = Path(snapshot_download("me/model", revision="stage-1"))
    return {
        "by_class": {tag: equal(weights("me/model", UniAlignModel, revision=tag), own) for tag, own in here.items()},
        "by_auto": {tag: equal(weights("me/model", AutoModel, revision=tag), own) for tag, own in here.items()},
        "different": not equal(here["stage-1"], here["stage-2"]),
        "processors": [[type(each).__name__, list(each.modalities)] for each in processors],
        "snapshot_weights": (snapshot / "model.safetensors").read_bytes()
        == (first / "model.safetensors").read_bytes(),
    }


def private(hub: Hub, stage: Path) -> dict[str, Any]:
    """A stage is meant for its owner's eyes: into a repository that has to be made, twice, and into a public one."""
    from polysense.hub import push_stage

    for _ in range(2):
        push_stage(stage, "me/secret", private=True)
    hub.repositories["me/open"] = Repository()
    hub.repositories["me/open"].commit({"theirs.txt": b"hello"})
    message = failure(lambda: push_stage(stage, "me/open", private=True))
    hub.private_by_default = True
    push_stage(stage, "lab/ours")
    hub.private_by_default = False
    kept = hub.repositories["me/secret"]
    return {"private": kept.private, "commits": len(kept.commits), "message": message,
            "default": [hub.repositories[name].private for name in ("me/model", "lab/ours")],
            "open": {ref: names(files) for ref, files in hub.visible("me/open").items()}}  # fmt: skip


def quick_start(hub: Hub, folder: Path) -> dict[str, Any]:
    names = run_card(hub, folder, "me/model")
    return {"shape": list(names["embedding"].shape), "norm": float(names["embedding"].norm())}


def quick_start_of_mera(hub: Hub, folder: Path, stage: Path) -> dict[str, Any]:
    from polysense.hub import push_stage

    push_stage(stage, "me/mera")
    names = run_card(hub, folder, "me/mera")
    return {"answer": names["answer"], "tokens": list(names["output"].shape), "kind": type(names["model"]).__name__}


def codes_of_comet(hub: Hub, folder: Path, stage: Path) -> dict[str, Any]:
    """A stage with its nets: what is published, what loads, and the codes of a sound by card and command line."""
    from transformers import AutoModel

    from polysense import CometModel
    from polysense.cli import main as polysense
    from polysense.hub import push_stage
    from polysense.recipes.comet_codes import CometReader

    push_stage(stage, "me/comet")
    seen, own = hub.visible("me/comet"), CometModel.from_pretrained(stage).state_dict()
    loaded = [kind.from_pretrained("me/comet", revision="stage-2") for kind in (CometModel, AutoModel)]
    by_card = run_card(hub, folder, "me/comet")["codes"]
    here = CometReader.from_pretrained(stage).timeline("audio", folder / "sound.flac")
    words = ["codes", str(folder / "sound.flac"), "--text", "a red ball", "--model", "me/comet"]
    code = polysense([*words, "--revision", "stage-2", "--output", str(folder / "codes.json")])
    items = json.loads((folder / "codes.json").read_text())["items"] if code == 0 else []
    return {
        "refs": {ref: names(files) for ref, files in seen.items()},
        "commits": len(hub.repositories["me/comet"].commits),
        "card": seen["stage-2"]["README.md"].decode(),
        "net": seen["stage-2"]["nets/ear/stage.json"].decode(),
        "loads": [all(bool((own[key] == each).all()) for key, each in model.state_dict().items()) for model in loaded],
        "codes": {
            "card": by_card,
            "folder": here,
            "command": [each["codes"] for each in items],
        },
    }


def run_card(hub: Hub, folder: Path, repo: str) -> dict[str, Any]:
    """Run the Python of a published card as it stands, beside files of the names that it may give."""
    import numpy as np
    import soundfile
    from PIL import Image

    wave = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    soundfile.write(folder / "sound.flac", wave, 16_000)
    Image.fromarray(np.full((32, 32), 1500, dtype=np.uint16)).save(folder / "depth.png")
    code = re.search(r"```python\n(.*?)```", hub.visible(repo)["stage-2"]["README.md"].decode(), re.S)
    names: dict[str, Any] = {}
    here = Path.cwd()
    os.chdir(folder)
    try:
        exec(code.group(1) if code else "", names)
    finally:
        os.chdir(here)
    return names


def cuts(hub: Hub, first: Path, second: Path) -> list[dict[str, Any]]:
    """Lose the connection from every request on, before and after its effect; then push again."""
    import huggingface_hub.utils._http as client

    from polysense.hub import push_stage

    client.time.sleep = lambda seconds: None  # the client's pauses between its attempts
    reference = hub.visible("me/model")
    outcomes = []
    for request in range(1, _REQUESTS + 1):
        for after_effect in (False, True):
            repo = f"me/cut-{request}-{after_effect}"
            push_stage(first, repo)
            hub.cut_at, hub.cut_after_effect = request, after_effect
            message = failure(lambda repo=repo: push_stage(second, repo))  # type: ignore[misc]
            hub.cut_at = None
            seen = hub.visible(repo)
            whole = {ref: _state(files, reference, repo) for ref, files in seen.items()}
            again = failure(lambda repo=repo: push_stage(second, repo))  # type: ignore[misc]
            at_last = {ref: _state(files, reference, repo) for ref, files in hub.visible(repo).items()}
            outcomes.append({
                "request": request, "after_effect": after_effect, "message": message, "seen": whole, "again": again,
                "at_last": at_last, "commits": len(hub.repositories[repo].commits),
            })  # fmt: skip
    return outcomes


def _state(files: Snapshot, reference: dict[str, Snapshot], repo: str) -> str:
    """Which complete stage a snapshot is; "half" when it is none."""
    same = {
        name: {path: data.replace(b"me/model", repo.encode()) for path, data in content.items()} == files
        for name, content in reference.items()
    }
    return next((name for name in ("stage-1", "stage-2") if same[name]), "half")


def overtaken(hub: Hub, first: Path, second: Path) -> dict[str, Any]:
    """Somebody else commits between our look at the repository and our commit."""
    from huggingface_hub import HfApi

    from polysense.hub import push_stage

    class Slow(HfApi):
        def create_commit(self, *args: Any, **kwargs: Any) -> Any:
            hub.repositories["me/busy"].commit({"theirs.txt": b"1"})
            return super().create_commit(*args, **kwargs)

    push_stage(first, "me/busy")
    message = failure(lambda: push_stage(second, "me/busy", api=Slow()))
    return {"message": message, "refs": {ref: names(files) for ref, files in hub.visible("me/busy").items()}}


def changed(first: Path) -> str:
    """A tag that is out must not come to mean something else."""
    from polysense.hub import push_stage

    card = first / "README.md"
    before = card.read_text()
    card.write_text(before + "\nAnother sentence.\n")
    try:
        return failure(lambda: push_stage(first, "me/model"))
    finally:
        card.write_text(before)


def refused(hub: Hub, stage: Path) -> dict[str, Any]:
    """The server says no (and repeats our token while it does)."""
    from polysense.hub import push_stage

    messages = {}
    for hub.status in (401, 403, 418):
        messages[str(hub.status)] = failure(lambda: push_stage(stage, "me/forbidden"))
    hub.status = None
    return {"messages": messages, "seen": list(hub.visible("me/forbidden"))}


def whole_run(hub: Hub, run: Path) -> dict[str, Any]:
    from polysense.hub import push_run

    oids = [commit.oid for commit in push_run(run, "me/run")]
    repository = hub.repositories["me/run"]
    return {"tags": list(repository.tags), "in_order": oids == list(repository.tags.values())}


if __name__ == "__main__":
    started = time.monotonic()
    outcome = main(Path(sys.argv[1]))
    sys.stdout.write(json.dumps({**outcome, "seconds": time.monotonic() - started}))
