"""Publishing a stage: one commit with everything, then one tag, so that a reader sees the old state or the new one."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from polysense.errors import CheckpointError, HubError, PolysenseError
from polysense.hub.public import redacted, secrets_in
from polysense.hub.quick_start import published
from polysense.hub.records import read_metrics, read_stage, stages_in
from polysense.safety import check_checkpoint_folder
from polysense.storage import MANIFEST, check_intact

logger = logging.getLogger(__name__)

Content = bytes | Path

_CARD = "README.md"
_BRANCH = "main"
_TEXT = {".json", ".jsonl", ".md", ".txt", ".jinja", ".yaml", ".yml"}
_KINDS = _TEXT | {".safetensors"}
_VOCABULARY = {"tokenizer.json", "vocab.json", "merges.txt"}  # may hold words that look like paths
_KEPT = {".gitattributes"}  # the Hub's own file
_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # the Hub would make one without an owner, and then not find it by that name
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def push_stage(
    folder: str | Path, repo_id: str, *, tag: str | None = None, private: bool = False, api: HfApi | None = None
) -> CommitInfo:
    """Publish a stage's folder as one commit on `main` and one tag.

    The commit holds weights, config, processor and records, the card last, and removes what the folder no longer has;
    the tag follows only once the commit stands. Text files go out without local paths; a file that holds a secret is
    refused. Pushing the same stage again changes nothing; after a failure, push again.

    Args:
        folder: a stage's folder, as a recipe or `save_pretrained` wrote it, with `stage.json` and `README.md`.
        repo_id: `owner/name`; made when it does not exist.
        tag: by default "stage-k" of `stage.json`.
        private: nobody else may read the repository, whether it has to be made or is there.
        api: endpoint and token; by default those of the environment.

    Raises:
        CheckpointError: the folder is unsafe, incomplete or damaged, or holds a secret; nothing was sent.
        HubError: the Hub could not be reached or refused, or has a public repository of this name that was to be
            private; its `main` is as it was, or has the whole new commit.
    """
    folder, api = Path(folder), api or HfApi()
    stage = read_stage(folder)
    tag = tag or _tag(stage)
    if not _NAME.fullmatch(repo_id):
        raise HubError(f"{repo_id!r} cannot be a repository", fix="Give owner/name.")
    if not _TAG.fullmatch(tag):
        raise HubError(f"{tag!r} cannot be a tag", fix="Use letters, digits, dots, dashes and underscores.")
    contents = publishable(folder, repo_id, tag)
    with _hub_errors(repo_id, tag):
        # not False, which would make a public one where an organisation's are private
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise HubError("the repository is there already, and everyone can read it", where=repo_id,
                           fix="Make it private in its settings on the Hub, or push without --private.")  # fmt: skip
        refs = api.list_repo_refs(repo_id)
        if tag in {ref.name for ref in refs.tags}:
            return _published_before(api, repo_id, tag, contents)
        head = next((ref.target_commit for ref in refs.branches if ref.name == _BRANCH), None)
        message = f"Add {stage['name']}"
        present = {} if head is None else _files_at(api, repo_id, head)
        if head is not None and _same(present, contents):
            commit = _info(api, repo_id, head, message)  # an earlier push got as far as the commit
        else:
            stale = sorted(set(present) - set(contents) - _KEPT)
            changes = [CommitOperationDelete(path_in_repo=path) for path in stale]
            changes += [CommitOperationAdd(path_in_repo=path, path_or_fileobj=contents[path]) for path in contents]
            commit = api.create_commit(repo_id, changes, commit_message=message, parent_commit=head)
        api.create_tag(repo_id, tag=tag, tag_message=message, revision=commit.oid)
    logger.info("published %s as %s, tag %s", folder.name, repo_id, tag)
    return commit


def push_run(run: str | Path, repo_id: str, *, private: bool = False, api: HfApi | None = None) -> list[CommitInfo]:
    """Publish every stage of a run folder in order, each as one commit and one tag; see `push_stage`.

    Raises:
        CheckpointError: no stages, or several of one number, as a run of rivals has. Nothing is sent.
    """
    numbers = {each: int(read_stage(each)["stage"]) for each in stages_in(Path(run) / "stages")}
    folders = sorted(numbers, key=lambda each: numbers[each])
    for before, after in pairwise(folders):
        if numbers[before] == numbers[after]:
            raise CheckpointError(
                f"both {before.name} and {after.name} are stage {numbers[after]}", where=run,
                fix="Publish the stages of one method, each by its own folder.",
            )  # fmt: skip
    if not folders:
        raise CheckpointError("the run has no stages", where=run, fix="Train first, or give a stage's own folder.")
    for each in folders:
        publishable(each, repo_id)  # a fault of a later stage must show before the first is out
    return [push_stage(each, repo_id, private=private, api=api) for each in folders]


def publishable(folder: Path, repo_id: str, tag: str | None = None) -> dict[str, Content]:
    """What would be sent: path in the repository to content, the card last, its quick start loading `tag` of it.

    Raises:
        CheckpointError: the folder is unsafe, incomplete or damaged, or a text file in it holds a secret.
    """
    check_checkpoint_folder(folder)
    check_intact(folder)  # nobody could load what does not fit its checksums
    read_metrics(folder)
    tag = tag or _tag(read_stage(folder))
    contents: dict[str, Content] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in Path(name).parts)
        # checksums are of a folder as it lies here, before its texts are made public
        if path.is_file() and path.suffix in _KINDS and not hidden and path.name != MANIFEST:
            contents[name] = _public_text(path, repo_id, tag) if path.suffix in _TEXT else path
    if _CARD not in contents:
        raise CheckpointError(
            "the stage has no model card", where=folder / _CARD, fix="Write it: polysense card FOLDER."
        )
    contents[_CARD] = contents.pop(_CARD)
    return contents


def _tag(stage: Mapping[str, Any]) -> str:
    return f"stage-{stage['stage']}"


def _public_text(path: Path, repo_id: str, tag: str) -> bytes:
    """The text of a file as it may be published."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError("the file is no UTF-8 text", where=path, fix="Remove it or write it again.") from error
    for line, kind in secrets_in(text):
        raise CheckpointError(f"line {line} holds {kind}", where=path,
                              fix="Remove it, and revoke the secret if the file has left this machine.")  # fmt: skip
    if path.name in _VOCABULARY:
        return text.encode()
    public = redacted(text)
    return (published(public, repo_id, tag) if path.name == _CARD else public).encode()


def _published_before(api: HfApi, repo_id: str, tag: str, contents: dict[str, Content]) -> CommitInfo:
    if not _same(_files_at(api, repo_id, tag), contents):
        raise HubError(
            f"the tag {tag} already names other content", where=repo_id,
            fix="Published stages stay as they are: choose another tag, or delete this one on the Hub first.",
        )  # fmt: skip
    oid = api.repo_info(repo_id, revision=tag).sha
    logger.info("%s has this very content under the tag %s already", repo_id, tag)
    return _info(api, repo_id, oid, f"{tag} was published before")


def _info(api: HfApi, repo_id: str, oid: str, message: str) -> CommitInfo:
    return CommitInfo(f"{api.endpoint}/{repo_id}/commit/{oid}", message, "", oid, _endpoint=api.endpoint)


def _files_at(api: HfApi, repo_id: str, revision: str) -> dict[str, str]:
    """Path to content id of every file of a revision: SHA-256 of large files, git's own id of the others."""
    entries = api.list_repo_tree(repo_id, recursive=True, revision=revision)
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}


def _same(present: dict[str, str], contents: dict[str, Content]) -> bool:
    """Whether a revision holds exactly `contents`."""
    if set(present) - _KEPT != set(contents):
        return False
    return all(present[path] in _content_ids(content) for path, content in contents.items())


def _content_ids(content: Content) -> set[str]:
    """The ids under which the Hub may know a content."""
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    plain, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    for chunk in _chunks(content):
        plain.update(chunk)
        git.update(chunk)
    return {plain.hexdigest(), git.hexdigest()}


def _chunks(content: Content, size: int = 1 << 22) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(size):
            yield chunk


@contextmanager
def _hub_errors(repo_id: str, tag: str) -> Iterator[None]:
    """Turn whatever the client raises into a `HubError` without secrets."""
    try:
        yield
    except PolysenseError:
        raise
    # the client lets its HTTP library's errors through, and changed that library between versions: hence the clause
    except Exception as error:
        reason = redacted(" ".join(str(error).split())[:300]) or "no message"
        raise HubError(
            f"the Hub did not take {tag} ({type(error).__name__}: {reason})", where=repo_id,
            fix="Nobody sees half of it. Check network, name and token (`hf auth whoami`), then push again.",
        ) from error  # fmt: skip
