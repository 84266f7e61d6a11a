"""What decides the pixels of a folder of shards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py

    from blursynth.recipe import Recipe


@dataclass(frozen=True)
class Identity:
    """What decides the pixels of a folder of shards; two runs may share it only where all four agree."""

    recipe: str
    seed: int
    data: str
    weights: str

    def differences(self, other: Identity) -> str:
        """Both values of every field that differs."""
        return "; ".join(
            f"{name} {str(mine)[:12]} here, {str(asdict(other)[name])[:12]} wanted"
            for name, mine in asdict(self).items()
            if mine != asdict(other)[name]
        )


def identity_in(file: h5py.File) -> Identity:
    """Whose run an opened shard belongs to."""
    names = ("recipe_digest", "data_digest", "weights_digest")
    recipe, data, weights = (str(file.attrs[name]) for name in names)
    return Identity(recipe, int(file.attrs["seed"]), data, weights)


def identity_of(made_by: Recipe, data_digest: str) -> Identity:
    """What decides the pixels: the recipe and its files, the seed, the data, the weights of its ISPs."""
    from blursynth import digests
    from blursynth.shards.identity import Identity
    from blursynth.stages.isp import ForwardISP, InverseISP, opened

    files = [digests.file_digest(path) for stage in made_by.stages for path in stage.files()]
    names = {stage.isp for stage in made_by.stages if isinstance(stage, InverseISP | ForwardISP)}
    weights = [digest for name in sorted(names) for digest in opened(name, "cpu").weights]
    return Identity(
        recipe=made_by.digest,
        seed=made_by.seed,
        data=digests.digest_of([data_digest, *files]),
        weights=digests.digest_of(weights),
    )
