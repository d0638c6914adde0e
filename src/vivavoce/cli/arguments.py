"""What can be typed, and which values are accepted."""

from __future__ import annotations

import argparse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from vivavoce.cli.values import angles, drive_parts, even, face, number, pair, scales, whole
from vivavoce.errors import InputError
from vivavoce.importing import KINDS

SIZES = (128, 1024)  # px, both ends accepted
SEEDS = 2**63


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise :class:`vivavoce.errors.InputError`."""
        raise InputError(f"{message} (see: {self.prog} --help)")


def parser() -> Parser:
    """The parser of the whole command line; ``command`` names the one chosen."""
    root = Parser(prog="vivavoce", description="Make one portrait talk.", allow_abbrev=False)
    root.add_argument("--version", action="version", version=f"vivavoce {_version()}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, add, summary in (
        ("animate", _animate, "a portrait and speech become a talking video"),
        ("reenact", _reenact, "a portrait moves like the person in a video"),
        ("dub", _dub, "a film says something else: new lips, the rest as it was"),
        ("swap", _swap, "a person's face takes the place of another's in a picture or film, if both agree"),
        ("import", _import, "make published checkpoints of other projects ready for use here"),
        ("bench", _bench, "measure the speed of the whole pipeline on this machine"),
        ("describe", _describe, "say what a system is made of: networks, parameters, operations, latency"),
        ("doctor", _doctor, "check that everything needed is installed and works"),
        ("prepare", _prepare, "track recordings into what training reads"),
        ("train", _train, "train a part from its recipe"),
        ("evaluate", _evaluate, "measure quality on people never seen in training"),
    ):
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.allow_abbrev = False
        add(command)
    return root


def _version() -> str:
    try:
        return version("vivavoce")
    except PackageNotFoundError:
        return "(not installed)"


def _animate(command: argparse.ArgumentParser) -> None:
    command.add_argument("portrait", type=Path, help="photo, video or animated picture of one or more people")
    command.add_argument("audio", type=Path, help="speech: any sound file, or a video with sound")
    _output(command)
    command.add_argument("--system", default="moda", metavar="NAME", help="talking head to use (default: moda)")
    command.add_argument("--seed", type=whole(0, SEEDS - 1), default=0, metavar="N", help="same seed, same video")
    command.add_argument(
        "--emotion", metavar="WORDS", help="emotion to show, in English: happiness, slightly annoyed, not sad ..."
    )
    command.add_argument(
        "--emotion-model", type=Path, metavar="DIR", help="folder of a CLIP model to read them (default: our own)"
    )
    command.add_argument(
        "--emotion-strength", type=number(0.0, 3.0), metavar="X", help="how much of that emotion (default: 1)"
    )
    command.add_argument(
        "--guidance",
        type=scales,
        metavar="NAME=X,...",
        help="how much of the motion comes from the sound and from the emotion, and how much what is told of the "
        "face counts where it is painted (tgdm): audio=X,emotion=X,face=X, 1 as learned",
    )
    command.add_argument("--drive", type=Path, metavar="FILE", help="video or picture whose face leads head and eyes")
    command.add_argument(
        "--drive-parts", type=drive_parts, metavar="PARTS", help="what it leads: pose,brows,eyes (default: all three)"
    )
    command.add_argument(
        "--blink-rate", type=number(0.0, 120.0), metavar="X", help="blinks a minute; 0 for none (default: as generated)"
    )
    command.add_argument(
        "--gaze", type=pair(-0.3, 0.3), metavar="X,Y", help="look aside: right and down in eye widths, -0.3 to 0.3"
    )
    command.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where to compute (default: auto)")
    command.add_argument("--backend", metavar="NAME", help="how to run the networks (default: the fastest here)")
    command.add_argument(
        "--speech", metavar="DIR", help="speech model of a system that takes one: its folder, hub:OWNER/NAME or phones"
    )
    command.add_argument("--steps", type=whole(1, 1000), metavar="N", help="calls of the network per window of motion")
    command.add_argument(
        "--motion-mean",
        choices=("none", "portrait", "last"),
        help="posture to move about: the portrait's (default), that of the last frame, or none asked for (if-mdm)",
    )
    command.add_argument(
        "--motion-std", type=number(0.01, 1.0), metavar="X", help="how lively: 0.1 calm, 0.3 lively (if-mdm)"
    )
    _imported(command)
    _painted(command)
    _appearance(command)


def _reenact(command: argparse.ArgumentParser) -> None:
    command.add_argument("portrait", type=Path, help="photo, video or animated picture of one or more people")
    command.add_argument("driving", type=Path, help="video of the person to move like; its sound is kept")
    _output(command)
    command.add_argument(
        "--system",
        default="reenact",
        metavar="NAME",
        help="what follows it: reenact (default), if-mdm, tgdm or liveportrait",
    )
    command.add_argument(
        "--relative",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="add the movement to the portrait's own expression and pose",
    )
    command.add_argument(
        "--region",
        choices=("all", "expression", "lips", "eyes", "pose"),
        help="what moves, the rest staying still (liveportrait)",
    )
    command.add_argument(
        "--retarget", choices=("eyes", "lips"), action="append", help="open these as far as the driver's (liveportrait)"
    )
    command.add_argument(
        "--close-lips", action="store_true", default=None, help="close a portrait's open lips first (liveportrait)"
    )
    command.add_argument(
        "--multiplier", type=number(0.0, 3.0), metavar="X", help="of the whole movement (liveportrait; default: 1)"
    )
    command.add_argument("--steps", type=whole(1, 1000), metavar="N", help="calls of the painter per frame (tgdm)")
    command.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where to compute (default: auto)")
    command.set_defaults(seed=0)  # nothing in it is left to chance
    _imported(command)
    _appearance(command)


def _imported(command: argparse.ArgumentParser) -> None:
    """Options of the systems that use imported weights."""
    command.add_argument("--weights", type=Path, metavar="DIR", help="folder that `vivavoce import` wrote")
    command.add_argument(
        "--stitch",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fit the moved head to its shoulders (with imported weights; default: yes)",
    )
    command.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="of imported drawing networks (default: fp32)"
    )
    command.add_argument(
        "--batch", type=whole(1, 1024), metavar="N", help="frames that imported networks draw at once (default: 1)"
    )


def _import(command: argparse.ArgumentParser) -> None:
    command.add_argument("kind", choices=KINDS, help="whose checkpoints they are")
    command.add_argument("source", type=Path, metavar="DIR", help="folder with the published files, or one of them")
    command.add_argument("--out", type=Path, required=True, metavar="WEIGHTS", help="folder for weights and cards")
    command.add_argument("--json", action="store_true", help="report as one JSON object")


def _dub(command: argparse.ArgumentParser) -> None:
    command.add_argument("video", type=Path, help="film of one or more people, of any length; its sound is replaced")
    command.add_argument("audio", type=Path, help="speech: any sound file, or a video with sound")
    _output(command)
    command.add_argument("--system", default="moda", metavar="NAME", help="talking head to use (default: moda)")
    command.add_argument("--seed", type=whole(0, SEEDS - 1), default=0, metavar="N", help="same seed, same video")
    command.add_argument(
        "--length",
        choices=("audio", "video"),
        default="audio",
        help="how long the result is: as the speech, the film running back and forth if it is shorter (default), or as "
        "the film, with closed lips when the speech has ended",
    )
    command.add_argument("--face", type=face, metavar="WHICH", help="largest (default), left, right, or 0, 1, 2 ...")
    command.add_argument("--teeth", type=Path, metavar="PHOTO", help="photo of the same person showing teeth")
    command.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where to compute (default: auto)")
    command.add_argument("--backend", metavar="NAME", help="how to run the networks (default: the fastest here)")
    command.add_argument("--weights", type=Path, metavar="DIR", help="folder with weights (difftalk)")
    command.add_argument("--steps", type=whole(1, 1000), metavar="N", help="calls of the network per frame (difftalk)")
    _painted(command)
    _mouth_gain(command)


def _swap(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, help="photo of the person whose face is put in")
    command.add_argument("target", type=Path, help="picture or film it is put into; a film keeps its sound")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="video to write, or .png of a picture"
    )
    command.add_argument(
        "--i-have-consent", action="store_true", help="needed: say that both people agree to this use of their faces"
    )
    command.add_argument("--weights", type=Path, metavar="DIR", help="folder with other tgdm.safetensors than ours")
    command.add_argument(
        "--face", type=face, default="largest", metavar="WHICH", help="of the target: largest, left, 0 ..."
    )
    command.add_argument("--steps", type=whole(1, 500), default=1, metavar="N", help="calls of the painter a picture")
    command.add_argument(
        "--guidance", type=number(0.0, 5.0), default=1.0, metavar="X", help="how much the face counts (default: 1)"
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default: auto)"
    )
    command.add_argument("--json", action="store_true", help="report as one JSON object")


def _painted(command: argparse.ArgumentParser) -> None:
    """Options of the system that paints lower faces."""
    command.add_argument(
        "--reference", type=Path, metavar="PHOTO", help="photo of the same person to paint the mouth after (difftalk)"
    )
    command.add_argument(
        "--progressive",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="paint each frame after the one before (difftalk; default: no)",
    )
    command.add_argument(
        "--anchor",
        type=whole(0, 100_000),
        metavar="N",
        help="with --progressive, go back to the reference every N frames, 0: never (difftalk; default: 50)",
    )
    command.add_argument(
        "--lips",
        choices=("heard", "motion"),
        help="whose lips: moda's motion (default) or what DiffTalk hears (difftalk)",
    )


def _mouth_gain(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mouth-gain", type=number(0.0, 2.0), metavar="X", help="how much the mouth moves (default: 1)"
    )


def _output(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4", help="video to write")
    command.add_argument("--sheet", type=Path, metavar="PNG", help="also write a contact sheet of the video")
    command.add_argument("--json", action="store_true", help="report as one JSON object")


def _appearance(command: argparse.ArgumentParser) -> None:
    command.add_argument("--face", type=face, metavar="WHICH", help="largest (default), left, right, or 0, 1, 2 ...")
    command.add_argument("--crop", action="store_true", default=None, help="show the head only, as a square")
    command.add_argument("--size", type=even(*SIZES), metavar="PX", help="side of the head view (default: 512)")
    pose = command.add_mutually_exclusive_group()
    pose.add_argument("--pose-scale", type=number(0.0, 3.0), metavar="X", help="how much the head moves (default: 1)")
    pose.add_argument("--freeze-head", "--pose-freeze", action="store_true", help="do not move the head at all")
    command.add_argument(
        "--pose",
        type=angles,
        metavar="YAW,PITCH,ROLL",
        help="head pose to move about instead of the portrait's, in degrees, -45 to 45: right, down, clockwise",
    )
    _mouth_gain(command)
    command.add_argument("--teeth", type=Path, metavar="PHOTO", help="photo of the same person showing teeth")


def _bench(command: argparse.ArgumentParser) -> None:
    command.add_argument("--system", default="moda", metavar="NAME", help="talking head to measure (default: moda)")
    command.add_argument("--portrait", type=Path, metavar="PHOTO", help="photo of a person (default: the demo's)")
    command.add_argument("--size", type=even(*SIZES), default=512, metavar="PX", help="side of the head view")
    command.add_argument("--seconds", type=number(1.0, 36_000.0), default=60.0, metavar="S", help="length of the sound")
    command.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    command.add_argument("--weights", type=Path, metavar="DIR", help="folder with weights, for systems that take any")
    command.add_argument("--json", action="store_true", help="report as one JSON object")


def _describe(command: argparse.ArgumentParser) -> None:
    command.add_argument("--system", default="moda", metavar="NAME", help="talking head to describe (default: moda)")
    command.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder that `vivavoce import` wrote (default: published sizes)"
    )
    command.add_argument("--json", action="store_true", help="report as one JSON object")


def _doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="report as one JSON object")


def _prepare(command: argparse.ArgumentParser) -> None:
    command.add_argument("data", type=Path, metavar="DATA", help="folder with manifest.csv")
    command.add_argument(
        "--out", type=Path, default=Path("runs/motion"), metavar="DIR", help="where one file a clip goes"
    )
    command.add_argument(
        "--weights", type=Path, metavar="DIR", help="weights of a LivePortrait or if-mdm renderer: motion in its space"
    )


def _train(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or module:function")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for weights, card and log")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint in DIR")


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with manifest.csv")
    command.add_argument("--split", default="heldout", metavar="NAME", help="split to use (default: heldout)")
    command.add_argument("--out", type=Path, default=Path("out/evaluate"), metavar="DIR", help="folder for the tables")
    command.add_argument("--system", default="moda", metavar="NAME", help="talking head to measure (default: moda)")
    command.add_argument("--weights", type=Path, metavar="DIR", help="folder with weights, for systems that take any")
    command.add_argument("--limit", type=whole(1, 1_000_000), metavar="N", help="take the first N clips only")
    command.add_argument("--json", action="store_true", help="report as one JSON object")
