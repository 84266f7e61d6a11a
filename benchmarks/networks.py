"""The speed and memory of ParamISP's networks: `python benchmarks/networks.py [--side 1024]`.

1. One direction against its own convolutions alone: same shapes, channels last, same thread, interleaved.
2. The largest resident set of a process that runs one direction on a 1280x720 picture.
3. The gain and the cost of bfloat16 convolutions.

A network cannot be faster than its convolutions; the rest of its time is memory traffic.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

import measure
import torch
from torch import Tensor, nn

import isp
from blursynth.synthesis import one_thread
from isp import cfa, profile
from isp.backends.paramisp import create
from isp.backends.paramisp.network import ParamISPNet
from isp.camera import Camera
from isp.contract import Direction
from isp.metrics import psnr_db
from isp.rng import generator

ROUNDS = 3
DIRECTIONS: tuple[Direction, ...] = ("inverse", "forward")
SHIPPED = "paramisp/a7r3-virtual"


def shot(height: int, width: int) -> tuple[Tensor, Tensor, Camera]:
    """Return (srgb, bayer, camera) of smooth noise, in which no value is special."""
    coarse = generator(1, 0, "benchmark").random((1, 3, height // 8, width // 8), dtype="float32")
    srgb = nn.functional.interpolate(torch.from_numpy(coarse), size=(height, width), mode="bilinear")
    camera = profile.load("a7r3").camera((2.1, 1.7), "RGGB", iso=160.0, exposure_s=0.02, f_number=4.0, focal_mm=35.0)
    return srgb, cfa.mosaic(isp.create("rsblur/a7r3").inverse(srgb, camera), camera.cfa), camera


def convolutions_of(network: ParamISPNet, run: Callable[[], object]) -> tuple[list[Callable[[], Tensor]], int]:
    """Return (every convolution of `run`, alone and channels last; their multiply-accumulates)."""
    alone: list[Callable[[], Tensor]] = []
    # One input for each shape: fetching the pages of all inputs would take time that is no convolution.
    inputs: dict[torch.Size, Tensor] = {}
    macs = 0

    def note(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        shape = arguments[0].shape
        if shape not in inputs:
            inputs[shape] = torch.ones(shape).contiguous(memory_format=torch.channels_last)
        memory = inputs[shape]
        weight = layer.weight.detach().contiguous(memory_format=torch.channels_last)
        stride = layer.stride
        if isinstance(layer, nn.ConvTranspose2d):
            alone.append(lambda: nn.functional.conv_transpose2d(memory, weight, layer.bias, stride=stride))
            macs += arguments[0].numel() * weight[0].numel()
        else:
            padding = layer.kernel_size[0] // 2 if layer.stride == (1, 1) else 0
            alone.append(lambda: nn.functional.conv2d(memory, weight, layer.bias, stride=stride, padding=padding))
            macs += output.numel() * weight[0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    run()
    for hook in hooks:
        hook.remove()
    return alone, macs


@torch.no_grad()
def speed(side: int) -> None:
    srgb, bayer, camera = shot(side, side)
    for direction, network in create("a7r3-virtual", "cpu").networks.items():
        image = srgb if direction == "inverse" else bayer

        def whole(network: ParamISPNet = network, image: Tensor = image) -> Tensor:
            result: Tensor = network(image, camera)
            return result

        def in_bfloat16(whole: Callable[[], Tensor] = whole) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return whole()

        convolutions, macs = convolutions_of(network, whole)

        def convolutions_alone(convolutions: list[Callable[[], Tensor]] = convolutions) -> None:
            for convolution in convolutions:
                convolution()

        seconds = measure.interleaved(
            {"network": whole, "its convolutions": convolutions_alone, "network, bfloat16": in_bfloat16}, ROUNDS
        )
        floor = seconds["its convolutions"]
        print(
            f"\n{direction} at {side}x{side}: {macs / 1e9:.0f} GMAC, {2e-9 * macs / min(floor):.0f} GFLOP/s; ms (least, median)"
        )
        for name, values in seconds.items():
            print(f"  {name:24} {measure.ms(values)}   {measure.ratio(values, floor):.2f}x")
        print(f"  bfloat16 against float32: {psnr_db(in_bfloat16().float(), whole()):.1f} dB")


def memory(height: int, width: int) -> None:
    """Measure each direction in a process of its own, without gradients, with PyTorch's default number of threads."""
    program = (
        "import resource, sys; sys.path.insert(0, 'benchmarks')\n"
        "import networks, isp\n"
        "direction, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
        "srgb, bayer, camera = networks.shot(height, width)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "getattr(isp.create(networks.SHIPPED), direction)(srgb if direction == 'inverse' else bayer, camera)\n"
        "print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    print(f"\nlargest resident set of a process that runs one direction at {width}x{height}")
    for direction in DIRECTIONS:
        command = [sys.executable, "-c", program, direction, str(height), str(width)]
        before, after = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        print(f"  {direction:8} {int(after) / 1e6:.2f} GB ({int(before) / 1e6:.2f} GB before it)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, metavar="N", help="side of the picture that is timed")
    asked = parser.parse_args()
    print(measure.machine())
    memory(720, 1280)  # first: a process inherits the largest resident set of the one that starts it
    with one_thread():
        speed(asked.side)
    print(measure.machine())
