"""Forward and inverse camera ISPs behind one contract.

isp.create("paramisp")         create an ISP: .inverse(srgb, camera) -> sensor, .forward(bayer, camera) -> srgb
isp.names()                    list every ISP that can be created
isp.Camera                     the metadata of a shot
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isp.camera import Camera
    from isp.contract import ISP, Limits
    from isp.registry import create, names

__all__ = ["ISP", "Camera", "Limits", "create", "names"]

_HOMES = {"Camera": "camera", "ISP": "contract", "Limits": "contract", "create": "registry", "names": "registry"}


def __getattr__(name: str) -> Any:
    # Torch takes a second to import; reading image files or printing --help must not wait for it.
    if name in _HOMES:
        return getattr(import_module(f"isp.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'isp' has no attribute {name!r}")
