"""The work of a worker: one pair from (recipe, seed, index), and one shard from a job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from blursynth import digests
from blursynth.executors import locks, processes
from blursynth.recipe import Recipe, bind
from blursynth.sample import Sample
from blursynth.shards.identity import inputs_of
from blursynth.shards.receipt import Receipt
from blursynth.shards.writer import Job, Writer
from blursynth.sources import Clip
from isp import command


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch with one thread: the bits of FFT and convolution depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _srgb(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """Convert integer pictures (f h w 3) to sRGB in [0, 1] (f 3 h w)."""
    largest = np.iinfo(pixels.dtype).max
    planes = torch.from_numpy(pixels.astype(np.float32)).to(device).div_(largest)
    return planes.permute(0, 3, 1, 2)


def needs_reference(recipe: Recipe) -> bool:
    """Whether a stage of the recipe needs the sRGB picture of the scene, which is then blurred along with the light."""
    return any(stage.needs_reference for stage in recipe.stages)


def _check_unchanged(clip: Clip) -> None:
    """Raise `ValueError` if the files of the clip are not those that its digest was taken from.

    Called after they were read, so that what was read is what the records of its pairs name. This costs 1/30 of decoding.
    """
    if digests.joined([digests.file_digest(path) for path in clip.files.paths()]) != clip.digest:
        raise ValueError(
            f"{clip.name}: expected the picture that was there when this run began, got another; put it back and run the "
            "same command again, or choose another --out"
        )


def start(clip: Clip, recipe: Recipe, index: int, device: str) -> Sample:
    """Return sample `index` before the first stage. Raises `ValueError` if the clip cannot be read, or was replaced."""
    pictures = clip.read()
    _check_unchanged(clip)
    place = torch.device(device)
    image = _srgb(pictures.image, place)
    if recipe.source.use == "pairs":
        sharp_frame, sharp = None, _srgb(pictures.sharp[None], place)
    else:
        sharp_frame = len(image) // 2
        sharp = image[sharp_frame : sharp_frame + 1]
    return Sample(
        image=image,
        space="srgb",
        sharp=sharp,
        saturation=None if pictures.saturation is None else _srgb(pictures.saturation[None], place),
        sharp_frame=sharp_frame,
        seed=recipe.seed,
        index=index,
        source=clip.name,
        target=recipe.target,
        # The picture that becomes the blurred one. In ready-made pairs it is blurred already, as a reference must be.
        reference=image if needs_reference(recipe) else None,
        saves=recipe.save,
    )


def synthesise(clip: Clip, recipe: Recipe, index: int, device: str = "cpu") -> Sample:
    """Return sample `index`, finished. It is the same whether it is made alone or among others, in any order."""
    sample = start(clip, recipe, index, device)
    for label, stage in recipe.labelled:
        sample = stage(sample.replace(stage=label))
    return sample


def _check_inputs(recipe: Recipe, job: Job) -> None:
    """Raise `ValueError` if kernels, profiles or weights are not those that the run began with, before a shard is published."""
    if inputs_of(recipe) != job.inputs:
        raise ValueError(
            f"{job.path.name}: expected the kernels, profiles and weights that were there when this run began, got others; "
            "put them back and run the same command again, or choose another --out"
        )


def fill(job: Job) -> Receipt:
    """Make one shard and publish it.

    Raises `ValueError` for a source file that cannot be used (unless the recipe skips it) or needs more memory than there
    is, and for kernels, profiles or weights that were replaced since the run began; `OSError` if the disk fails;
    `OrphanedError` if the process that started this worker is gone.
    """
    recipe = bind(json.loads(job.recipe), job.path.name)
    with one_thread(), locks.slice_lock(job.path.parent), Writer(job, recipe.bits) as out:
        for index, clip in job.samples:
            processes.leave_if_orphaned()
            try:
                sample = synthesise(clip, recipe, index, job.device)
            except Exception as problem:
                if command.lacks_memory(problem):  # if it was skipped, sets would differ between machines
                    raise ValueError(f"sample {index} ({clip.name}): {command.memory_sentence(problem)}") from problem
                if not isinstance(problem, ValueError | OSError):
                    raise
                if job.on_error == "stop":
                    raise ValueError(f"sample {index} ({clip.name}): {problem}") from problem
                out.skip(index, clip.name, str(problem))
                continue
            out.add(sample, clip.digest)
        _check_inputs(recipe, job)
    if out.receipt is None:
        raise AssertionError("a writer that finished without an error has a receipt")
    return out.receipt
