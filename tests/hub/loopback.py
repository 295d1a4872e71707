"""A Hub on the loopback interface: the part of its protocol that publishing and loading a model need.

Commits are whole snapshots, applied under one lock; connections can be cut at a chosen request, before the server has
done anything or after it has done everything and only the answer is lost.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Snapshot = dict[str, bytes]


@dataclass
class Repository:
    """All commits of one repository, and the names that point at them."""

    commits: dict[str, Snapshot] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: Snapshot) -> str:
        content = repr(
            (len(self.commits), sorted((path, hashlib.sha1(data).digest()) for path, data in files.items()))
        )
        oid = hashlib.sha1(content.encode()).hexdigest()
        self.commits[oid] = files
        self.branches["main"] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        name = unquote(revision)
        oid = self.branches.get(name) or self.tags.get(name) or name
        return oid if oid in self.commits else None


@dataclass
class Hub:
    """The server's state, which tests read and set."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cut_at: int | None = None  # the request, counted from 1 since it was set, at which the connection is cut
    cut_after_effect: bool = False
    status: int | None = None  # answer every request with this status
    private_by_default: bool = False  # what an organisation may have chosen for its repositories
    address: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def is_private(self, asked: dict[str, Any]) -> bool:
        """Whether a new repository is, which clients of different versions ask for differently."""
        chosen = asked.get("visibility") or {None: None, True: "private", False: "public"}[asked.get("private")]
        return self.private_by_default if chosen is None else chosen == "private"

    def visible(self, repo: str) -> dict[str, Snapshot]:
        """What readers can get now: name of every branch and tag, and its files."""
        with self.lock:
            known = self.repositories.get(repo, Repository())
            return {name: known.commits[oid] for name, oid in {**known.branches, **known.tags}.items()}


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {url.path}")
            cut = self._is_cut()
            if cut and not self.hub.cut_after_effect:
                return self._drop()
            if self.hub.status is not None:
                status, value = self.hub.status, {"error": f"refused: {self.headers.get('Authorization')}"}
                return self._answer(status, json.dumps(value).encode())
            answer = self._route(url.path, parse_qs(url.query))
            if cut:
                return self._drop()
        self._answer(*answer)

    def _is_cut(self) -> bool:
        if self.hub.cut_at is None:
            return False
        self.hub.cut_at -= 1
        return self.hub.cut_at <= 0

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _route(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes, dict[str, str]]:
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create()
        for pattern, handle in _ROUTES.items():
            if match := re.fullmatch(pattern, path):
                repository = self.hub.repositories.get(match["repo"])
                if repository is None:
                    return _missing("RepoNotFound")
                return handle(self, repository, match)
        return _missing("EntryNotFound")

    def _create(self) -> tuple[int, bytes, dict[str, str]]:
        asked = json.loads(self.body)
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        if name in self.hub.repositories:
            return _json({"error": "exists", "url": f"{self.hub.address}/{name}"}, 409)
        self.hub.repositories[name] = Repository(private=self.hub.is_private(asked))
        self.hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return _json({"url": f"{self.hub.address}/{name}", "name": name, "id": name})

    def _refs(self, repo: Repository, match: re.Match[str]) -> tuple[int, bytes, dict[str, str]]:
        def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": oid} for n, oid in names.items()]

        return _json({"branches": listed("heads", repo.branches), "tags": listed("tags", repo.tags), "converts": []})

    def _tree(self, repo: Repository, match: re.Match[str]) -> tuple[int, bytes, dict[str, str]]:
        oid = repo.resolve(match["revision"])
        if oid is None:
            return _missing("RevisionNotFound")
        return _json([
            {"type": "file", "path": path, "size": len(data), "oid": git_id(data)}
            for path, data in sorted(repo.commits[oid].items())
        ])  # fmt: skip

    def _info(self, repo: Repository, match: re.Match[str]) -> tuple[int, bytes, dict[str, str]]:
        oid = repo.resolve(match["revision"] or "main")
        if oid is None:
            return _missing("RevisionNotFound")
        siblings = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        return _json({"_id": oid, "id": match["repo"], "modelId": match["repo"], "sha": oid, "private": repo.private,
                      "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})  # fmt: skip

    def _preupload(self, repo: Repository, match: re.Match[str]) -> tuple[int, bytes, dict[str, str]]:
        files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                 for each in json.loads(self.body)["files"]]  # fmt: skip
        return _json({"files": files})

    def _commit(self, repo: Repository, match: re.Match[str]) -> tuple[int, bytes, dict[str, str]]:
        lines = [json.loads(line) for line in self.body.splitlines()]
        parent = next(line["value"] for line in lines if line["key"] == "header").get("parentCommit")
        if parent is not None and parent != repo.branches["main"]:
            return _json({"error": "the branch has moved on"}, 412)
        files = dict(repo.commits[repo.branches["main"]])
        for line in lines:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        oid = repo.commit(files)
        address = f"{self.hub.address}/{match['repo']}/commit/{oid}"
        return _json({"success": True, "commitOid": oid, "commitUrl": address, "hookOutput": ""})

    def _tag(self, repo: Repository, match: re.Match[str]) -> tuple[int, bytes, dict[str, str]]:
        name, oid = json.loads(self.body)["tag"], repo.resolve(match["revision"])
        if oid is None:
            return _missing("RevisionNotFound")
        if name in repo.tags:
            return _json({"error": "the tag exists"}, 409)
        repo.tags[name] = oid
        return _json({})

    def _file(self, repo: Repository, match: re.Match[str]) -> tuple[int, bytes, dict[str, str]]:
        oid = repo.resolve(match["revision"])
        if oid is None:
            return _missing("RevisionNotFound")
        data = repo.commits[oid].get(unquote(match["file"]))
        if data is None:
            status, body, headers = _missing("EntryNotFound")
            return status, body, {**headers, "X-Repo-Commit": oid}
        return (
            200,
            data,
            {"ETag": f'"{git_id(data)}"', "X-Repo-Commit": oid, "Content-Type": "application/octet-stream"},
        )


_Handle = Callable[[_Handler, Repository, "re.Match[str]"], tuple[int, bytes, dict[str, str]]]
_REPO = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES: dict[str, _Handle] = {
    rf"/api/models/{_REPO}/refs": _Handler._refs,
    rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)": _Handler._tree,
    rf"/api/models/{_REPO}(?:/revision/(?P<revision>[^/]+))?": _Handler._info,
    rf"/api/models/{_REPO}/preupload/(?P<revision>[^/]+)": _Handler._preupload,
    rf"/api/models/{_REPO}/commit/(?P<revision>[^/]+)": _Handler._commit,
    rf"/api/models/{_REPO}/tag/(?P<revision>[^/]+)": _Handler._tag,
    rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)": _Handler._file,
}


def _json(value: Any, status: int = 200) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _missing(code: str) -> tuple[int, bytes, dict[str, str]]:
    status, body, headers = _json({"error": code}, 404)
    return status, body, {**headers, "X-Error-Code": code}


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A running Hub on a free port of 127.0.0.1; `address` is what HF_ENDPOINT has to be."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
