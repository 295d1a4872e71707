"""`polysense push` and `polysense card`: what a stage looks like to others."""

from __future__ import annotations

import argparse
from pathlib import Path

from polysense.cli.arguments import Commands, add_command
from polysense.cli.console import console
from polysense.storage import write_whole, writing


def add(commands: Commands) -> None:
    """Add both commands."""
    push = add_command(
        commands, "push", "publish a stage, or all stages of a run", run=_push,
        about="""
            Publish a stage as one commit (weights, config, processor, card) and one tag; a run folder is published
            stage by stage. Pushing again changes nothing; after a lost connection, push again. Local paths are cut
            from what is sent, and a folder that holds a secret is refused. The token is that of `hf auth login`.""",
        examples="""
            polysense push runs/x/stages/stage-2-depth me/my-model
            polysense push runs/x me/my-model --private
            HF_ENDPOINT=http://127.0.0.1:8000 polysense push runs/x me/my-model""",
    )  # fmt: skip
    push.add_argument("folder", type=Path, metavar="FOLDER", help="a stage's folder, or a run folder")
    push.add_argument("repo", metavar="OWNER/NAME", help="repository; it is made when it does not exist")
    push.add_argument("--tag", help="name of the tag (default: stage-k)")
    push.add_argument("--private", action="store_true",
                      help="make the repository a private one; a public one that is there is refused "
                           "(default: as its owner has chosen for new ones)")  # fmt: skip
    card = add_command(
        commands, "card", "render the model card of a stage", run=_card,
        about="Render the card of a stage from what its run wrote down; the stages beside it give the history.",
        examples="""
            polysense card runs/x/stages/stage-2-depth
            polysense card runs/x/stages/stage-2-depth -o model_cards/unialign-world.md""",
    )  # fmt: skip
    card.add_argument("folder", type=Path, metavar="STAGE_FOLDER", help="folder with stage.json and metrics.json")
    card.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file (default: standard output)")


def _push(arguments: argparse.Namespace) -> int:
    from polysense.errors import ConfigError
    from polysense.hub import push_run, push_stage

    if not (arguments.folder / "stages").is_dir():
        commits = [push_stage(arguments.folder, arguments.repo, tag=arguments.tag, private=arguments.private)]
    elif arguments.tag:
        raise ConfigError("a run has several stages, and one tag cannot name them all", where="--tag",
                          fix="Leave it out, or push one stage's folder.")  # fmt: skip
    else:
        commits = push_run(arguments.folder, arguments.repo, private=arguments.private)
    for commit in commits:
        console.say(commit.commit_url)
    return 0


def _card(arguments: argparse.Namespace) -> int:
    from polysense.hub import card_of_folder

    card = card_of_folder(arguments.folder)
    if arguments.output is None:
        console.say(card)
    else:
        with writing(arguments.output):
            write_whole(arguments.output, card)
        console.say(str(arguments.output))
    return 0
