"""`polysense world`: build, check and look at the embedded world."""

from __future__ import annotations

import argparse
from pathlib import Path

from polysense.cli.arguments import Commands, HelpFormatter, add_command
from polysense.cli.console import console
from polysense.storage import check_writable


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "world",
        help="the embedded world: real media files without a download",
        description=(
            "The embedded world: scenes rendered consistently into images, depth maps, point clouds,\n"
            "thermal pictures, films, sounds and text. Generated from a seed, the same on every machine;\n"
            "nothing is downloaded."
        ),
        formatter_class=HelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = add_command(
        actions, "build", "write a world's files into a folder", run=_build,
        about="""
            Write a world's media files and manifests. Building the same world again into the same folder returns at
            once; an interrupted build is completed.""",
        examples="""
            polysense world build runs/world
            polysense world build runs/small --size tiny
            polysense world build runs/hard --size demo --difficulty hard --seed 7""",
    )  # fmt: skip
    build.add_argument("directory", type=Path, metavar="DIR", help="folder to write to")
    build.add_argument("--size", default="standard", help="tiny, demo or standard (default: %(default)s)")
    build.add_argument("--difficulty", default="standard", help="easy, standard or hard (default: %(default)s)")
    build.add_argument("--seed", type=int, default=0, help="of the world's content (default: %(default)s)")
    verify = add_command(
        actions, "verify", "check every file of a world", run=_verify,
        about="Compare every manifest and media file with its SHA-256; the first that differs is named.",
        examples="polysense world verify runs/world",
    )  # fmt: skip
    verify.add_argument("directory", type=Path, metavar="DIR", help="folder of a built world")
    gallery = add_command(
        actions, "gallery", "draw some of a world into one picture", run=_gallery,
        about="Draw a few stills in all their senses, and one clip with film, sound and text.",
        examples="polysense world gallery runs/world world.png",
    )  # fmt: skip
    gallery.add_argument("directory", type=Path, metavar="DIR", help="folder of a built world")
    gallery.add_argument("picture", type=_png, metavar="OUT.png", help="picture to write")


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png")
    return path


# The world brings SciPy, PyAV and process pools: the action that needs them imports them, so that --help is fast.
def _build(arguments: argparse.Namespace) -> int:
    from polysense.world import WorldConfig, build_world

    config = WorldConfig(size=arguments.size, difficulty=arguments.difficulty, seed=arguments.seed)
    world = build_world(arguments.directory, config)
    rows = [[name, f"{count:,}"] for name, count in world.counts.items()]
    console.table("", ["manifest", "samples"], rows)
    spent = ", ".join(f"{sense} {seconds:.1f} s" for sense, seconds in world.build_seconds.items())
    console.say(f"{world.directory}: content {world.content_hash[:12]}, built in {world.wall_seconds:.1f} s")
    console.note(f"processor time: {spent}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from polysense.world import verify_world

    console.say(f"{arguments.directory}: all {verify_world(arguments.directory):,} files are as they were built")
    return 0


def _gallery(arguments: argparse.Namespace) -> int:
    from polysense.errors import ConfigError
    from polysense.world.gallery import draw_gallery

    if not arguments.picture.parent.is_dir():
        raise ConfigError("there is no such folder", where=arguments.picture.parent, fix="Make it, or choose another.")
    check_writable(arguments.picture)
    console.say(str(draw_gallery(arguments.directory, arguments.picture)))
    return 0
