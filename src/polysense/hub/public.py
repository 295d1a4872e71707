"""What may leave this machine: text without local paths, and nothing that looks like a secret."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import get_token

REMOVED = "[removed]"

_UNTIL = r"[^\s\"'`,:;)\]}<>|]*"
_ESCAPED = r"\\u[0-9a-fA-F]{4}"  # a letter in JSON
_PLAIN = rf"(?:[^\s\"'`,:;)\]}}<>|\\/]|{_ESCAPED})"
_SPACED = (
    rf"(?:[^\s\"'`,:;<>|\\/]|{_ESCAPED}| (?!-))"  # in a quoted path; an option begins an argument, no part of a name
)
_SLASHES = ((r"\\\\", r"\\{4}"), (r"\\(?!\\)", r"\\{2}"), ("/", "//"))  # doubled in JSON; before a share's server
_BEFORE = r"(?:(?<![\w.~/*)\]}!-])|(?<=\\[nrt])|(?<=\*)(?=[^\s*]*[^\s*/]\*))"  # of "*", emphasis and no glob
_ADDRESS = r"(?!file:)\b[A-Za-z][\w+.-]+://[^\s\"'`<>|,;)\]}]*"


def _paths(part: str) -> str:
    """What absolute paths look like whose names consist of `part`; of one name alone, nothing could be cut."""
    kinds = [rf"/{part}+(?:/+{part}+)+", rf"~\w*(?:/+{part}+)+"]
    for slash, share in _SLASHES:
        name = rf"{slash}{part}+"
        kinds.append(rf"[A-Za-z]:(?!\\[nrt][A-Z\\]){name}(?:{name})+")  # "Q:\nWhat" is a line break
        kinds.append(rf"{share}[\w.$-]{{2,}}(?:{name})+")
    return f"(?:{'|'.join(kinds)})"


_LOCAL_PATH = re.compile(
    rf"(?P<address>{_ADDRESS})|(?<=[\"'`]){_paths(_SPACED)}(?=/?\\*[\"'`])"
    rf"|{_BEFORE}(?:file://[\w.-]*/?(?=/|[A-Za-z]:))?{_paths(_PLAIN)}"
)
_SECRETS = {
    "a Hugging Face token": r"\b(?:hf_|api_org_)[A-Za-z0-9]{16,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",
    "an API key": r"\b(?:sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,})",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _SECRETS.items()}
_SECRET_NAME = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIALS?)(?:_|$)", re.I)
_MIN_SECRET = 8  # shorter values of such variables ("1", "true") are no secrets


def redacted(text: str) -> str:
    """`text` with local paths cut to their last part and secrets replaced by `[removed]`."""
    return without_local_paths(without_secrets(text))


def without_secrets(text: str) -> str:
    """`text` with everything that looks like a secret, or is one of this process, replaced by `[removed]`."""
    written = {each for secret in _known_secrets().values() for each in _written(secret)}
    for each in sorted(written, key=len, reverse=True):  # one may begin with another
        text = text.replace(each, REMOVED)
    for pattern in _PATTERNS.values():
        text = pattern.sub(REMOVED, text)
    return text


def without_local_paths(text: str) -> str:
    """`text` with every absolute path, of this machine or of another, cut to `.../name`; addresses stay whole."""
    if (here := str(Path.cwd())) != "/":
        text = re.sub(rf"(?<![\w.-]){re.escape(here)}(?![\w.-])", ".", text)
    for folder in {str(Path.home()), tempfile.gettempdir()} - {"/"}:
        text = re.sub(rf"(?<![\w.-]){re.escape(folder)}/{_UNTIL}", lambda match: _shortened(match.group()), text)
    return _LOCAL_PATH.sub(lambda match: match["address"] or _shortened(match.group()), text)


def secrets_in(text: str) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and kind of everything in `text` that looks like a secret; never the secret itself."""
    known = _known_secrets()
    for number, line in enumerate(text.splitlines(), start=1):
        yield from ((number, kind) for kind, pattern in _PATTERNS.items() if pattern.search(line))
        yield from ((number, f"the value of {name}") for name, secret in known.items()
                    if any(each in line for each in _written(secret)))  # fmt: skip


def _written(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, and as JSON has its quotation marks, line breaks and letters."""
    return {secret, *(json.dumps(secret, ensure_ascii=plain)[1:-1] for plain in (True, False))}


def _known_secrets() -> dict[str, str]:
    """Secrets that this process holds, by the name under which an error may speak of them."""
    found = {
        name: value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and not name.endswith(("_PATH", "_FILE", "_DIR")) and len(value) >= _MIN_SECRET
    }
    token = get_token()
    return found | ({"the Hub token of this machine": token} if token and len(token) >= _MIN_SECRET else {})


def _shortened(path: str) -> str:
    name = re.split(rf"/|(?!{_ESCAPED})\\", path.rstrip("\\/"))[-1]
    return f".../{name}"
