"""What decides the pixels of a folder of shards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from blursynth import digests

if TYPE_CHECKING:
    import h5py

    from blursynth.recipe import Recipe


@dataclass(frozen=True)
class Identity:
    """What decides the pixels of a folder of shards. Two runs may share a folder only if all four agree.

    recipe   digest of the effective recipe
    seed     of every draw
    data     digest of the source files, and of the files that the recipe names
    weights  digest of the weights of its ISPs
    """

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


def identity_of(recipe: Recipe, data_digest: str) -> Identity:
    """The identity of a run of `recipe` over source files with this digest."""
    from blursynth.stages.isp import opened

    files = [digests.file_digest(path) for stage in recipe.stages for path in stage.files()]
    names = {name for stage in recipe.stages for name in stage.isps}
    weights = [digest for name in sorted(names) for digest in opened(name, "cpu").weights]
    return Identity(
        recipe=recipe.digest,
        seed=recipe.seed,
        data=digests.digest_of([data_digest, *files]),
        weights=digests.digest_of(weights),
    )


def identity_in(file: h5py.File) -> Identity:
    """The identity stored in an opened shard."""
    names = ("recipe_digest", "data_digest", "weights_digest")
    recipe, data, weights = (str(file.attrs[name]) for name in names)
    return Identity(recipe, int(file.attrs["seed"]), data, weights)
