"""ParamISP on photographs of any size in bounded memory: strip by strip, with the numbers of the whole image.

One feature map of a photograph of 24 megapixels takes 6.1 GB, and the untiled network holds several. Cutting the photograph
into tiles would change the result: GlobalNet and every channel attention pool over the whole image. So here rows stream
through layers (`rows`). A stream can run up to the next pooling and no farther:

    image -> head -> pool of block 0
             map  -> block 0 -> pool of block 1
             map  -> block 1 -> half the size -> pool of block 2 ...

Between such passes LocalNet's map is kept and written in place. What a pool needs, the next pass computes again: twice the
convolutions of the blocks, in memory that stays in the cache, takes as long as once in memory that does not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from isp import cfa, color
from isp.backends.paramisp.network import MULTIPLE_OF, SMALLEST, ParamISPNet, extended
from isp.backends.paramisp.subnetworks import (
    WIDTH,
    AttentiveBlock,
    GlobalNet,
    LocalNet,
    across_channels,
    features,
    rendered,
)
from isp.camera import Camera
from isp.contract import Meter
from isp.layers.mappings import GlobalMapping, LocalMapping, polynomial
from isp.layers.rows import Mean, Rows, Strips, added, between, convolved, reduced

STRIP_BYTES = 8e6  # of WIDTH channels in float32; half of it measured slower, twice of it takes more memory
CHUNK_BYTES = 48e6  # more than what malloc keeps for itself once it is freed
STRIPS_IN_FLIGHT, STRIPS_IN_FLIGHT_TWICE = 44, 60  # measured, in STRIP_BYTES: what all layers of a pass hold at a time
GROUPS = 32  # or more, of chunks that are kept or spared
WARM_UP = 12  # rows that head and two blocks look upwards (1 + 5 + 5), and one more

# ---------------------------------------------------------------- what is kept between passes


@dataclass(frozen=True)
class Storage:
    """How LocalNet's maps are kept: in which type, and which share of the skip connection at full size.

    The rest of the skip connection is computed once more from the image, where it is needed.
    """

    dtype: torch.dtype = torch.float32
    kept: float = 1.0

    @property
    def said(self) -> str:
        maps = str(self.dtype).removeprefix("torch.")
        return f"maps in {maps}" + (f", {1 - self.kept:.0%} of the skip connection twice" if self.kept < 1 else "")


def _rows_of_strip(batch: int, width: int) -> int:
    """An even number, so that a mosaic keeps its CFA phase from strip to strip."""
    return max(2, int(STRIP_BYTES / (batch * width * WIDTH * 4)) // 2 * 2)


class FeatureMap:
    """A map of `WIDTH` channels in chunks of rows, which come when they are written and go when they are done with."""

    def __init__(self, image: Float[Tensor, "b 3 h w"], reduction: int, dtype: torch.dtype, meter: Meter) -> None:
        """Of `image` at one in `reduction` of its height and width."""
        self.batch, self.height, self.width = len(image), image.shape[2] // reduction, image.shape[3] // reduction
        self._strip = _rows_of_strip(self.batch, self.width)
        self._chunk = max(1, int(CHUNK_BYTES / STRIP_BYTES)) * self._strip
        self._chunks: dict[int, Tensor] = {}
        self._new = partial(image.new_empty, dtype=dtype)
        self._meter = meter

    def writing(self, strips: Strips, spared: Collection[int] = ()) -> Iterator[Tensor]:
        """The strips, whose rows are kept but for those of the chunks that are spared."""
        row = 0
        for strip in strips:
            first, last = row, row + strip.shape[2]
            while row < last:
                chunk, at = divmod(row, self._chunk)
                rows = min(self._chunk - at, last - row)
                if chunk not in spared:
                    if chunk not in self._chunks:
                        shape = self.batch, len(self._rows(chunk)), self.width, WIDTH
                        self._chunks[chunk] = self._new(shape)
                    part = strip[:, :, row - first : row - first + rows]
                    self._chunks[chunk][:, at : at + rows] = part.permute(0, 2, 3, 1)
                row += rows
            yield strip

    def reading(
        self, macs: float, chunks: Iterable[int] | None = None, going: Collection[int] = ()
    ) -> Iterator[Tensor]:
        """The rows of `chunks`, or of all; they cost `macs` multiply-accumulates a pixel in what follows.

        A chunk that is among those `going` is forgotten when its rows have been taken.
        """
        for chunk in self.chunks if chunks is None else chunks:
            for strip in torch.split(self._chunks[chunk], self._strip, 1):
                yield strip.permute(0, 3, 1, 2).float()
                self._meter(macs * self.batch * strip.shape[1] * self.width)
            if chunk in going:
                del self._chunks[chunk]

    def emptying(self, macs: float) -> Iterator[Tensor]:
        """All rows for the last time."""
        return self.reading(macs, going=self.chunks)

    @property
    def chunks(self) -> range:
        return range(math.ceil(self.height / self._chunk))

    def _rows(self, chunk: int) -> range:
        return range(chunk * self._chunk, min(self.height, (chunk + 1) * self._chunk))

    def spared(self, kept: float) -> frozenset[int]:
        """The chunks to leave out so that at most `kept` of the rows stay.

        They lie evenly, so that at any time what this map has given up makes room for the one that grows; and several
        together, since what is computed again begins some rows above.
        """
        together = max(1, len(self.chunks) // GROUPS)
        groups = ((chunk, chunk // together) for chunk in self.chunks)
        return frozenset(chunk for chunk, group in groups if math.floor((group + 1) * kept) == math.floor(group * kept))

    def runs(self, spared: Collection[int]) -> Iterator[tuple[bool, range, list[int]]]:
        """All chunks from the top: (whether they are spared, their rows, the chunks)."""
        for missing, group in itertools.groupby(self.chunks, lambda chunk: chunk in spared):
            chunks = list(group)
            yield missing, range(self._rows(chunks[0]).start, self._rows(chunks[-1]).stop), chunks


# ---------------------------------------------------------------- attentive blocks


def residuals(block: AttentiveBlock, strips: Strips) -> Iterator[Tensor]:
    """What a block adds, before attention."""
    return convolved(block.widen, (functional.elu(strip, inplace=True) for strip in convolved(block.narrow, strips)))


def channel_attention(block: AttentiveBlock, strips: Strips) -> Float[Tensor, "b 64 1 1"]:
    """Of a block on a whole map."""
    mean, largest = Mean(), torch.tensor(-torch.inf)
    for residual in residuals(block, strips):
        mean.add(residual)
        largest = torch.maximum(largest.to(residual.device), functional.adaptive_max_pool2d(residual, 1))
    return block.channel_attention(mean.value[:, :, None, None], largest)


def attended(block: AttentiveBlock, attention: Float[Tensor, "b 64 1 1"], strips: Strips) -> Iterator[Tensor]:
    """A whole block, of which the channel attention is known."""
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
    """Multiply-accumulates of their windows for each pixel that they see at stride 1."""
    convs = [conv for layer in layers for conv in layer.modules() if isinstance(conv, nn.Conv2d)]
    return float(sum(conv.weight.numel() for conv in convs if conv.kernel_size != (1, 1)))


@dataclass(frozen=True)
class _Inputs:
    """What the head of a network sees: the features of `image`, strip by strip."""

    net: ParamISPNet
    image: Float[Tensor, "b 3 h w"]
    first: Float[Tensor, "b 3 h w"]
    meter: Meter

    def strips(self, macs: float, start: int = 0) -> Iterator[Tensor]:
        """From row `start` on; they cost `macs` multiply-accumulates a pixel in what follows."""
        count, _, height, width = self.image.shape
        for _, window, inner in cfa.strips(height, _rows_of_strip(count, width), 1, start):  # gradients see a neighbour
            strip = features(self.image[:, :, window], self.first[:, :, window], self.net.design)[:, :, inner]
            yield strip
            self.meter(macs * len(strip) * strip.shape[2] * strip.shape[3])

    def bare(self, macs: float) -> Iterator[Tensor]:
        """The image without its features."""
        for strip in torch.split(self.image, _rows_of_strip(len(self.image), self.image.shape[3]), 2):
            yield strip
            self.meter(macs * len(strip) * strip.shape[2] * strip.shape[3])


def _local_net(net: LocalNet, inputs: _Inputs, optical: Tensor | None, storage: Storage) -> Float[Tensor, "b 3 h w"]:
    """Each pass begins where a map is read, and ends in the pooling of a block.

    Source: kim2024, Fig. 4
    """
    full, half, quarter = (FeatureMap(inputs.image, size, storage.dtype, inputs.meter) for size in (1, 2, 4))
    spared = full.spared(storage.kept)
    head, block, tail, down = (_macs(layer) for layer in (net.head, net.blocks[0], net.tail, net.down[0]))
    shift = 0 if net.optical is None or optical is None else net.optical(optical)[:, :, None, None]
    blocks = cast(list[AttentiveBlock], list(net.blocks))
    attention: list[Tensor] = []

    def pool(strips: Strips) -> None:
        """Lets all rows flow to the pooling of the next block."""
        attention.append(channel_attention(blocks[len(attention)], strips))

    def act(index: int, strips: Strips) -> Iterator[Tensor]:
        return attended(blocks[index], attention[index], strips)

    def headed(macs: float, start: int = 0) -> Iterator[Tensor]:
        return (strip.add_(shift) for strip in convolved(net.head, inputs.strips(macs, start)))

    def skipped() -> Iterator[Tensor]:
        """The skip connection at full size; what was spared of it is computed once more."""
        for missing, rows, chunks in full.runs(spared):
            if missing:
                begin = max(0, rows.start - WARM_UP)
                again = act(1, act(0, headed(head + 3 * block, begin)))
                yield from between(again, rows.start - begin, rows.stop - begin)
            else:
                yield from full.reading(block, chunks)

    pool(full.writing(headed(head + block)))
    pool(full.writing(act(0, full.reading(2 * block))))
    encoded = full.writing(act(1, full.reading((1 + 1 / 4) * block + down / 4, going=spared)), spared)
    pool(half.writing(reduced(net.down[0], 2, encoded)))
    pool(half.writing(act(2, half.reading(2 * block))))
    encoded = half.writing(act(3, half.reading((1 + 1 / 4) * block + down / 4)))
    pool(quarter.writing(reduced(net.down[1], 2, encoded)))
    pool(quarter.writing(act(4, quarter.reading(2 * block))))
    decoded = map(net.up[0], act(5, quarter.emptying(block + down)))
    pool(half.writing(added(decoded, half.reading(block))))
    pool(half.writing(act(6, half.reading(2 * block))))
    decoded = map(net.up[1], act(7, half.emptying(block + down)))
    pool(full.writing(added(decoded, skipped())))
    pool(full.writing(act(8, full.reading(2 * block))))
    return _plus(inputs.image, convolved(net.tail, act(9, full.emptying(block + tail))))


def _local_mapping(net: LocalMapping, inputs: _Inputs) -> Float[Tensor, "b 3 h w"]:
    """It pools nothing, so that one pass does."""
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
    """Source: kim2024, Fig. 4"""
    strips: Strips = inputs.strips(_macs(net.convs[0]) / 4)
    for conv in net.convs:
        strips = reduced(conv, 3, strips)
        strips = reduced(partial(functional.max_pool2d, kernel_size=2), 2, map(functional.elu, strips))
    mean = Mean()
    for feature in strips:
        mean.add(feature)
    return net.weights(mean.value, optical)


def _in_place(operation: Callable[[Tensor], Tensor], image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """What acts on every pixel alone."""
    rows = _rows_of_strip(len(image), image.shape[3])
    for row in range(0, image.shape[2], rows):
        image[:, :, row : row + rows] = operation(image[:, :, row : row + rows])
    return image


def _linear(net: ParamISPNet, bayer: Float[Tensor, "b 1 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
    """CanoNet, strip by strip."""
    batch, _, height, width = bayer.shape
    linear = bayer.new_empty(batch, 3, height, width)
    for place, window, inner in cfa.strips(height, _rows_of_strip(batch, width), cfa.DEMOSAIC_HALO):
        linear[:, :, place] = net.linear(bayer[:, :, window], camera)[:, :, inner]
    return linear


@torch.no_grad()
def run(
    net: ParamISPNet, image: Float[Tensor, "b c h w"], camera: Camera, storage: Storage, meter: Meter
) -> Float[Tensor, "b 3 h w"]:
    """What `net(image, camera)` gives, in float32, up to rounding, or up to that of `storage`.

    `meter` is told the multiply-accumulates of each step: `work` in all. Source: kim2024, Fig. 2
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
            render = partial(rendered, weights=_global_weights(net.global_net, inputs, optical))
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


# ---------------------------------------------------------------- what it takes


@contextmanager
def metered(net: ParamISPNet, meter: Meter) -> Iterator[None]:
    """Tells `meter` the multiply-accumulates of each step of the network at once: `work` in all."""

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
    """Multiply-accumulates of `run` on one image; without a storage, of the network at once."""
    macs = 0.0
    if isinstance(net.global_net, GlobalNet):
        macs += _macs(net.global_net.convs[0]) / 4
    if isinstance(net.local_net, LocalNet):
        local = net.local_net
        head, block, tail, down = (_macs(layer) for layer in (local.head, local.blocks[0], local.tail, local.down[0]))
        times, again = (1, 0.0) if storage is None else (2, 1 - storage.kept)
        macs += head + tail + again * (head + 2 * block)
        macs += times * (4 + 4 / 4 + 2 / 16) * block + (1 / 4 + 1 / 16) * (down + down)  # two of each: down and up
    else:
        macs += _macs(net.local_net)
    for side in (height, width):
        macs *= max(SMALLEST, -(-side // MULTIPLE_OF) * MULTIPLE_OF)
    return macs


def peak_bytes(net: ParamISPNet, count: int, height: int, width: int, storage: Storage) -> float:
    """The most memory that `run` takes beside its input, on `count` images."""
    pixels = float(count * (height + 3) * (width + 3))
    image_bytes = 12 * pixels  # three channels in float32
    full = WIDTH * pixels * storage.dtype.itemsize if isinstance(net.local_net, LocalNet) else 2 * image_bytes
    middle = storage.kept * full + full / 4 + full / 16
    maps = max(middle, full if storage.kept == 1 else full + full / GROUPS)
    images = image_bytes * (1 if height % MULTIPLE_OF == width % MULTIPLE_OF == 0 else 2)
    return maps + images + STRIP_BYTES * (STRIPS_IN_FLIGHT if storage.kept == 1 else STRIPS_IN_FLIGHT_TWICE)
