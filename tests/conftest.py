"""What holds for every test: shapes are checked, the network is off, numbers are drawn from a fixed seed."""

from __future__ import annotations

import inspect
import random
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import pytest
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook
from transformers import PreTrainedConfig

# jaxtyping decorates methods one by one, where beartype cannot resolve `Self`; everything else is checked
_checks = ModuleType("shape_checks")
_checks.check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any})))  # type: ignore[attr-defined]
sys.modules["shape_checks"] = _checks
PreTrainedConfig.__no_type_check__ = True  # takes keywords beyond its fields, and checks the fields itself
install_import_hook("polysense", "shape_checks.check")

import polysense  # noqa: E402, F401
from polysense.models.mera import MeraProcessor  # noqa: E402
from polysense.models.unialign import UniAlignProcessor  # noqa: E402
from polysense.testing import tiny_clip  # noqa: E402

# transformers reads the argument names of a processor from its constructor's code, which the checks wrap
for _processor in (UniAlignProcessor, MeraProcessor):
    _processor.__init__ = inspect.unwrap(_processor.__init__)  # type: ignore[method-assign]

_connect = socket.socket.connect


def _connect_nowhere_else(self: socket.socket, address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host not in {"localhost", "::1"} and not str(host).startswith("127."):
        raise OSError(f"tests may not open a connection to {host!r}")
    _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard() -> None:
    """Tests send themselves what a shell's background job and `nohup` ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def offline_and_quiet() -> Iterator[None]:
    """Only the loopback interface, one thread per process (tests run side by side), no progress bars."""
    from transformers.utils import logging

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _connect_nowhere_else)
    patch.setenv("TOKENIZERS_PARALLELISM", "false")
    patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip().save_pretrained(folder)
    return folder
