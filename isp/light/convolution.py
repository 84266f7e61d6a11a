"""Uniform blur: convolution of an image with a kernel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional


def convolve(image: Float[Tensor, "f c h w"], kernel: Float[Tensor, "k k"]) -> Float[Tensor, "f c h w"]:
    """Convolve `image` with a kernel of odd size; borders are mirrored.

        blurred(p) = sum_q kernel(q) image(p - q)

    A border as wide as the kernel's radius depends on the mirrored pixels. Computed by FFT: its wrap-around falls on
    padded pixels, which are cut off again.
    Raises `ValueError` if the image is not larger than the kernel's radius.
    """
    radius = len(kernel) // 2
    height, width = image.shape[-2:]
    if radius >= min(height, width):
        raise ValueError(f"convolve: expected an image larger than the kernel's radius {radius}, got {height}x{width}")
    padded = functional.pad(image, (radius,) * 4, mode="reflect")
    fast_height, fast_width = (next_fast_len(side, real=True) for side in padded.shape[-2:])
    spectrum = torch.fft.rfft2(padded, s=(fast_height, fast_width))
    transfer = torch.fft.rfft2(kernel.to(image), s=(fast_height, fast_width))
    blurred = torch.fft.irfft2(spectrum * transfer, s=(fast_height, fast_width))
    inside: Tensor = blurred[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]
    return inside
