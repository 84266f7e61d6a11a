"""The receipt of a finished shard."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blursynth import digests
from blursynth.shards import publish
from blursynth.shards.format import MOST_SAMPLES, number_of
from blursynth.shards.identity import DIGEST
from blursynth.shards.reader import Shard, open_shard
from blursynth.shards.record import is_list_of_skipped, is_real, is_whole
from isp.files import places

_MOST_BYTES = 64 << 20  # of a receipt, which may list a reason for each of 65536 samples


@dataclass(frozen=True)
class Receipt:
    """What a finished shard holds; stored beside it, and all receipts in the manifest.

    sha256           of the shard's bytes
    tried            how many samples the shard covers, skipped ones included
    count            how many pairs it holds
    blur_psnr_db     mean over the pairs; `None` if nothing was blurred
    saturated_share  mean over the pairs
    skipped          index, source and reason of every sample that could not be made
    """

    shard: str
    sha256: str
    first_index: int
    tried: int
    count: int
    blur_psnr_db: float | None
    saturated_share: float
    skipped: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def path(shard: Path) -> Path:
        """Where the receipt of `shard` lies."""
        return shard.with_name(shard.name + ".json")

    @staticmethod
    def of_document(document: object) -> Receipt:
        """The receipt that a JSON file or an entry of a manifest holds.

        Raises `ValueError` if it has other keys, or values that no shard can have.
        """
        if not isinstance(document, dict) or document.keys() != _RULES.keys():
            got = ", ".join(sorted(map(str, document))) if isinstance(document, dict) else type(document).__name__
            raise ValueError(f"expected a receipt with the keys {', '.join(sorted(_RULES))}, got {got:.200}")
        wrong = [
            f"{key}: expected {expected}, got {document[key]!r:.80}"
            for key, (is_right, expected) in _RULES.items()
            if not is_right(document[key])
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        receipt = Receipt(**document)
        if receipt.tried != receipt.count + len(receipt.skipped):
            parts = f"{receipt.count} pairs and {len(receipt.skipped)} skipped samples"
            raise ValueError(f"tried: expected the number of its {parts}, got {receipt.tried}")
        if not _may_begin(receipt.shard, receipt.first_index):
            raise ValueError(
                f"first_index: expected a multiple of the number of {receipt.shard}, got {receipt.first_index}"
            )
        return receipt

    @staticmethod
    def read(shard: Path) -> Receipt:
        """The receipt of `shard`. Raises `FileNotFoundError` if it has none, `ValueError` if it cannot be its receipt."""
        path = Receipt.path(shard)
        content = places.read_bytes(path, "the receipt of a shard", _MOST_BYTES)
        try:
            receipt = Receipt.of_document(json.loads(content))
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"{path}: expected the receipt of a shard, got: {problem}") from problem
        if receipt.shard != shard.name:
            raise ValueError(f"{path}: expected the receipt of {shard.name}, got that of {receipt.shard}")
        return receipt

    @staticmethod
    def of(shard: Path) -> Receipt | None:
        """The receipt of `shard`, or `None` if there is none that can be read."""
        try:
            return Receipt.read(shard)
        except (OSError, ValueError):
            return None

    @staticmethod
    def from_shard(path: Path) -> Receipt:
        """A new receipt for a verified shard, from its content."""
        with open_shard(path) as shard:
            return Receipt.from_opened(shard, path.name)

    @staticmethod
    def from_opened(shard: Shard, name: str) -> Receipt:
        """A new receipt for an opened shard that is, or will be, called `name`."""
        records = shard.records()
        ratios = [record["blur_psnr_db"] for record in records if record["blur_psnr_db"] is not None]
        shares = [record["saturated_share"] for record in records]
        return Receipt(
            shard=name,
            sha256=digests.file_digest(shard.path),
            first_index=shard.first_index,
            tried=shard.tried,
            count=shard.count,
            blur_psnr_db=round(sum(ratios) / len(ratios), 4) if ratios else None,
            saturated_share=round(sum(shares) / len(shares), 6) if shares else 0.0,
            skipped=shard.skipped,
        )

    def disagreements(self, shard: Shard) -> list[str]:
        """What an opened shard says of itself differently. The content of its arrays is not compared."""
        own = {"first_index": shard.first_index, "tried": shard.tried, "count": shard.count, "skipped": shard.skipped}
        return [
            f"its receipt says {name} {getattr(self, name)!s:.80}, itself {value!s:.80}"
            for name, value in own.items()
            if getattr(self, name) != value
        ]

    def write(self, shard: Path) -> None:
        publish.text(Receipt.path(shard), json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


# ---------------------------------------------------------------- what a receipt may say

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "shard": (
        lambda name: isinstance(name, str) and number_of(name) is not None,
        "the name of a shard (shard-00000.h5)",
    ),
    "sha256": (lambda digest: isinstance(digest, str) and bool(DIGEST.fullmatch(digest)), "64 hexadecimal digits"),
    "first_index": (is_whole, "a whole number, 0 or more"),
    "tried": (lambda tried: is_whole(tried) and 1 <= tried <= MOST_SAMPLES, f"1 to {MOST_SAMPLES}"),
    "count": (lambda count: is_whole(count) and count <= MOST_SAMPLES, f"0 to {MOST_SAMPLES}"),
    "blur_psnr_db": (lambda ratio: ratio is None or is_real(ratio), "a number, or null"),
    "saturated_share": (lambda share: is_real(share) and 0 <= share <= 1, "a number in [0, 1]"),
    "skipped": (is_list_of_skipped, "a list of samples with index, source and reason"),
}


def _may_begin(shard: str, first_index: int) -> bool:
    """Whether a shard of this name may begin with this sample: each shard before it covers the same number of samples."""
    number = number_of(shard)
    if not number:
        return first_index == 0
    return first_index % number == 0 and 1 <= first_index // number <= MOST_SAMPLES
