"""`polysense train`: run a recipe."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from polysense.cli.arguments import Commands, add_command, add_imports
from polysense.cli.console import console

SYSTEMS = ("unialign", "mera", "anchors")
"""Modules of `polysense.recipes` that can be run; the folder of their shipped configs has the same name."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "train", "run a recipe, or go on with one that was stopped", run=_train,
        about="""
            Run a recipe into a folder: resolved config, one checkpoint folder per stage (ready for the Hub, with its
            card), log, metrics and report. A run that was stopped or killed goes on where it was when the same command
            is given again. Several processes: accelerate launch training/unialign/train.py --config ...""",
        examples="""
            polysense train unialign --config world --output runs/x
            polysense train unialign --config world-incremental --output runs/y seed=1 loop.learning_rate=1.0e-3
            polysense train unialign --config my.yaml --output runs/z --imports my_senses
            polysense train mera --config world --output runs/mera
            polysense train anchors --config clip --output runs/anchor""",
    )  # fmt: skip
    parser.add_argument("system", choices=SYSTEMS, help="what to train")
    parser.add_argument("--config", required=True, help="a YAML file, or the name of a shipped config")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the run folder")
    add_imports(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help="config values to replace, in YAML; dots lead into a section")  # fmt: skip
    parser.set_defaults(trailing="overrides")


def _train(arguments: argparse.Namespace) -> int:
    # recipes import every part of the library; only the one that is run is imported, and --help needs none
    recipe = import_module(f"polysense.recipes.{arguments.system}")
    try:
        finished = recipe.run(arguments.config, arguments.output, arguments.overrides, arguments.imports)
    except SystemExit as stopped:  # the loop was asked to stop and has saved its state
        console.note("stopped and saved; the same command goes on from here")
        raise stopped
    console.say(str(finished))
    if (arguments.output / "stages").is_dir():
        _report(arguments.output)
    return 0


def _report(run: Path) -> None:
    from polysense.cli.results import show_results
    from polysense.report import read_run, write_report
    from polysense.trainer.distributed import on_main

    page = on_main(lambda: write_report(run))
    show_results(read_run(run).stages)
    console.say(f"report: {page}")
