"""Where a figure or a checkpoint comes from: command, commit, versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from polysense.hub.public import without_secrets
from polysense.version import __version__

_CHECKOUT = Path(__file__).parents[3]
_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "safetensors", "numpy")


def command() -> str:
    """The command line of this process, to be typed where it was; paths of this machine shortened to what matters.

    Without secrets: it is kept beside figures and in checkpoints.
    """
    program = Path(sys.argv[0])
    if program.suffix == ".py":
        roots = [root for root in (Path.cwd(), _CHECKOUT) if program.is_relative_to(root)]
        here = program.relative_to(roots[0]) if roots else program
        called = ["python", here.name if here.is_absolute() else str(here)]
    else:
        called = [program.name]
    arguments = [os.path.relpath(each) if os.path.isabs(each) else each for each in sys.argv[1:]]
    return shlex.join(without_secrets(each) for each in [*called, *arguments])


def commit() -> str:
    """Commit of the checkout this package runs from, "+" appended if files differ from it.

    "" outside a checkout, also where the package is installed within that of another project, or if git does not
    answer: a training that is done must not fail for want of this.
    """
    if not (_CHECKOUT / ".git").exists():
        return ""
    try:
        head = _git(_CHECKOUT, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(_CHECKOUT, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of Python and of every package that a figure may depend on."""
    found = {"python": platform.python_version(), "polysense": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, object]:
    """What a wall time has to be read beside: processors and load averages."""
    return {"cpus": os.cpu_count(), "load_average": [round(each, 2) for each in os.getloadavg()]}


def wall_time(started: float) -> str:
    """The time since `started` (of `time.monotonic`), with the load averages that it has to be read beside."""
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    return f"{minutes} min {seconds} s (load averages {', '.join(f'{each:.2f}' for each in os.getloadavg())})"
