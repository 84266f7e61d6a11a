"""Synthesis of realistic image-restoration data: sharp images in, HDF5 shards of blurred/sharp pairs out.

python -m blursynth.make --recipe realblur_j
blursynth.ShardDataset("out/realblur_j", crop=128, augment=True)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blursynth.shards.dataset import ShardDataset

__all__ = ["ShardDataset"]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; the command lines must not wait for it to print their help.
    if name == "ShardDataset":
        from blursynth.shards.dataset import ShardDataset

        return ShardDataset
    raise AttributeError(f"module 'blursynth' has no attribute {name!r}")
