"""The record of a pair: one line of JSON that says where it came from, what was drawn for it, and how it turned out."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py

    from blursynth.sample import Sample


def record_of(sample: Sample, digest: str, arrays: dict[str, np.ndarray]) -> str:
    """The record of a finished sample; `digest` is that of its source file, `arrays` is what the shard stores of it."""
    blur, sharp = arrays["blur"], arrays["sharp"]
    difference = np.subtract(blur, sharp, dtype=np.float64).ravel()  # sums of whole numbers: exact in any order
    error = float(difference @ difference) / difference.size / np.iinfo(blur.dtype).max ** 2
    saturated = 0.0 if sample.saturated is None else int(sample.saturated.sum()) / sample.saturated.numel()
    return json.dumps(
        {
            "index": sample.index,
            "source": sample.source,
            "source_digest": digest,
            "camera": None if sample.camera is None else json.loads(sample.camera.to_json()),
            "dice": sample.draws,
            "blur_level": round(float(blur.mean()), 4),
            "sharp_level": round(float(sharp.mean()), 4),
            "blur_psnr_db": None if error == 0 else round(-10 * math.log10(error), 4),
            "saturated_share": round(saturated, 6),
        },
        sort_keys=True,
    )


def records_in(file: h5py.File) -> list[dict[str, Any]]:
    """The records of an opened shard, in order."""
    return [json.loads(record) for record in file["record"][:]]
