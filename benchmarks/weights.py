"""The quality of the weights that come with the package: `python benchmarks/weights.py [--of CAMERA] [--shots 24]`.

It prints every figure of docs/weights.md, on shots that their virtual camera takes of a photograph unseen in training:

1. PSNR and SSIM of both directions and the cycle against the parametric ISPs, and with wrong optical parameters.
2. A 296-px crop alone against the same crop of the whole picture: tone, colour and border.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import numpy as np
import torch
from torch import Tensor

import isp
from isp import cfa, evaluate
from isp.backends.paramisp import VARIANTS, border_effect
from isp.camera import Camera
from isp.contract import ISP
from isp.files.pictures import write_image
from isp.train.data import VirtualPair, VirtualShots, stacked

PARAMETRIC = ("rsblur/a7r3", "rsblur/srgb", "rsblur/published", "upi/pair", "upi/paramisp")
CROP, BORDER = 296, 20  # of realblur_j


def held_out(camera: str, shots: int, side: int) -> dict[str, list[VirtualPair]]:
    """Take test shots, by what they show."""
    pairs = VirtualShots((camera,), 1, side - 1, held_out=2 * shots).pairs("test")[0]
    return {"photographs": pairs[1::2], "dead leaves": pairs[0::2]}


def row(name: str, pairs: list[VirtualPair], wrong: str | None = None) -> str:
    (table,) = evaluate.evaluate(isp.create(name), pairs, "paper", 0, torch.device("cpu"), wrong).values()
    return "   ".join(f"{what} {psnr:6.2f} / {ssim:.4f}" for what, (psnr, ssim) in table.items())


def against_others(camera: str, shots: int) -> None:
    for shown, pairs in held_out(camera, shots, CROP).items():
        print(f"\n{len(pairs)} shots of {CROP}x{CROP}, {shown}: PSNR in dB / SSIM")
        for name in (f"paramisp/{camera}", *PARAMETRIC):
            print(f"  {name:26} {row(name, pairs)}")
        for parameter in evaluate.WRONG:
            print(f"  {'wrong ' + parameter:26} {row(f'paramisp/{camera}', pairs, parameter)}")


@torch.no_grad()
def crops_alone(camera: str, shots: int) -> None:
    """Compare the four quarters of a picture, each rendered alone, with the same place of the whole picture."""
    made = isp.create(f"paramisp/{camera}")
    inside = slice(BORDER, CROP - BORDER)
    for shown, pairs in held_out(camera, shots, 2 * CROP).items():
        found: dict[str, list[list[float]]] = {"inverse": [], "forward": []}
        for pair in pairs:
            bayer, srgb, shot = pair.window(0, 0, 2 * CROP, 2 * CROP)
            for direction, image in (("inverse", srgb), ("forward", bayer)):
                run = getattr(made, direction)
                whole = run(image, shot)
                for top, left in ((0, 0), (0, CROP), (CROP, 0), (CROP, CROP)):
                    place = (..., slice(top, top + CROP), slice(left, left + CROP))
                    difference = 255 * (run(image[place], shot) - whole[place])[..., inside, inside]
                    per_channel = difference.mean((0, 2, 3))
                    found[direction].append(
                        [float(difference.abs().mean()), float(per_channel.mean()), float(per_channel.abs().max())]
                    )
        print(
            f"\n{4 * len(pairs)} crops of {CROP} px against the same place of {2 * CROP}x{2 * CROP}, {shown}; in 255ths"
        )
        for direction, values in found.items():
            mean, worst = np.abs(values).mean(0), np.abs(values).max(0)
            print(
                f"  {direction:8} difference {mean[0]:.2f} (worst crop {worst[0]:.2f}), "
                f"brightness {mean[1]:.2f} ({worst[1]:.2f}), "
                f"a channel {mean[2]:.2f} ({worst[2]:.2f})"
            )
        bayer, srgb, shots_of = stacked([pair.window(0, 0, 2 * CROP, 2 * CROP) for pair in pairs])
        spoiled = (
            border_effect(lambda image: made.inverse(image, shots_of), srgb, CROP),
            border_effect(lambda image: made.forward(image, shots_of), bayer, CROP),
        )
        print(f"  border that a crop spoils by more than 1/255: inverse {spoiled[0]} px, forward {spoiled[1]} px")


def cycled(made: ISP, srgb: Tensor, camera: Camera) -> Tensor:
    """Take the picture through both directions."""
    return made.forward(cfa.mosaic(made.inverse(srgb, camera), camera.cfa), camera)


@torch.no_grad()
def colour_of_the_cycle(camera: str, shots: int) -> None:
    """Print what the cycle adds to each channel, on average and at worst, which reveals colour casts."""
    made = isp.create(f"paramisp/{camera}")
    added = []
    for pair in held_out(camera, shots, CROP)["photographs"]:
        _, srgb, shot = pair.window(0, 0, CROP, CROP)
        cycle = cycled(made, srgb, shot)
        added.append((255 * (cycle - srgb)).mean((0, 2, 3)).tolist())
    print("\nadded by the cycle to R, G, B, in 255ths, on photographs")
    print(f"  mean {np.mean(added, 0).round(2)}, worst shot {np.array(added)[np.abs(added).max(1).argmax()].round(2)}")


@torch.no_grad()
def pictures(folder: Path, camera: str, shots: int) -> None:
    """Write camera's picture | rendering | eight times the difference, and below it the same for the cycle."""
    made = isp.create(f"paramisp/{camera}")
    folder.mkdir(parents=True, exist_ok=True)
    for shown, pairs in held_out(camera, shots, CROP).items():
        for at, pair in enumerate(pairs[:6]):
            bayer, srgb, shot = pair.window(0, 0, CROP, CROP)
            rendered = made.forward(bayer, shot)
            cycle = cycled(made, srgb, shot)
            rows = [torch.cat([srgb, ours, (8 * (ours - srgb)).abs()], 3) for ours in (rendered, cycle)]
            picture = (255 * torch.cat(rows, 2)[0].clamp(0, 1)).round().permute(1, 2, 0).numpy().astype(np.uint8)
            write_image(folder / f"{shown.replace(' ', '_')}_{at}.png", picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--of", dest="camera", choices=VARIANTS, default=VARIANTS[0], metavar="CAMERA", help=", ".join(VARIANTS)
    )
    parser.add_argument("--shots", type=int, default=24, metavar="N", help="shots of each kind of scene")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="also write pictures into this folder")
    asked = parser.parse_args()
    print(measure.machine())
    against_others(asked.camera, asked.shots)
    crops_alone(asked.camera, max(1, asked.shots // 3))
    colour_of_the_cycle(asked.camera, asked.shots)
    if asked.pictures:
        pictures(asked.pictures, asked.camera, asked.shots)
