"""The photographs that come with scikit-image (CC0 or public domain): what is used where nobody gives any."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")


def folder() -> Path:
    """Where they lie, found without importing scikit-image. Raises `ImportError` where it is not installed."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("scikit-image: expected it for its photographs, got none; install it, or give --data")
    return Path(spec.submodule_search_locations[0], "data")
