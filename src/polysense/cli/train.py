"""`polysense train`: run a recipe."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from polysense.cli.arguments import Commands, add_command, add_imports, add_revision
from polysense.cli.console import console
from polysense.cli.loading import fetched
from polysense.errors import ConfigError

SYSTEMS = ("unialign", "comet", "mera", "anchors")
"""Modules of `polysense.recipes` that can be run; the folder of their shipped configs has the same name."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "train", "run a recipe, or go on with one that was stopped", run=train,
        about="""
            Run a recipe into a folder: resolved config, one checkpoint folder per stage (ready for the Hub, with its
            card), log, metrics and report. A run that was stopped or killed goes on where it was when the same command
            is given again. Several processes: accelerate launch training/unialign/train.py --config ...""",
        examples="""
            polysense train unialign --config world --output runs/x
            polysense train unialign --config world-incremental --output runs/y seed=1 loop.learning_rate=1.0e-3
            polysense train unialign --config my.yaml --output runs/z --imports my_senses
            polysense train comet --config world --output runs/comet
            polysense train comet --config world --output runs/dcid comet=false seed=1
            polysense train mera --config world --output runs/mera
            polysense train mera --start me/my-mera --revision stage-2 --config my.yaml --output runs/more
            polysense train anchors --config clip --output runs/anchor""",
    )  # fmt: skip
    parser.add_argument("system", choices=SYSTEMS, help="what to train")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--start", metavar="STAGE", help="mera: the stage to go on from; see `polysense extend`")
    add_config(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    """What every run of a recipe is told: its config, and what goes with it."""
    parser.add_argument("--config", required=True, help="a YAML file, or the name of a shipped config")
    add_revision(parser)
    add_imports(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help="config values to replace, in YAML; dots lead into a section")  # fmt: skip
    parser.set_defaults(trailing="overrides")


def train(arguments: argparse.Namespace) -> int:
    """Run the recipe that the arguments name, and report on what it has made.

    Raises:
        ConfigError: `--start` for a system that knows none, or `--revision` without it.
        PolysenseError: whatever else the recipe refuses.
    """
    # recipes import every part of the library; only the one that is run is imported, and --help needs none
    recipe = import_module(f"polysense.recipes.{arguments.system}")
    start = {}
    if arguments.start is not None:
        if arguments.system != "mera":
            raise ConfigError(f"{arguments.system} cannot go on from another run's stage", where="--start",
                              fix="Leave it out; a run that was stopped goes on by itself.")  # fmt: skip
        start = {"start": fetched(arguments.start, arguments.revision)}
    elif arguments.revision is not None:
        raise ConfigError("there is no checkpoint to take this revision of", where="--revision", fix="Give --start.")
    try:
        finished = recipe.run(arguments.config, arguments.output, arguments.overrides, arguments.imports, **start)
    except SystemExit as stopped:  # the loop was asked to stop and has saved its state
        console.note("stopped and saved; the same command goes on from here")
        raise stopped
    console.say(str(finished))
    if (arguments.output / "stages").is_dir():
        _report(arguments.output)
    return 0


def _report(run: Path) -> None:
    from polysense.cli.results import show_run
    from polysense.recipes.comet_evaluation import pictures
    from polysense.report import read_run, write_report
    from polysense.trainer.distributed import on_main

    done = read_run(run)
    show_run(done)  # first, since a run that is there to be looked at may have no place for a report
    page = on_main(lambda: write_report(run, pictures(run)) if done.system == "comet" else write_report(run))
    console.say(f"report: {page}")
