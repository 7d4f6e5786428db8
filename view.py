"""Look at a fitted run (or flow alone, or tracks of files) in the browser: click a point, see its track; correct it."""

import argparse
import contextlib
import errno
import shlex
import socket
import webbrowser
from pathlib import Path

import torch

import util
from loaders.pins import read_pins
from outputs.options import OF_MODELS, add_run_options, make_folder, open_source, positive
from tracking.sources import HIDDEN_ABOVE
from tracking.tracks_file import read_tracks
from util import UserError
from viewer.answers import AnswersOfFile, AnswersOfSource
from viewer.fitting import Fitting
from viewer.frames import StoredFrames, check_same_video, open_frames
from viewer.layers import Layers
from viewer.save import save_page
from viewer.scene import Scene

KINDS = {"--data_dir": "manifest.json", "--run": "checkpoints"}  # folders, by what is in them
HOST, PORT = "127.0.0.1", 8765
OF_THE_SERVER = ("host", "port", "open", "pins")  # options with no meaning for a saved page
OF_A_COMMAND = {"run": None, "checkpoint": None, "data_dir": None, "method": "max_weight", "refine": "auto",
                "occlusion_th": HIDDEN_ABOVE}  # options that track.py has, too, and that change what it gives

EPILOG = """examples:
  python view.py --run runs/dog --open                              click anywhere: the point's track, in every frame
  python view.py --data_dir data/dog                                the same by flow alone, with no model
  python view.py --run runs/dog --compare runs/other tracks.npz     side by side
  python view.py --tracks tracks.npz --video dog.mp4                what a file holds, on its video
  python view.py --run runs/dog --save dog.html                     one file that opens without a server

The live page needs the extra `viewer`: pip install -r requirements-viewer.txt. Keys, pins and saved pages:
docs/viewer.md."""


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_options(parser)
    shown = parser.add_argument_group("what else is shown")
    shown.add_argument("--tracks", nargs="+", metavar="FILE", type=Path,
                       help="tracks.npz of track.py; without --run the files alone answer, and the frames come from "
                            "--video or --data_dir")
    shown.add_argument("--compare", nargs="+", metavar="PATH", type=Path, default=[],
                       help="beside it: another run, a data directory (its flow), or a tracks.npz of the same video")
    shown.add_argument("--video", metavar="PATH", type=Path,
                       help="the frames: a video file or a folder of images; default: the data directory's")
    shown.add_argument("--pins", metavar="FILE", type=Path,
                       help="where corrections go, and are read from; default: pins.csv in the run, in the data "
                            "directory, or beside the tracks")
    server = parser.add_argument_group("the live page")
    server.add_argument("--host", help=f"the address to listen at; default {HOST}, this machine alone: whoever reaches "
                                       "another can ask, and pin")
    server.add_argument("--port", type=port_number,
                        help=f"default {PORT}, or any free one where that is in use; 0: any free one")
    server.add_argument("--open", action="store_true", default=None, help="open it in the browser")
    saved = parser.add_argument_group("one file, in place of a live page")
    saved.add_argument("--save", metavar="FILE.html", type=Path,
                       help="write the video, its layers and tracks of a grid into this file")
    saved.add_argument("--step", type=positive, metavar="PX",
                       help="pixels between the grid's points; default: what gives about 600 on each of three frames")
    saved.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    return parser.parse_args(argv)


def port_number(text):
    """0 to 65535, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def check_options(args):
    """UserError for options that contradict each other, or that cannot act."""
    if args.save is None:
        for name in ("step", "overwrite"):
            if getattr(args, name):
                raise UserError(f"--{name} acts on a saved page: give --save FILE.html, or leave it out")
        return
    for name in OF_THE_SERVER:
        if getattr(args, name) is not None:
            raise UserError(f"--{name} acts on the live page: leave out either it or --save")
    if args.save.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--save {args.save}: expected a file ending in .html")
    if args.save.exists() and not args.overwrite:
        raise UserError(f"--save {args.save}: exists; give --overwrite to replace it")


def open_scene(args):
    """The Scene that the options name. UserError when they name none, or things of different videos."""
    files_alone = args.tracks and args.run is None and args.checkpoint is None
    for name in (name for name in OF_MODELS if files_alone and getattr(args, name) != OF_MODELS[name]):
        raise UserError(f"--{name} acts on a model's tracks: give --run DIR, or leave it out")
    source = None if files_alone else open_source(args)
    use_threads(source)
    frames = frames_of(args, source)
    answers = [] if source is None else [AnswersOfSource(name_of(args), source, command_of(args, source))]
    answers += [of_file(path, "--tracks") for path in args.tracks or []]
    answers += [opened(path) for path in args.compare]
    for answer in answers:
        check_same_video(answer.name, (answer.num_frames, answer.video_size), frames)
    ours = source.run.video if source is not None and source.run else None
    if ours and isinstance(frames, StoredFrames):
        frames.data.check_same_video(ours)
    scene = Scene(frames, answers, Layers(frames, source), args.pins or beside(args, "pins.csv"))
    if ours:
        scene.fitting = fitting_of(args, scene)
    return scene


def fitting_of(args, scene):
    """Who fits the run that answers first to its pins, and then shows the new run in its place."""

    def opened(folder):
        new = argparse.Namespace(**vars(args) | {"run": str(folder), "checkpoint": None})
        source = open_source(new)
        scene.answers[0] = AnswersOfSource(name_of(new), source, command_of(new, source))
        scene.layers = Layers(scene.frames, source)

    options = ["--device", args.device] + (["--data_dir", args.data_dir] if args.data_dir else [])
    return Fitting(args.checkpoint or args.run, scene.pins, opened, options)


def use_threads(source):
    """As many of the processor's threads as the run was trained with: a small model answers sooner with one."""
    threads = getattr(source and source.run, "config", {}).get("threads")
    if threads:
        torch.set_num_threads(threads)


def frames_of(args, source):
    """The frames: of --video, or of the data directory of --data_dir or of the source. UserError: there are none."""
    path = args.video or args.data_dir or (source and source.data_dir)
    if path is None:
        raise UserError("--tracks: which video are they of? give --video PATH or --data_dir DIR")
    if args.video is None and source is not None and not Path(path).exists():
        raise UserError(f"{path}: the run's data directory is gone; name its new place with --data_dir, or its --video")
    return open_frames(Path(path))


def name_of(args):
    return Path(args.run or args.checkpoint or args.data_dir).name or "run"


def beside(args, name):
    """`name` in the run, the data directory, or the folder of the first tracks file."""
    return Path(args.run or args.data_dir or args.tracks[0].parent) / name


def command_of(args, source):
    """How track.py is called to give what is shown. It would else polish tracks of a video that was scaled down."""
    given = {name: getattr(args, name) for name, default in OF_A_COMMAND.items() if getattr(args, name) != default}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    words += ["--polish", "off"] if source.size != source.video_size else []
    return f"python track.py {shlex.join(words)}"


def of_file(path, option):
    """The tracks of a file. UserError when it is none of ours, or has no tracks."""
    tracks = read_tracks(path)
    if not len(tracks.tracks):
        raise UserError(f"{option} {path}: no tracks in it")
    return AnswersOfFile(path.name, tracks)


def opened(path):
    """Who answers for one of --compare. UserError when it is neither a run, a data directory nor a file of tracks."""
    if path.is_file():
        return of_file(path, "--compare")
    kind = next((kind for kind, name in KINDS.items() if (path / name).exists()), None)
    if kind is None:
        raise UserError(f"--compare {path}: expected a run's folder, a data directory or a tracks.npz")
    args = parse_arguments([kind, str(path)])
    source = open_source(args)
    return AnswersOfSource(path.name, source, command_of(args, source))


def listen(host, port):
    """A bound socket. Where PORT, the default, or the port given is in use, another is taken, and it is said."""
    wanted = PORT if port is None else port
    try:
        family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"--host {host}: no such address ({error.strerror})") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also while an ended server's calls linger
    try:
        listener.bind((host, wanted))
        listener.listen()
    except OSError as error:
        listener.close()
        if wanted == 0 or error.errno in (errno.EADDRNOTAVAIL, errno.EACCES):
            raise UserError(f"--host {host} --port {wanted}: cannot listen there ({error.strerror})") from None
        print(f"port {wanted} is in use: another is taken")
        return listen(host, 0)
    return listener


def serve(scene, args):
    """The page, until it is interrupted."""
    try:
        import uvicorn

        from viewer.app import make_app
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] not in ("starlette", "uvicorn", "anyio", "h11", "click"):
            raise
        raise UserError(f"the live page needs {error.name}: pip install -r requirements-viewer.txt "
                        "(--save FILE.html does without)") from None
    host = args.host or HOST
    browser = find_browser() if args.open else None
    listener = listen(host, args.port)
    name, port = listener.getsockname()[:2]
    address = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
    print(f"{scene.frames.name}: {address}   (corrections go to {scene.pins}; ctrl-c ends it)", flush=True)
    if browser:
        browser.open(address)
    server = uvicorn.Server(uvicorn.Config(make_app(scene, host), log_level="warning", timeout_graceful_shutdown=2))
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            server.run(sockets=[listener])
    finally:
        if scene.fitting:
            scene.fitting.cancel()


def find_browser():
    """A browser, before any work is done for it. UserError: there is none."""
    try:
        return webbrowser.get()
    except webbrowser.Error:
        raise UserError("--open: no browser was found on this machine; leave it out and open the address that is "
                        "printed") from None


@util.command
def main(argv=None):
    args = parse_arguments(argv)
    check_options(args)
    scene = open_scene(args)
    if args.save is None:
        read_pins(scene.pins, scene.answers[0])  # what is wrong in it is said before the page opens
        serve(scene, args)
        return
    make_folder(args.save.parent)
    size = save_page(args.save, scene, args.step)
    print(f"{args.save}: {scene.frames.num_frames} frames and their tracks in one page, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
