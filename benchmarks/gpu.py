"""What a node with GPUs loads: clips per second of a GPU, its load, and how far that is from what its decoder can do.

    python benchmarks/gpu.py [--videos VIDEOS] [--recipe basic vswift-ssv2 ...] [--json FILE]
    torchrun --nproc-per-node 8 benchmarks/gpu.py --videos train.parquet --recipe vswift-ssv2 --markdown
    python benchmarks/gpu.py --device cpu --seconds 2           # tries the program; no figure of a GPU

VIDEOS is a folder, a list or a manifest; without it videos are made, of sizes and codecs that people have. For each
set of videos and each recipe, in turn in each round: decoding alone (DALI's decoder on the small files that the loader
hands it, and nothing else: the ceiling), the loader, and torch's DataLoader with torchcodec on the CPU and on NVDEC,
each in a process of its own; all of the same clips. Each of several ranks uses its own GPU, and all begin together.

Checks before it times: the frames of decoding alone are the loader's, bit for bit, or the program ends; those of a peer
are the frames that were asked for, or the peer is not timed.

Prints medians of the rounds, with the rates of each GPU and their sum: clips, frames delivered, and frames decoded per
second; the share of the ceiling; NVML's load of NVDEC, of the SMs (the share of time in which a kernel ran) and of
memory, and what came in and went out by PCIe; processor time as a share of the rank's cores. A dash: not known. Records
that others have published stand beside, marked as theirs. --markdown prints lines for the table of docs/gpu.md.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from cluster import begin_together, gather
from gpu_ceiling import DecodingAlone, check, cuts_of
from gpu_figures import docs_lines, summarise, table, with_rates
from gpu_peers import OTHERS, PEERS, check_peer, name_of, time_peer, why_not, write_spec
from gpu_recipes import NAMES, setting_of
from nvidia.dali.backend import ReleaseUnusedMemory
from peers import MADE, SIZES, made_folders
from torch import distributed
from usage import Gpu, endless, machine, measure

import dali_vidaug as dv
from dali_vidaug.data.schema import is_manifest
from dali_vidaug.device import nvdec
from dali_vidaug.device.cores import own_cores

KINDS = {**MADE, "vp9_low_delay": (MADE["vp9"][0], {**MADE["vp9"][1], "lag-in-frames": "0"})}  # no hidden pictures
ALONE_MIN = 32  # clips that decoding alone is handed at a time, at least: few engines wait at the end of a batch


def video_sets(args, folder):
    """{name: manifest}: of VIDEOS, or of each kind of made ones; made or scanned by rank 0, for all."""
    given = [{}]
    if distributed.get_rank() == 0:
        if args.videos:
            name = Path(args.videos).name
            given = [{name: dv.Manifest.read(args.videos) if is_manifest(args.videos) else dv.scan(args.videos)}]
        else:
            made = {name: KINDS[name] for name in args.made}
            folders = made_folders(Path(folder) / f"{args.made_frames}_frames", made, args.sizes, args.made_frames)
            given = [{name: dv.scan(path, progress=False) for name, path in folders.items()}]
    distributed.broadcast_object_list(given)
    if not any(map(len, given[0].values())):
        raise SystemExit("there are no videos")
    return given[0]


def chosen_rows(manifest, count):
    """So many rows of a manifest, spread over it; again and again where it has fewer."""
    enough = len(manifest) >= count
    return manifest.select(np.linspace(0, len(manifest), count, endpoint=False).astype(int) if enough else
                           np.arange(count) % len(manifest))  # fmt: skip


class Comparison:
    """The rows of a set of videos and a recipe on this rank.

    Args:
        videos: name of the set.
        manifest: of its videos.
        name: of the recipe.
        args: of the program.

    Attributes:
        rows: as ``gpu_figures.summarise`` wants them.
    """

    def __init__(self, videos, manifest, name, args):
        self._args, self._videos, self._name, self._setting = args, videos, name, setting_of(name, args)
        self._batch_size = args.batch_size or self._setting.batch_size
        count = -(-args.clips // self._batch_size) * self._batch_size * distributed.get_world_size()
        self._manifest = chosen_rows(manifest, count)
        with self._loader(args.decoder[0]) as loader:
            self._settings = loader.settings
        self._gpu, self._begun = Gpu(self._settings.device), False
        self._where, self._cores, self.rows = f"CPU, rank {distributed.get_rank()}", own_cores(), []
        if self._settings.device == "gpu":
            device = torch.cuda.get_device_name(self._settings.device_id)
            self._where = f"GPU, rank {distributed.get_rank()}: {device}"
        self._frames = self._plan(0).frames.shape[1]

    def _loader(self, decoder):
        options = {"device": self._args.device, "num_threads": self._args.num_threads, "seed": self._args.seed}
        options["cpu_share"] = 0.0 if decoder in ("dali", "pyav") else self._args.cpu_share
        return dv.VideoLoader(self._manifest, self._setting.recipe, self._batch_size, decoder=decoder, **options)

    def _plan(self, epoch):
        """The clips of this rank in an epoch, in the order of its batches."""
        with self._loader("pyav") as loader:
            batches = [loader.schedule.batch(epoch, i) for i in range(len(loader))]
        samples, views = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("samples", "views"))
        return dv.draw_plan(self._manifest, self._setting.recipe, samples, self._args.seed, epoch, views)

    def _row(self, what, kind, note=None):
        record = self._setting.published
        self.rows.append({"videos": self._videos, "recipe": self._name, "what": what, "kind": kind,
                          "where": self._where, "note": note, "rounds": [], "published": record and record._asdict(),
                          "about": f"{self._setting.about}; batches of {self._batch_size}"})  # fmt: skip
        return self.rows[-1]

    def _add(self, row, measured, decoded_per_clip):
        row["rounds"].append(with_rates(measured, self._frames, decoded_per_clip, self._cores))

    def run(self):
        """Check, then measure all rows in turn, in rounds; returns the rows."""
        on = "NVDEC" if self._settings.device == "gpu" else "DALI on the CPU"
        steps = [(self._time_alone, self._row(f"decoding alone ({on}): the ceiling", "ceiling"), "")]
        for decoder in self._args.decoder:
            steps.append((self._time_ours, self._row(f"dali_vidaug, decoder {decoder}", "ours"), decoder))
        for peer in self._args.peers:
            steps.append((self._time_peer, self._row(name_of(peer), "peer"), peer))
        if self._setting.published:
            self._row("published by others, not measured here", "published")
        for number in range(self._args.rounds):
            plan = self._plan(number)
            for measure_row, row, which in steps:
                self._begun = False
                if number == 0 or row["rounds"]:
                    measure_row(row, which, plan, number)
                self._begin()  # where it came to nothing
                ReleaseUnusedMemory()  # of DALI, for the processes of peers
            self._print(number, [row for _, row, _ in steps])
        return self.rows

    def _print(self, number, rows):
        told = [f"{row['what']} {row['rounds'][-1]['clips_per_second']:.1f}" for row in rows if row["rounds"]]
        print(f"{self._videos}, {self._name}, {self._where}, round {number + 1} of {self._args.rounds}, clips/s: "
              f"{'; '.join(told)}", flush=True)  # fmt: skip

    def _begin(self):
        """Wait for the other ranks, once for each row: the timed parts begin together."""
        if not self._begun:
            self._begun = True
            distributed.barrier()

    def _measure(self, steps, warm_up):
        return measure(steps, self._args.seconds, self._gpu, warm_up, self._begin)

    def _time_alone(self, row, _, plan, number):
        decoder = next((one for one in self._args.decoder if one != "pyav"), "pyav")
        with self._loader(decoder) as loader:
            cuts, others = cuts_of(loader, plan)
            if number == 0 and cuts:
                compared, row["left"] = check(loader, plan, cuts, self._args.device)
                row["note"] = f"checked: the frames of {compared} clips are the loader's, bit for bit"
            left = row.get("left", {})
            cuts = [cut for cut in cuts if cut.clip.coding not in left]
            reasons = [*(f"{why} ({count} clips)" for why, count in others.items()), *left.values()]
            if number == 0 and reasons:
                some = f"DALI decodes {len(cuts)} of {len(plan)} clips, PyAV the others: {'; '.join(reasons[:3])}"
                row["note"] = f"{row['note']}; {some}" if row["note"] else some
            if not cuts:
                return
            try:
                alone = DecodingAlone(loader.settings, max(ALONE_MIN, self._batch_size))
                measured = self._measure(alone.steps(cuts), warm_up=2)
            except RuntimeError as error:  # of DALI
                row["note"], row["rounds"] = f"failed: {str(error).strip().splitlines()[-1]}", []
                return
        self._add(row, measured, float(np.mean([cut.num_decoded for cut in cuts])))

    def _time_ours(self, row, decoder, _, number):
        with self._loader(decoder) as loader:
            loader.set_epoch(number)
            steps = (len(batch) for batch in endless(loader))
            measured = self._measure(steps, warm_up=loader.settings.prefetch + 2)
            report = loader.report()
        said = [f"PyAV decoded {n} of {report.loads} clips: {why}" for why, (_, n) in report.fallbacks.items()]
        if self._args.cpu_share != 0:
            share = self._args.cpu_share if report.cpu_share is None else report.cpu_share
            said.append(f"cpu_share {share}: PyAV decoded {report.by_share} of {report.clips} clips because of it")
        said += [f"DALI decodes {coding} wrongly: {why}" for coding, why in report.wrong.items()]
        said += [f"{report.replaced} clips were replaced"] if report.replaced else []
        row["note"] = "; ".join(said) or None
        self._add(row, measured, report.frames_decoded / report.loads)

    def _time_peer(self, row, peer, plan, number):
        """Whatever happens to a peer is said in its row, and the others go on."""
        python = self._args.peer_python
        try:
            if number == 0:
                why = why_not(peer, python, self._settings)
                away = None
                if not why:
                    why, away = check_peer(peer, python, self._manifest, plan, self._settings)
                if why:
                    row["note"] = why
                    return
                known = "of another size" if away is None else f"off by {away:.2f} of 255 on average at most"
                checked = f"checked: the frames that were asked for, {known}; crop, resize, flip, normalise"
            else:
                checked = row["note"]
            with tempfile.TemporaryDirectory() as folder:
                spec = write_spec(folder, self._manifest, plan, self._setting, self._batch_size, self._settings)
                self._begin()
                measured, why = time_peer(peer, python, spec, self._args.seconds, self._settings)
            row["note"] = why or checked
        except Exception as error:
            measured, row["note"] = None, f"failed: {type(error).__name__}: {error}"
        if measured is None:
            row["rounds"] = []
        else:
            self._add(row, measured, None)


def size_of(text):
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) >= 16 and int(height) >= 16):
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT, such as 340x256, got {text!r}")
    return int(width), int(height)


def share_of(text):
    with suppress(ValueError):
        if text == "auto" or 0 <= float(text) <= 1:
            return text if text == "auto" else float(text)
    raise argparse.ArgumentTypeError(f"a share is a number from 0 to 1, or auto, got {text!r}")


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", help="folder, list or manifest; default: videos that are made")
    parser.add_argument("--recipe", nargs="+", choices=NAMES, default=["basic"], dest="recipes")
    parser.add_argument("--device", default="auto", help="auto, cpu or gpu; with several ranks each takes its own GPU")
    parser.add_argument("--decoder", nargs="+", choices=("auto", "dali", "pyav", "hybrid"), default=["hybrid"])
    parser.add_argument("--cpu-share", type=share_of, default=0.0, help="of NVDEC's clips, decoded on the CPU; or auto")
    parser.add_argument("--batch-size", type=int, help="of each GPU; default: 16, or what was published")
    parser.add_argument("--num-threads", type=int, help="of each rank, and workers of peers; default: its cores")
    parser.add_argument("--clips", type=int, default=512, help="of each rank in an epoch: all rows have the same (512)")
    parser.add_argument("--num-frames", type=int, default=16, help='of the recipes "basic" and "full", as the next two')
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--size", type=int, default=224, help="of clips, pixels")
    parser.add_argument("--seconds", type=float, default=10, help="of each row in each round (10)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--made", nargs="+", choices=KINDS, help="default: H.264, H.265 and VP9; on the CPU VP9")
    parser.add_argument("--sizes", nargs="+", type=size_of, help="of made videos; default: 340x256 and 1920x1080")
    parser.add_argument("--made-frames", type=int, default=300, help="of each made video (300)")
    parser.add_argument("--made-folder", help="where made videos are kept; default: they are not")
    parser.add_argument("--peers", nargs="*", choices=(*PEERS, *OTHERS), default=list(PEERS),
                        help="none: only the loader; default: torchcodec")  # fmt: skip
    parser.add_argument("--peer-python", default=sys.executable, help="of an environment that has the peers")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", action="store_true", help="print lines for the table of docs/gpu.md")
    args = parser.parse_args(arguments)
    if args.seconds <= 0 or min(args.rounds, args.clips, args.made_frames, args.batch_size or 1) < 1:
        parser.error("--seconds, --rounds, --clips, --made-frames and --batch-size must be positive")
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.resolve().parent}")
    if args.videos and (args.made or args.sizes):
        parser.error("--made and --sizes are of videos that are made, which --videos replaces")
    if args.cpu_share != 0 and set(args.decoder) & {"dali", "pyav"}:
        parser.error("--cpu-share is for decoder hybrid or auto")
    if ":" in args.device and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        parser.error(f"--device {args.device} would be the GPU of all ranks: leave the number out")
    on_cpu = args.device == "cpu" or not torch.cuda.is_available()
    if args.markdown and on_cpu:
        parser.error("--markdown is for figures of a GPU, and there is none here")
    args.made = args.made or (["vp9_low_delay"] if on_cpu else ["h264_gop250", "hevc", "vp9_low_delay"])
    args.sizes = args.sizes or (SIZES[:1] if on_cpu else SIZES)
    return args


def describe(settings_device, threads):
    """What it runs on, in a line."""
    if settings_device != "gpu":
        return "no GPU: no figure below is one of a GPU, and none says how fast the loader is on one"
    engines = {name: one.engines for name, one in nvdec.decoders(torch.cuda.current_device()).items()}
    told = ", ".join(f"{count} for {name}" for name, count in engines.items()) or "none"
    return f"{torch.cuda.get_device_name()}; NVDEC engines: {told}; {threads} threads a rank"


def main():
    args = parse()
    begin_together()
    if args.device.startswith("cuda:"):
        torch.cuda.set_device(args.device)  # whose stream is waited for, and whose load is asked for
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for videos, manifest in video_sets(args, args.made_folder or folder).items():
            for name in args.recipes:
                rows += Comparison(videos, manifest, name, args).run()
        ranks = gather(rows)
    if ranks:
        figures, threads = summarise(ranks), args.num_threads or own_cores()
        device = "gpu" if rows[0]["where"].startswith("GPU") else "cpu"
        print("", describe(device, threads), "", *table(figures), sep="\n")
        if args.markdown:
            print("", *docs_lines(figures, threads), sep="\n")
        if args.json:
            options = {name: str(value) for name, value in vars(args).items()}
            told = {"command": sys.argv, "machine": machine(), "device": device, "threads": threads, "options": options}
            args.json.write_text(json.dumps({**told, "rows": figures}, indent=1))
    distributed.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # of what was given
        sys.exit(f"gpu.py: {error}")
