"""Whole photographs through ParamISP: time and memory of every strategy: `python benchmarks/full_size.py`.

1. In one process, interleaved: a direction at once, in strips, in strips that compute half of the skip connection twice,
   and in strips of float16 maps; relative to the direction at once and to the sum of its convolutions alone.
2. For each budget, in a process of its own that `isp.full_size` must keep within it: its largest resident set, seconds per
   megapixel, the strategy, and the difference from strips that keep all maps in float32, which take up to 16 GB.
3. Round trips of `isp.apply` on the built-in photographs.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import measure
import networks
import numpy as np
import torch

from blursynth.synthesis import one_thread
from isp import cfa, command, full_size, profile
from isp.apply import __main__ as apply
from isp.backends.paramisp import create, strips
from isp.backends.paramisp.feature_map import Storage
from isp.contract import Direction
from isp.files import photographs
from isp.files.pictures import read_image
from isp.files.shot import read_photograph
from isp.metrics import psnr_db
from isp.virtual.scenes import split

ROUNDS = 2
STORAGES = (Storage(), Storage(kept=0.5), Storage(dtype=torch.float16))
# height, width, budget in bytes: 24 megapixels in 8 GB, 42 in 12 GB
BUDGETS = ((4000, 6000, 8e9), (5304, 7952, 12e9))


@torch.no_grad()
def speed(height: int, width: int) -> None:
    srgb, bayer, camera = networks.shot(height, width)
    for direction, network in create("a7r3-virtual", "cpu").networks.items():
        image = srgb if direction == "inverse" else bayer
        whole = network(image, camera)
        convolutions, _ = networks.convolutions_of(network, lambda net=network, image=image: net(image, camera))
        tasks = {
            "at once": lambda net=network, image=image: net(image, camera),
            "its convolutions": lambda convolutions=convolutions: [convolution() for convolution in convolutions],
        } | {
            f"in strips, {storage.description}": lambda net=network, image=image, storage=storage: strips.run(
                net, image, camera, storage, lambda macs: None
            )
            for storage in STORAGES
        }
        seconds = measure.interleaved(tasks, ROUNDS)
        print(f"\n{direction} of {height}x{width}; CPU ms (least, median), against at once, against its convolutions")
        for name, values in seconds.items():
            against = (measure.ratio(values, seconds[floor]) for floor in ("at once", "its convolutions"))
            print(f"  {name:68} {measure.ms(values)}   " + "  ".join(f"{ratio:.2f}x" for ratio in against))
        for storage in STORAGES:
            result = strips.run(network, image, camera, storage, lambda macs: None)
            apart = (result - whole).abs().max()
            print(f"  {storage.description:68} at most {apart:.1e} from at once, {psnr_db(result, whole):.1f} dB")


def one(direction: Direction, height: int, width: int, budget: float, result: str) -> None:
    """Run the work that is measured, and print a line of JSON. A budget of 0 keeps float32 maps, whatever that takes."""
    camera = profile.load("a7r3").camera((2.1, 1.7), "RGGB", iso=160.0, exposure_s=0.02, f_number=4.0, focal_mm=35.0)
    srgb = torch.empty(1, 3, height, width)  # gradients and a fine pattern, without a second copy
    for channel, pitch in enumerate((3, 5, 7)):
        srgb[0, channel] = torch.linspace(0, 1, height)[:, None]
        srgb[0, channel].mul_(torch.linspace(0, 0.9, width)).add_(0.1 * (torch.arange(width) % pitch == 0))
    image = srgb if direction == "inverse" else cfa.mosaic(srgb, camera.cfa)
    del srgb
    camera_isp = create("a7r3-virtual", "cpu")
    began = time.monotonic()
    if budget:
        found = getattr(full_size, direction)(camera_isp, image, camera, int(budget))
    else:
        found = strips.run(camera_isp.networks[direction], image, camera, Storage(), lambda macs: None)
    seconds = time.monotonic() - began
    np.save(result, found[0, :, ::8, ::8].clamp(0, 1).numpy())
    print(json.dumps({"seconds": seconds, "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def within(height: int, width: int, budget: float) -> None:
    """Measure both directions, each in a process of its own with the default number of threads."""
    program = (
        "import sys; sys.path.insert(0, 'benchmarks'); import full_size\n"
        "full_size.one(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])\n"
    )
    megapixels = height * width / 1e6
    for direction in networks.DIRECTIONS:
        with tempfile.TemporaryDirectory() as folder:

            def through(budget: float, result: Path, direction: Direction = direction) -> tuple[dict[str, float], str]:
                shot = (direction, str(height), str(width), str(budget), str(result))
                done = subprocess.run(
                    [sys.executable, "-c", program, *shot], capture_output=True, text=True, check=True
                )
                return json.loads(done.stdout), done.stderr.partition("\n")[0].partition(": ")[2]

            result, reference = Path(folder) / "result.npy", Path(folder) / "reference.npy"
            found, strategy = through(budget, result)
            whole, _ = through(0.0, reference)
            pixels, wanted = (torch.from_numpy(np.load(path)) for path in (result, reference))
            print(
                f"  {megapixels:.0f} MP {direction:8} in {budget / 1e9:.0f} GB: {found['peak_bytes'] / 1e9:.2f} GB, "
                f"{found['seconds'] / megapixels:.2f} s a megapixel; {strategy}\n"
                f"    with all maps kept, in float32: {whole['peak_bytes'] / 1e9:.2f} GB, "
                f"{whole['seconds'] / megapixels:.2f} s a megapixel; apart at most {(pixels - wanted).abs().max():.1e}, "
                f"{psnr_db(pixels, wanted):.1f} dB",
                flush=True,
            )


def round_trips() -> None:
    """Run `isp.apply inverse`, then `forward` on its result, on the built-in photographs."""
    print("\nisp.apply inverse, then forward: dB against the photograph (the weights have not seen those held out)")
    _, held_out = split(photographs.NAMES)
    with tempfile.TemporaryDirectory() as folder:
        for name in photographs.NAMES:
            path, raw = photographs.folder() / name, Path(folder) / "raw"
            mosaic, again = raw / f"{path.stem}.tif", Path(folder) / "again"
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                for arguments in (
                    ["inverse", str(path), "--out", str(raw)],
                    ["forward", str(mosaic), "--out", str(again)],
                ):
                    assert apply.main(arguments) == command.DONE, arguments
            pictures = read_photograph(path).picture, read_image(again / f"{path.stem}.png")
            before, after = (torch.from_numpy(each / np.float32(255)).permute(2, 0, 1)[None] for each in pictures)
            print(f"  {psnr_db(after, before):5.1f}  {name}{' (held out)' * (name in held_out)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--side", type=int, default=1600, metavar="N", help="pixels per side of the picture that is timed"
    )
    parser.add_argument("--only", choices=("speed", "memory", "round trips"), help="run one part")
    asked = parser.parse_args()
    print(measure.machine())
    if asked.only in (None, "memory"):  # first: a process inherits the largest resident set of the one that starts it
        print("\nlargest resident set of a process that keeps within a budget")
        for budget in BUDGETS:
            within(*budget)
    if asked.only in (None, "speed"):
        with one_thread():
            speed(asked.side, asked.side)
    if asked.only in (None, "round trips"):
        round_trips()
    print(measure.machine())
