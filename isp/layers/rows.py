"""Layers as streams: each is a generator from strips of rows to strips of rows, and keeps the few rows that it still needs.

Layers are nested as in the network. Together, the strips that come out equal the result for the whole map.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Strips = Iterable[Tensor]  # b c rows w: the rows of one map, from the top, in strips of any height

# ---------------------------------------------------------------- rows


class Rows:
    """A queue of rows: they are put in by strips, and taken out in any number."""

    def __init__(self) -> None:
        self._strips: deque[Tensor] = deque()

    def remembering(self, strips: Strips) -> Iterator[Tensor]:
        """Pass the strips on, and queue each of them."""
        for strip in strips:
            self._strips.append(strip)
            yield strip

    def take(self, count: int) -> Iterator[tuple[slice, Tensor]]:
        """Take the next `count` rows out, in pieces: (their place among the `count`, the rows)."""
        at = 0
        while at < count:
            strip = self._strips.popleft()
            if strip.shape[2] > count - at:
                self._strips.appendleft(strip[:, :, count - at :])
                strip = strip[:, :, : count - at]
            yield slice(at, at + strip.shape[2]), strip
            at += strip.shape[2]


def between(strips: Strips, start: int, stop: int) -> Iterator[Tensor]:
    """Yield the rows from `start` to `stop`, and ask for no strip after them."""
    row = 0
    for strip in strips:
        wanted = strip[:, :, max(0, start - row) : max(0, stop - row)]
        if wanted.shape[2]:
            yield wanted
        row += strip.shape[2]
        if row >= stop:
            return


def added(strips: Strips, others: Strips) -> Iterator[Tensor]:
    """Yield the sum of two maps, in the strips of the first, in place."""
    rows, others, waiting = Rows(), iter(others), 0
    for strip in strips:
        while waiting < strip.shape[2]:
            waiting += sum(other.shape[2] for other in rows.remembering(itertools.islice(others, 1)))
        for place, other in rows.take(strip.shape[2]):
            strip[:, :, place] += other
        waiting -= strip.shape[2]
        yield strip


class Mean:
    """The mean of each channel over all rows, which are added strip by strip."""

    def __init__(self) -> None:
        self._total, self._pixels = torch.zeros((), dtype=torch.float64, device="cpu"), 0

    def add(self, strip: Float[Tensor, "b c rows w"]) -> None:
        # Strips lie channels last, along which the sum runs fastest; float32 would lose digits over a photograph.
        self._total = self._total.to(strip.device) + strip.permute(0, 2, 3, 1).sum((1, 2)).double()
        self._pixels += strip.shape[2] * strip.shape[3]

    @property
    def value(self) -> Float[Tensor, "b c"]:
        return (self._total / self._pixels).float()


# ---------------------------------------------------------------- layers


def convolved(conv: nn.Conv2d, strips: Strips) -> Iterator[Tensor]:
    """Yield a convolution that keeps the size. The rows that come out lie half a kernel above the last that came in."""
    frame = conv.kernel_size[0] // 2

    def beyond(row: Tensor) -> Tensor:
        outside = row.expand(-1, -1, frame, -1)
        return outside if conv.padding_mode == "replicate" else torch.zeros_like(outside)

    def within(*parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return (the convolution of the rows whose neighbours are known, the rows that the next strip needs)."""
        batch, channels, _, width = parts[0].shape
        rows = sum(part.shape[2] for part in parts)
        padded = parts[0].new_empty(batch, rows, width + 2 * frame, channels).permute(0, 3, 1, 2)
        inner = padded[..., frame : frame + width]
        at = 0
        for part in parts:
            inner[:, :, at : at + part.shape[2]] = part
            at += part.shape[2]
        padded[..., :frame] = beyond(inner[..., :1].mT).mT
        padded[..., frame + width :] = beyond(inner[..., -1:].mT).mT
        last = inner[:, :, max(0, rows - 2 * frame) :].clone(memory_format=torch.channels_last)
        convolution = functional.conv2d(padded, conv.weight, conv.bias) if rows > 2 * frame else inner[:, :, :0]
        return convolution, last

    held = None
    for strip in strips:
        convolution, held = within(beyond(strip[:, :, :1]) if held is None else held, strip)
        if convolution.shape[2]:
            yield convolution
    assert held is not None, "a map has rows"
    yield within(held, beyond(held[:, :, -1:]))[0]


def reduced(layer: Callable[[Tensor], Tensor], size: int, strips: Strips) -> Iterator[Tensor]:
    """Yield the result of a layer of stride 2 without padding; its window has `size` rows."""
    held: Tensor | None = None
    for strip in strips:
        held = strip if held is None else torch.cat([held, strip], 2)
        rows = (held.shape[2] - size) // 2 + 1
        if rows > 0:
            yield layer(held[:, :, : 2 * rows - 2 + size])
            held = held[:, :, 2 * rows :]
