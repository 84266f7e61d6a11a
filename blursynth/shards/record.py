"""The record of a pair: one line of JSON that says where it came from, what was drawn for it, and how it turned out."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

if TYPE_CHECKING:
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


# ---------------------------------------------------------------- read back


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value out of JSON is a whole number, 0 or more, that 64 bits can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_real(value: object) -> bool:
    """Whether a value out of JSON is a finite number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_list_of_skipped(value: object) -> bool:
    """Whether `value` lists samples that could not be made, each with index, source and reason."""
    return isinstance(value, list) and all(
        isinstance(entry, dict)
        and entry.keys() == {"index", "source", "reason"}
        and is_whole(entry["index"])
        and isinstance(entry["source"], str)
        and isinstance(entry["reason"], str)
        for entry in value
    )


_KEYS: dict[str, Callable[[Any], bool]] = {
    "index": is_whole,
    "source": lambda value: isinstance(value, str),
    "source_digest": lambda value: isinstance(value, str),
    "camera": lambda value: isinstance(value, dict | None),
    "dice": lambda value: isinstance(value, dict),
    "blur_level": is_real,
    "sharp_level": is_real,
    "blur_psnr_db": lambda value: value is None or is_real(value),
    "saturated_share": is_real,
}


def record_in(line: str) -> dict[str, Any]:
    """The record that `record_of` wrote. Raises `ValueError` for anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"expected the record of a pair as JSON, got: {problem}") from problem
    if not isinstance(record, dict):
        raise ValueError(f"expected the record of a pair as JSON, got {line:.40}")
    wrong = [name for name, is_right in _KEYS.items() if name not in record or not is_right(record[name])]
    if wrong:
        raise ValueError(f"expected a record with {', '.join(_KEYS)}; {', '.join(wrong)} is missing or wrong")
    return record
