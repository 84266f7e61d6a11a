"""The built-in photographs: those that come with scikit-image (CC0 or public domain)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")


def folder() -> Path:
    """Return their folder, without importing scikit-image. Raises `ImportError` if that is not installed."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "scikit-image: expected it to be installed for its photographs, but it is not; install it, or give --data"
        )
    return Path(spec.submodule_search_locations[0], "data")
