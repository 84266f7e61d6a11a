"""Whether the stages of a recipe join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blursynth.stages.blur import CameraShake, KernelBank
from blursynth.stages.camera import DrawCamera
from blursynth.stages.finish import Jpeg, ToneCurve
from blursynth.stages.geometry import CropBorder
from blursynth.stages.isp import ForwardISP, InverseISP
from blursynth.stages.noise import SensorNoise
from isp import profile as profiles
from isp.space import Space

if TYPE_CHECKING:
    from blursynth.recipe import Recipe


def problems(recipe: Recipe) -> list[str]:
    """Do the stages join: spaces, what each needs, sizes, borders, and the limits of the ISPs?"""
    found = []
    space: Space = "srgb"
    have = {"one_frame"} if recipe.source.use != "frames" else set()
    have |= {"saturation"} if recipe.source.use == "pairs" else set()
    size: tuple[int, int] | None = None
    halo = 0
    renders_camera = ""
    camera: DrawCamera | None = None
    before = "the source"
    for at, (label, stage) in enumerate(recipe.labelled):
        where = f"stages.{at}.{label}"
        if space not in stage.takes:
            found.append(f"{where}: takes {' or '.join(stage.takes)}, but {before} gives {space}")
        missing = [need for need in stage.needs if need not in have]
        found += [f"{where}: {_MISSING[need]}" for need in missing]
        have |= {*missing}  # said once
        if isinstance(stage, DrawCamera):
            if camera is not None:
                found.append(f"{where}: a picture is taken by one camera; leave one out")
            camera = stage
        if isinstance(stage, SensorNoise) and camera is not None:
            noise = profiles.load(stage.profile).noise if stage.profile else None
            if noise is not None and noise.iso is not None and not _has_iso(camera):
                found.append(
                    f'{where}: the noise of profile "{stage.profile}" follows ISO, which camera "{camera.profile}" does not '
                    "give; set camera.iso to a range"
                )
        if isinstance(stage, InverseISP | ForwardISP):
            found += [f"{where}: {problem}" for problem in _limits(stage, size, camera)]
        if isinstance(stage, ForwardISP) and stage.limits.renders == "camera":
            renders_camera = stage.isp
        if isinstance(stage, ToneCurve) and renders_camera:
            found.append(
                f"{where}: {renders_camera} already renders camera JPEGs, and a response must not be applied twice; "
                "leave tone_curve out or choose rsblur/srgb"
            )
        if isinstance(stage, CropBorder):
            if stage.pixels < halo:
                found.append(
                    f"{where}.pixels: expected at least {halo}, the border that the stages before it spoil, "
                    f"got {stage.pixels}; raise it, and the crop by twice as much"
                )
            halo = 0
        if isinstance(stage, Jpeg) and any(isinstance(later, CropBorder) for later in recipe.stages[at:]):
            found.append(f"{where}: its blocks carry spoiled border pixels inwards; put it after crop_border")
        halo += stage.halo
        size = stage.size_after(size)
        if size is not None and min(size) < 1:
            found.append(f"{where}: nothing is left of the picture, its size would be {size[0]}x{size[1]}")
            size = None
            break
        have |= set(stage.brings)
        space = stage.gives or space
        before = f'"{label}"'
    if not any(isinstance(stage, InverseISP | ForwardISP) for stage in recipe.stages):
        found += [f"isp: {problem.removeprefix('isp: ')}" for problem in InverseISP(isp=recipe.isp).problems()]
    if space != "srgb":
        found.append(f"stages: expected the last stage to give srgb, but {before} gives {space}")
    if "one_frame" not in have:
        found.append(f"stages: {_MISSING['one_frame']}")
    if halo:
        found.append(f"stages: the border of {halo} pixels is spoiled at the end; add crop_border: {{pixels: {halo}}}")
    if size is None:
        found.append("stages: the pairs of a shard must have one size; add crop: {size: 256} (or [height, width])")
    return found + _saves(recipe, camera, have)


_MISSING = {
    "camera": 'needs a camera; put "camera" before it',
    "one_frame": 'needs one image, but the source gives frames; put "accumulate" before it',
    "saturation": 'needs saturation light; put "inverse_isp" or "decode_srgb" before it',
    "saturated": 'needs to know what is saturated; put "saturate" before it',
}


def _limits(stage: InverseISP | ForwardISP, size: tuple[int, int] | None, camera: DrawCamera | None) -> list[str]:
    """Limits of the stage's ISP that this recipe would break."""
    limits = stage.limits
    found = []
    if size is not None and any(side % limits.multiple_of for side in size):
        found.append(
            f"{stage.isp} needs height and width to be multiples of {limits.multiple_of}, got {size[0]}x{size[1]}; "
            "change the crop before it"
        )
    if limits.needs_reference and isinstance(stage, ForwardISP):
        found.append(f"{stage.isp} needs an sRGB reference of the scene, which this pipeline does not give")
    if camera is None:
        return found
    wrong = [pattern for pattern in camera.cfa if pattern not in limits.cfas]
    if wrong:
        found.append(
            f"{stage.isp} needs the CFA pattern {' or '.join(limits.cfas)}, got {', '.join(wrong)} (camera.cfa); set "
            f"camera.cfa to [{', '.join(limits.cfas)}] or choose another ISP"
        )
    exif = profiles.load(camera.profile).exif
    known = {"iso": _has_iso(camera)} | {field: getattr(exif, field) is not None for field in type(exif).model_fields}
    unknown = [field for field in limits.needs if not known.get(field, True)]
    if unknown:
        found.append(
            f'{stage.isp} needs {", ".join(unknown)}, which the camera profile "{camera.profile}" does not give'
        )
    return found


def _has_iso(camera: DrawCamera) -> bool:
    return camera.iso != "profile" or any(shot.iso for shot in profiles.load(camera.profile).shots)


def _saves(recipe: Recipe, camera: DrawCamera | None, have: set[str]) -> list[str]:
    found = []
    renders = any(isinstance(stage, ForwardISP) for stage in recipe.stages)
    if recipe.target == "rendered" and not renders:
        found.append('target: "rendered" needs a forward_isp; use "source"')
    if "raw" in recipe.save:
        if not renders:
            found.append('save: "raw" needs "mosaic" and "forward_isp"; leave it out')
        elif camera is not None and profiles.load(camera.profile).levels is None:
            found.append(
                f'save: "raw" needs black and white levels, which the profile "{camera.profile}" does not give'
            )
    if "kernel" in recipe.save and sum(isinstance(stage, CameraShake | KernelBank) for stage in recipe.stages) > 1:
        found.append('save: "kernel" can hold one kernel, but there are several stages that blur by one; leave it out')
    for what in ("kernel", "saturated"):
        if what in recipe.save and what not in have:
            makes = {"kernel": '"camera_shake" or "kernel_bank"', "saturated": '"saturate"'}[what]
            found.append(f'save: "{what}" needs {makes} among the stages; leave it out')
    return found
