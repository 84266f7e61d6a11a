"""Addressed randomness of the pipeline. It lives in `isp.rng`, since the training of ISPs draws from it too."""

from isp.rng import generator

__all__ = ["generator"]
