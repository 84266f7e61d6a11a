"""ParamISP on photographs of any size in bounded memory: strip by strip, with the same result as the whole image at once.

One feature map of a photograph of 24 megapixels takes 6.1 GB, and the untiled network holds several. Cutting the photograph
into tiles would change the result: GlobalNet and every channel attention pool over the whole image. So here rows stream
through layers (`isp.layers.rows`). A stream can run up to the next pooling and no farther:

    image -> head -> pool of block 0
             map  -> block 0 -> pool of block 1
             map  -> block 1 -> half the size -> pool of block 2 ...

Between such passes LocalNet's map is kept and written in place. The next pass repeats what the pooling has computed. This takes
no longer: twice the convolutions in memory that stays in the cache are as fast as once in memory that does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from isp import cfa, color
from isp.backends.paramisp import feature_map
from isp.backends.paramisp.design import WIDTH
from isp.backends.paramisp.feature_map import FeatureMap, Storage, rows_of_strip
from isp.backends.paramisp.features import features
from isp.backends.paramisp.global_net import GlobalNet
from isp.backends.paramisp.local_net import AttentiveBlock, Level, LocalNet, across_channels
from isp.backends.paramisp.network import MULTIPLE_OF, SMALLEST, ParamISPNet, extended
from isp.camera import Camera
from isp.contract import Meter
from isp.layers.mappings import GlobalMapping, LocalMapping, polynomial
from isp.layers.rows import Mean, Rows, Strips, added, between, convolved, reduced

STRIPS_IN_FLIGHT, STRIPS_IN_FLIGHT_TWICE = 44, 60  # measured, in STRIP_BYTES: what all layers of a pass hold at a time
WARM_UP = 12  # rows that head and two blocks look upwards (1 + 5 + 5), and one more

# ---------------------------------------------------------------- attentive blocks


def residuals(block: AttentiveBlock, strips: Strips) -> Iterator[Tensor]:
    """Yield the residual of a block, before attention."""
    return convolved(block.widen, (functional.elu(strip, inplace=True) for strip in convolved(block.narrow, strips)))


def channel_attention(block: AttentiveBlock, strips: Strips) -> Float[Tensor, "b 64 1 1"]:
    """Compute the channel attention of a block on a whole map."""
    mean, largest = Mean(), torch.tensor(-torch.inf, device="cpu")
    for residual in residuals(block, strips):
        mean.add(residual)
        largest = torch.maximum(largest.to(residual.device), functional.adaptive_max_pool2d(residual, 1))
    return block.channel_attention(mean.value[:, :, None, None], largest)


def attended(block: AttentiveBlock, attention: Float[Tensor, "b 64 1 1"], strips: Strips) -> Iterator[Tensor]:
    """Yield the result of a block whose channel attention is known."""
    skipped, waiting = Rows(), Rows()
    weighted = (residual.mul_(attention) for residual in residuals(block, skipped.remembering(strips)))
    pooled = (across_channels(residual) for residual in waiting.remembering(weighted))
    for logits in convolved(block.spatial, pooled):
        spatial = torch.sigmoid(logits)
        batch, _, rows, width = spatial.shape
        feature = spatial.new_empty(batch, rows, width, WIDTH).permute(0, 3, 1, 2)
        for place, residual in waiting.take(rows):
            torch.mul(residual, spatial[:, :, place], out=feature[:, :, place])
        for place, skip in skipped.take(rows):
            feature[:, :, place] += skip
        yield feature


# ---------------------------------------------------------------- the networks


def _macs(*layers: nn.Module) -> float:
    """Count multiply-accumulates for each pixel: of the output, or of the input of a transposed convolution."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    convs = [conv for layer in layers for conv in layer.modules() if isinstance(conv, kinds)]
    return float(sum(conv.weight.numel() for conv in convs if conv.kernel_size != (1, 1)))


@dataclass(frozen=True)
class _Inputs:
    """The input of the head of a network: the features of `image`, strip by strip."""

    net: ParamISPNet
    image: Float[Tensor, "b 3 h w"]
    first: Float[Tensor, "b 3 h w"]
    meter: Meter

    def strips(self, macs: float, start: int = 0) -> Iterator[Tensor]:
        """Yield the rows from `start` on; what follows costs `macs` multiply-accumulates a pixel."""
        count, _, height, width = self.image.shape
        for _, window, inner in cfa.strips(height, rows_of_strip(count, width), 1, start):  # gradients see a neighbour
            strip = features(self.image[:, :, window], self.first[:, :, window], self.net.design)[:, :, inner]
            yield strip
            self.meter(macs * len(strip) * strip.shape[2] * strip.shape[3])

    def bare(self, macs: float) -> Iterator[Tensor]:
        """Yield the image without its features."""
        for strip in torch.split(self.image, rows_of_strip(len(self.image), self.image.shape[3]), 2):
            yield strip
            self.meter(macs * len(strip) * strip.shape[2] * strip.shape[3])


def _local_net(net: LocalNet, inputs: _Inputs, optical: Tensor | None, storage: Storage) -> Float[Tensor, "b 3 h w"]:
    """Run LocalNet level by level. Each pass begins where a map is read, and ends in the pooling of a block.

    Source: kim2024, Fig. 4
    """
    first, *others = levels = list(net.levels())
    maps = {size: FeatureMap(inputs.image, size, storage.dtype, inputs.meter) for size in net.REDUCTIONS}
    spared = {first.reduction: maps[first.reduction].spared(storage.kept)}
    head, shift = _macs(net.head), net.modulation(optical)
    attention: dict[AttentiveBlock, Tensor] = {}  # of the blocks whose pooling is done

    def act(block: AttentiveBlock, strips: Strips) -> Iterator[Tensor]:
        return attended(block, attention[block], strips)

    def headed(macs: float, start: int = 0) -> Iterator[Tensor]:
        for strip in convolved(net.head, inputs.strips(macs, start)):
            yield strip if shift is None else strip.add_(shift)

    def skipped(level: Level) -> Iterator[Tensor]:
        """Yield the map that `level` adds; what was spared of it is computed a second time."""
        kept, macs = maps[level.reduction], _macs(level.blocks[0])
        for missing, rows, chunks in kept.runs(spared.get(level.reduction, ())):
            if missing:
                begin = max(0, rows.start - WARM_UP)
                again = headed(head + _macs(*first.blocks) + macs, begin)
                for block in first.blocks:
                    again = act(block, again)
                yield from between(again, rows.start - begin, rows.stop - begin)
            else:
                yield from kept.reading(macs, chunks)

    stream: Strips = headed(head + _macs(first.blocks[0]))
    for level, following in zip(levels, [*others, None], strict=True):
        kept, last = maps[level.reduction], level.blocks[-1]
        for block, successor in itertools.pairwise(level.blocks):
            attention[block] = channel_attention(block, kept.writing(stream))
            stream = act(block, kept.reading(_macs(block, successor)))
        attention[last] = channel_attention(last, kept.writing(stream))
        if following is None:
            stream = act(last, kept.emptying(_macs(last, net.tail)))
            continue
        assert following.resample is not None, "only the first level has none"
        if following.adds_skip:
            decoded = act(last, kept.emptying(_macs(last, following.resample)))
            stream = added(map(following.resample, decoded), skipped(following))
        else:
            share = (level.reduction / following.reduction) ** 2
            macs = _macs(last) + share * _macs(following.resample, following.blocks[0])
            left_out = spared.get(level.reduction, ())
            encoded = kept.writing(act(last, kept.reading(macs, going=left_out)), left_out)
            stream = reduced(following.resample, 2, encoded)
    return _plus(inputs.image, convolved(net.tail, stream))


def _local_mapping(net: LocalMapping, inputs: _Inputs) -> Float[Tensor, "b 3 h w"]:
    """Run the local mapping in one pass, since it pools nothing."""
    image = inputs.image
    *convs, last = cast(list[nn.Conv2d], list(net.mapping))
    strips: Strips = inputs.bare(_macs(net.mapping))
    for conv in convs:
        strips = map(functional.leaky_relu, convolved(conv, strips))
    return _plus(image, map(net.bounded, convolved(last, strips)))


def _plus(image: Float[Tensor, "b 3 h w"], strips: Strips) -> Float[Tensor, "b 3 h w"]:
    total, row = torch.empty_like(image), 0
    for strip in strips:
        place = slice(row, row + strip.shape[2])
        torch.add(image[:, :, place], strip, out=total[:, :, place])
        row = place.stop
    return total


def _global_weights(net: GlobalNet, inputs: _Inputs, optical: Tensor | None) -> Float[Tensor, "b stages n"]:
    """Predict the weights of every stage of GlobalNet from its pooled feature.

    Source: kim2024, Fig. 4
    """
    strips: Strips = inputs.strips(_macs(net.convs[0]) / 4)
    for conv in net.convs:
        strips = reduced(conv, 3, strips)
        strips = reduced(partial(functional.max_pool2d, kernel_size=2), 2, map(functional.elu, strips))
    mean = Mean()
    for feature in strips:
        mean.add(feature)
    return net.weights(mean.value, optical)


def _in_place(operation: Callable[[Tensor], Tensor], image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Apply an operation that treats every pixel alone."""
    rows = rows_of_strip(len(image), image.shape[3])
    for row in range(0, image.shape[2], rows):
        image[:, :, row : row + rows] = operation(image[:, :, row : row + rows])
    return image


def _linear(net: ParamISPNet, bayer: Float[Tensor, "b 1 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
    """Run CanoNet strip by strip."""
    batch, _, height, width = bayer.shape
    linear = bayer.new_empty(batch, 3, height, width)
    for place, window, inner in cfa.strips(height, rows_of_strip(batch, width), cfa.DEMOSAIC_HALO):
        linear[:, :, place] = net.linear(bayer[:, :, window], camera)[:, :, inner]
    return linear


@torch.no_grad()
def run(
    net: ParamISPNet, image: Float[Tensor, "b c h w"], camera: Camera, storage: Storage, meter: Meter
) -> Float[Tensor, "b 3 h w"]:
    """Compute `net(image, camera)` in float32, up to rounding, or up to the rounding of `storage`.

    `meter` gets the multiply-accumulates of each step, which add up to `work`. Source: kim2024, Fig. 2
    """
    height, width = image.shape[-2:]
    image = extended(image)
    optical = None if net.param_net is None else net.param_net(camera)
    if net.direction == "forward":
        image = _linear(net, image, camera)
    first = image

    def toned(image: Tensor) -> Tensor:
        inputs = _Inputs(net, image, first, meter)
        if isinstance(net.global_net, GlobalNet):
            render = partial(net.global_net.rendered, weights=_global_weights(net.global_net, inputs, optical))
        else:
            render = partial(polynomial, weights=cast(GlobalMapping, net.global_net).weights(image))
        return _in_place(render, image.clone() if image is first else image)

    def localised(image: Tensor) -> Tensor:
        inputs = _Inputs(net, image, first, meter)
        if isinstance(net.local_net, LocalNet):
            return _local_net(net.local_net, inputs, optical, storage)
        return _local_mapping(cast(LocalMapping, net.local_net), inputs)

    if net.direction == "forward":
        return toned(localised(image))[..., :height, :width]
    sensor = localised(toned(image))
    return _in_place(partial(color.linear_to_sensor, camera=camera), sensor)[..., :height, :width]


# ---------------------------------------------------------------- work and memory


@contextmanager
def metered(net: ParamISPNet, meter: Meter) -> Iterator[None]:
    """Tell `meter` the multiply-accumulates of each layer while the network runs at once; they add up to `work`."""

    def tell(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        pixels = inputs[0] if isinstance(conv, nn.ConvTranspose2d) else output
        if conv.kernel_size != (1, 1):
            meter(float(conv.weight.numel() * len(pixels) * pixels.shape[2] * pixels.shape[3]))

    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [conv.register_forward_hook(tell) for conv in convs]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def work(net: ParamISPNet, height: int, width: int, storage: Storage | None) -> float:
    """Estimate the multiply-accumulates of `run` on one image; without a storage, those of the network at once."""
    macs = 0.0
    if isinstance(net.global_net, GlobalNet):
        macs += _macs(net.global_net.convs[0]) / 4
    if isinstance(net.local_net, LocalNet):
        passes, again = (1, 0.0) if storage is None else (2, 1 - storage.kept)
        before, *_ = levels = list(net.local_net.levels())
        head = _macs(net.local_net.head)
        macs += head + again * (head + _macs(*before.blocks)) + _macs(net.local_net.tail)
        for level in levels:
            macs += passes * _macs(*level.blocks) / level.reduction**2
            if level.resample is not None:
                macs += _macs(level.resample) / max(level.reduction, before.reduction) ** 2
            before = level
    else:
        macs += _macs(net.local_net)
    for side in (height, width):
        macs *= max(SMALLEST, -(-side // MULTIPLE_OF) * MULTIPLE_OF)
    return macs


def peak_bytes(net: ParamISPNet, count: int, height: int, width: int, storage: Storage) -> float:
    """Estimate the most memory that `run` takes besides its input, on `count` images."""
    pixels = float(count * (height + 3) * (width + 3))
    image_bytes = 12 * pixels  # three channels in float32
    full = WIDTH * pixels * storage.dtype.itemsize if isinstance(net.local_net, LocalNet) else 2 * image_bytes
    middle = storage.kept * full + full / 4 + full / 16
    maps = max(middle, full if storage.kept == 1 else full + full / feature_map.GROUPS)
    images = image_bytes * (1 if height % MULTIPLE_OF == width % MULTIPLE_OF == 0 else 2)
    return maps + images + feature_map.STRIP_BYTES * (STRIPS_IN_FLIGHT if storage.kept == 1 else STRIPS_IN_FLIGHT_TWICE)
