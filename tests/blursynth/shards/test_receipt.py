"""A receipt says what its shard holds, or it is no receipt: numbers that cannot be are refused, not obeyed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from blursynth.shards.reader import open_shard
from blursynth.shards.receipt import Receipt

GOOD: dict[str, Any] = {
    "shard": "shard-00002.h5",
    "sha256": "0" * 64,
    "first_index": 4,
    "tried": 2,
    "count": 1,
    "blur_psnr_db": 26.5,
    "saturated_share": 0.01,
    "skipped": [{"index": 5, "source": "a.png", "reason": "too small"}],
}

WRONG: list[tuple[str, Any]] = [
    ("shard", "../thesis.pdf"), ("shard", "/etc/passwd"), ("shard", "shard-2.h5"), ("shard", "shard-000002.h5"),
    ("shard", 2), ("shard", None), ("shard", "shard-00003.h5"), ("shard", "shard-00000.h5"),
    ("sha256", ""), ("sha256", "0" * 63), ("sha256", "G" * 64), ("sha256", 0), ("sha256", None),
    ("first_index", -1), ("first_index", 5), ("first_index", 4.0), ("first_index", "4"), ("first_index", True),
    ("first_index", 10**30), ("first_index", 2 * 65537), ("first_index", None), ("first_index", 0),
    ("tried", 0), ("tried", -2), ("tried", 1), ("tried", 3), ("tried", 10**12), ("tried", 2.0), ("tried", [2]),
    ("count", -1), ("count", 2), ("count", 10**12), ("count", 1.0), ("count", False), ("count", None),
    ("blur_psnr_db", float("nan")), ("blur_psnr_db", float("inf")), ("blur_psnr_db", "26"), ("blur_psnr_db", True),
    ("saturated_share", -0.1), ("saturated_share", 1.5), ("saturated_share", None), ("saturated_share", float("nan")),
    ("skipped", {}), ("skipped", [5]), ("skipped", [{"index": 5}]), ("skipped", None),
    ("skipped", [{"index": "5", "source": "a", "reason": "b"}]), ("skipped", []),
    ("skipped", [{"index": 5, "source": "a", "reason": "b", "more": 1}]),
]  # fmt: skip


def test_good_receipts():
    assert asdict(Receipt.of_document(GOOD)) == GOOD
    assert Receipt.of_document(GOOD | {"blur_psnr_db": None}).blur_psnr_db is None


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}={value!r:.30}" for key, value in WRONG])
def test_impossible_values(key, value, tmp_path):
    with pytest.raises(ValueError, match=r"expected .*, got "):
        Receipt.of_document(GOOD | {key: value})
    shard = tmp_path / "shard-00002.h5"
    Receipt.path(shard).write_text(json.dumps(GOOD | {key: value}))
    assert Receipt.of(shard) is None


@pytest.mark.parametrize(
    "document",
    [None, [], {}, "receipt", 3, {key: GOOD[key] for key in list(GOOD)[1:]}, GOOD | {"host": "a"}, {"shard": 1}],
)
def test_other_documents(document, tmp_path):
    with pytest.raises(ValueError, match="expected a receipt with the keys blur_psnr_db, count, "):
        Receipt.of_document(document)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shard": 1}', "[" * 100_000, "\xff", "1e999"])
def test_broken_files(text, tmp_path):
    shard = tmp_path / "shard-00000.h5"
    Receipt.path(shard).write_text(text, encoding="latin-1")
    assert Receipt.of(shard) is None
    with pytest.raises(ValueError, match=r"shard-00000\.h5\.json: expected the receipt of a shard, got: "):
        Receipt.read(shard)


def test_missing_and_odd_files(tmp_path):
    shard = tmp_path / "shard-00000.h5"
    with pytest.raises(FileNotFoundError, match="expected the receipt of a shard, got nothing there"):
        Receipt.read(shard)
    Receipt.path(shard).mkdir()
    with pytest.raises(ValueError, match="a regular file, got a folder"):
        Receipt.read(shard)
    assert Receipt.of(shard) is None


def test_receipt_of_another_shard(shards, tmp_path):
    text = Receipt.path(shards() / "shard-00001.h5").read_text()
    path = tmp_path / "shard-00000.h5"
    Receipt.path(path).write_text(text)
    with pytest.raises(ValueError, match=r"expected the receipt of shard-00000\.h5, got that of shard-00001\.h5"):
        Receipt.read(path)


def test_disagreements(shards):
    path: Path = shards() / "shard-00001.h5"
    receipt = Receipt.read(path)
    skipped = [{"index": 3, "source": "a", "reason": "b"}]
    with open_shard(path) as shard:
        assert receipt.disagreements(shard) == []
        wrong = Receipt.of_document(asdict(receipt) | {"tried": 2, "count": 1, "skipped": skipped})
        assert wrong.disagreements(shard) == [
            "its receipt says count 1, itself 2",
            f"its receipt says skipped {skipped}, itself []",
        ]
        wrong = Receipt.of_document(asdict(receipt) | {"first_index": 3})
        assert wrong.disagreements(shard) == ["its receipt says first_index 3, itself 2"]
