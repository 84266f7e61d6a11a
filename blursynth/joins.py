"""Whether the stages of a recipe join. Each stage knows what it needs (`Stage.misfits`); this only walks the list."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from blursynth.shards.arrays import SAVES
from blursynth.stages import STAGES
from blursynth.stages.isp import problems_of
from blursynth.stages.stage import THINGS, Problem, State

if TYPE_CHECKING:
    from blursynth.recipe import Recipe


def problems(recipe: Recipe) -> list[str]:
    """Return everything that does not join: spaces, needs, sizes, borders, limits of ISPs, and what is to be saved."""
    found = []
    state = State(brought=frozenset(recipe.source.brings))
    for at, (label, stage) in enumerate(recipe.labelled):
        place = f"stages.{at}.{label}"
        found += [_located(place, problem) for problem in stage.misfits(state)]
        state = stage.after(dataclasses.replace(state, brought=state.brought.union(stage.needs)), label)  # say it once
        if state.size is not None and min(state.size) < 1:
            size = f"{state.size[0]}x{state.size[1]}"
            found.append(f"{place}: nothing is left of the picture, its size would be {size}")
            return found
    return found + _problems_of_isp(recipe) + _problems_at_end(state) + _problems_of_saves(recipe, state)


def _located(place: str, problem: Problem) -> str:
    remedy = f"; put {_bringers(problem.missing)} before it" if _bringers(problem.missing) else ""
    return f"{place}.{problem.key}: {problem.sentence}" if problem.key else f"{place}: {problem.sentence}{remedy}"


def _bringers(need: str) -> str:
    """Return the stages that bring a thing, as '"inverse_isp" or "decode_srgb"'; "" if none does."""
    return " or ".join(f'"{name}"' for name, stage in STAGES.items() if need in stage.brings)


def _problems_of_isp(recipe: Recipe) -> list[str]:
    """Check the recipe's ISP if no stage uses one, and so none has checked it."""
    is_used = any(stage.isps for stage in recipe.stages)
    return [] if is_used else [f"isp: {problem}" for problem in problems_of(recipe.isp)]


def _problems_at_end(state: State) -> list[str]:
    found = []
    if state.space != "srgb":
        found.append(f"stages: expected the last stage to give srgb, but {state.given_by} gives {state.space}")
    if "one_frame" not in state.brought:
        found.append(f"stages: a pair needs {THINGS['one_frame']}; add {_bringers('one_frame')}")
    if state.halo:
        found.append(
            f"stages: the border of {state.halo} pixels is spoiled at the end; add crop_border: {{pixels: {state.halo}}}"
        )
    if state.size is None:
        found.append("stages: the pairs of a shard must have one size; add crop: {size: 256} (or [height, width])")
    return found


def _problems_of_saves(recipe: Recipe, state: State) -> list[str]:
    found = []
    if recipe.target == "rendered" and "bayer" not in state.brought:
        found.append('target: "rendered" needs a forward_isp; use "source"')
    camera_is_missing = state.camera is None  # a problem of its own, which says enough about levels
    for key in recipe.save:
        missing = [need for need in SAVES[key] if need not in state.brought]
        missing = [need for need in missing if not (need == "levels" and camera_is_missing)]
        if "kernel" in missing and "several kernels" in state.brought:
            found.append(f'save: "{key}" can hold one kernel, but several stages blur by one; leave it out')
        elif missing:
            what = " and ".join(_in_words(need, state) for need in missing)
            makers = " and ".join(filter(None, map(_bringers, missing)))
            add = f"add {makers}, or " if makers else ""
            found.append(f'save: "{key}" needs {what}; {add}leave it out')
    return found


def _in_words(need: str, state: State) -> str:
    words = THINGS.get(need, need)
    if need == "levels" and state.camera is not None:
        return f'{words}, which the camera profile "{state.camera.profile}" does not give'
    return words
