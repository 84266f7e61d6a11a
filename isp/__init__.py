"""Forward and inverse camera ISPs behind one contract.

isp.create("rsblur/a7r3")      an ISP: .inverse(srgb, camera) -> sensor, .forward(bayer, camera) -> srgb
isp.names()                    every ISP that can be created
isp.Camera                     the metadata of a shot
"""

from isp.camera import Camera
from isp.contract import ISP, Limits
from isp.registry import create, names

__all__ = ["ISP", "Camera", "Limits", "create", "names"]
