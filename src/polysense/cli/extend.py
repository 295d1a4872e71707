"""`polysense extend`: one more sense for a model that MERA's recipe made, or that was a LLaVA."""

from __future__ import annotations

from pathlib import Path

from polysense.cli.arguments import Commands, add_command
from polysense.cli.train import add_config, train


def add(commands: Commands) -> None:
    """Add the command, which is `polysense train mera --start`."""
    parser = add_command(
        commands, "extend", "give a MERA checkpoint, or a LLaVA, further senses", run=train,
        about="""
            Go on from a checkpoint with the stages of a config: each trains its sense, is merged into the language
            model, realigns the older senses that the config has data of, and is a checkpoint of its own. The
            checkpoint may be a stage of a run, or a LLaVA as Hugging Face has it, with its processor, which is taken
            over into the run folder with the same logits and counts as the first stage; it stays as it is. A sense of
            the config may name one of the checkpoint's senses as its encoder. A run that was stopped goes on when the
            command is given again.""",
        examples="""
            polysense extend runs/mera/stages/stage-2-video-* --config world "stages=[audio]" -o runs/more
            polysense extend llava-hf/llava-1.5-7b-hf --config my.yaml -o runs/llava "senses.video.encoder=image"
            polysense extend me/my-mera --revision stage-2 --config my.yaml -o runs/more --imports my_senses""",
    )  # fmt: skip
    parser.add_argument("start", metavar="STAGE", help="a MERA stage's or LLaVA's folder, or owner/name on the Hub")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="the run folder")
    add_config(parser)
    parser.set_defaults(system="mera")
