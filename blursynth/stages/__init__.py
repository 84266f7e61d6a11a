"""Every stage that a recipe can name."""

from blursynth.stages.blur import Accumulate, CameraShake, KernelBank
from blursynth.stages.camera import DrawCamera
from blursynth.stages.finish import DecodeSRGB, EncodeSRGB, Jpeg, ToneCurve
from blursynth.stages.geometry import Crop, CropBorder, Dihedral
from blursynth.stages.isp import ForwardISP, InverseISP, Mosaic
from blursynth.stages.noise import SensorNoise, SRGBNoise
from blursynth.stages.saturate import KeepSaturated, Saturate
from blursynth.stages.stage import Stage

STAGES: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (
        Crop, Dihedral, DrawCamera, InverseISP, DecodeSRGB, CameraShake, KernelBank, Accumulate, Saturate,
        Mosaic, SensorNoise, ForwardISP, EncodeSRGB, SRGBNoise, KeepSaturated, ToneCurve, Jpeg, CropBorder,
    )
}  # fmt: skip

__all__ = ["STAGES", "Stage"]
