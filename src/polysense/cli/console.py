"""The one object through which the command line speaks: results to standard output, all else to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from rich import box
from rich.console import Console as RichConsole
from rich.table import Table

from polysense.errors import ConfigError
from polysense.storage import writing

_OUTPUT = "standard output"
_WIDE = 200  # columns where the output is no terminal: a table in a file must not be wrapped


class Console:
    """Plain lines and tables; of several processes of one run, only the first speaks.

    Raises:
        ConfigError: from `say` and `table`, where standard output is a file on a disk that is full.
    """

    def say(self, text: str = "") -> None:
        """One result, as it stands: brackets and colons are no markup, and long lines stay whole."""
        with writing(_OUTPUT):
            self._to(stderr=False).print(text, soft_wrap=True)

    def note(self, text: str) -> None:
        """What a person may want to know and a program does not; nobody hears it where the terminal was closed."""
        with suppress(OSError):
            self._to(stderr=True).print(text, soft_wrap=True, style="dim")

    def error(self, text: str) -> None:
        """What went wrong. Every process may say so."""
        self._to(stderr=True, always=True).print(text, soft_wrap=True, style="red")

    def lines(self, prompt: str) -> Iterator[str]:
        """Lines of standard input until it ends; a person at a terminal is shown a prompt.

        Raises:
            ConfigError: what comes in is no text; nothing can be read after it.
        """
        while True:
            if sys.stdin.isatty():
                self._to(stderr=True).print(prompt, end="")
            try:
                line = sys.stdin.readline()
            except UnicodeDecodeError as error:
                raise ConfigError(f"the input is no {error.encoding} text", where="standard input",
                                  fix=f"Convert it to {error.encoding}.") from error  # fmt: skip
            if not line:
                return
            yield line.strip()

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
        """A table whose first `left` columns are text and whose others are figures."""
        table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, name in enumerate(head):
            table.add_column(name, justify="left" if index < left else "right")
        for row in rows:
            table.add_row(*row)
        with writing(_OUTPUT):
            self._to(stderr=False).print(table)

    def _to(self, *, stderr: bool, always: bool = False) -> RichConsole:
        # made anew for each line, so that it follows a standard output that was redirected since
        quiet = os.environ.get("RANK", "0") != "0" and not always
        plain = partial(RichConsole, stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)
        console = plain()
        return console if console.is_terminal or "COLUMNS" in os.environ else plain(width=_WIDE)


console = Console()
