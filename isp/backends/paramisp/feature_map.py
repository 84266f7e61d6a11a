"""Feature maps of a large photograph, kept between passes in chunks of rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from isp.backends.paramisp.design import WIDTH
from isp.contract import Meter
from isp.layers.rows import Strips

STRIP_BYTES = 8e6  # of WIDTH channels in float32; half of it measured slower, twice of it takes more memory
CHUNK_BYTES = 48e6  # more than what malloc keeps for itself once it is freed
GROUPS = 32  # or more, of chunks that are kept or spared


@dataclass(frozen=True)
class Storage:
    """How LocalNet's maps are kept: their type, and the share of the skip connection at full size that is kept.

    The rest of the skip connection is computed a second time from the image when it is needed.
    """

    dtype: torch.dtype = torch.float32
    kept: float = 1.0

    @property
    def description(self) -> str:
        """Describe it in a few words, for people who wait."""
        maps = str(self.dtype).removeprefix("torch.")
        return f"maps in {maps}" + (f", {1 - self.kept:.0%} of the skip connection twice" if self.kept < 1 else "")


def rows_of_strip(batch: int, width: int) -> int:
    """Compute how many rows a strip has: an even number, so that a mosaic keeps its CFA phase from strip to strip."""
    return max(2, int(STRIP_BYTES / (batch * width * WIDTH * 4)) // 2 * 2)


class FeatureMap:
    """A map of `WIDTH` channels in chunks of rows: memory is taken when a chunk is written, and freed after its last use."""

    def __init__(self, image: Float[Tensor, "b 3 h w"], reduction: int, dtype: torch.dtype, meter: Meter) -> None:
        """Make an empty map for `image` with one in `reduction` of its rows and columns."""
        self.batch, self.height, self.width = len(image), image.shape[2] // reduction, image.shape[3] // reduction
        self._strip = rows_of_strip(self.batch, self.width)
        self._chunk = max(1, int(CHUNK_BYTES / STRIP_BYTES)) * self._strip
        self._chunks: dict[int, Tensor] = {}
        self._new = partial(image.new_empty, dtype=dtype)
        self._meter = meter

    def writing(self, strips: Strips, spared: Collection[int] = ()) -> Iterator[Tensor]:
        """Pass the strips on, and keep their rows except those of the chunks that are spared."""
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
        """Yield the rows of `chunks`, or of all chunks; what follows costs `macs` multiply-accumulates a pixel.

        The chunks in `going` are freed when their rows have been taken.
        """
        for chunk in self.chunks if chunks is None else chunks:
            for strip in torch.split(self._chunks[chunk], self._strip, 1):
                yield strip.permute(0, 3, 1, 2).float()
                self._meter(macs * self.batch * strip.shape[1] * self.width)
            if chunk in going:
                del self._chunks[chunk]

    def emptying(self, macs: float) -> Iterator[Tensor]:
        """Yield all rows for the last time."""
        return self.reading(macs, going=self.chunks)

    @property
    def chunks(self) -> range:
        return range(math.ceil(self.height / self._chunk))

    def _rows(self, chunk: int) -> range:
        return range(chunk * self._chunk, min(self.height, (chunk + 1) * self._chunk))

    def spared(self, kept: float) -> frozenset[int]:
        """Choose the chunks to leave out so that at most a share `kept` of the rows stays.

        They are spread evenly, so that at any time the memory that this map has freed makes room for the map that grows;
        and several lie together, since a computation that is repeated begins some rows above them.
        """
        together = max(1, len(self.chunks) // GROUPS)
        groups = ((chunk, chunk // together) for chunk in self.chunks)
        return frozenset(chunk for chunk, group in groups if math.floor((group + 1) * kept) == math.floor(group * kept))

    def runs(self, spared: Collection[int]) -> Iterator[tuple[bool, range, list[int]]]:
        """Yield all chunks from the top, in groups: (whether they are spared, their rows, the chunks)."""
        for missing, group in itertools.groupby(self.chunks, lambda chunk: chunk in spared):
            chunks = list(group)
            yield missing, range(self._rows(chunks[0]).start, self._rows(chunks[-1]).stop), chunks
