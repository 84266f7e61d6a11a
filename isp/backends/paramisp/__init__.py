"""ParamISP (Kim et al. 2024): the learned ISP pair behind the contract, opened from weight files.

The variants are the weights that come with the package; docs/weights.md describes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from isp import color
from isp.backends.paramisp import strips
from isp.backends.paramisp.checkpoints import PUBLISHED
from isp.backends.paramisp.design import Design
from isp.backends.paramisp.feature_map import Storage
from isp.backends.paramisp.network import ParamISPNet
from isp.backends.paramisp.training import CHOICES, trainable
from isp.camera import Camera
from isp.contract import Direction, Limits, Meter, Strategy

__all__ = ["CHOICES", "PUBLISHED", "TAKES_PATHS", "VARIANTS", "ParamISP", "create", "trainable"]

MatrixKind = Literal["rows_1", "official"]
PRETRAINED = Path(__file__).parents[2] / "pretrained" / "paramisp"
VARIANTS = ("a7r3-virtual", "d7000-virtual")
TAKES_PATHS = True
# Border pixels that a crop spoils, by `border_effect` at a tolerance of 1/255: on photographs the A7R3's weights spoil 0 and 3
# (dead leaves: 0 and 6), the D7000's 0 and 5, random weights 0 and 2; the recorded weights of the tests, chosen so that every
# layer changes the result visibly, spoil 1 and 4 at 2/255.
INVERSE_BORDER, FORWARD_BORDER = 2, 4
WHOLE_BYTES_A_PIXEL = 1700.0  # at once: a tenth above benchmarks/networks.py at 1280x720, less the program
# How networks run in strips, the preferred way first: less and less of the skip connection is kept, then maps lose precision.
STORAGES = (*(Storage(kept=eighths / 8) for eighths in range(8, -1, -1)), Storage(dtype=torch.float16))


def camera_for(matrix: MatrixKind, camera: Camera) -> Camera:
    """Give `camera` the matrix that the weights were trained with; "official" is the published code's.

    Raises `ValueError` if the published matrix of a camera is unknown.
    Source: kim2024, ParamISP@0e4913f
    """
    if matrix == "rows_1":
        return camera
    wanted = camera.sensor_to_linear.clone()
    for row, name in enumerate(camera.name):
        coefficients = None if camera.xyz_to_sensor is None else camera.xyz_to_sensor[row]
        if coefficients is not None and not bool(coefficients.isnan().any()):
            wanted[row] = color.matrix_from_libraw_rows_3(coefficients.cpu())
        elif name not in ("s7", "SAMSUNG SM-G935F"):  # whose published matrix is its own
            raise ValueError(
                f'paramisp: these weights want the published matrix of camera "{name}", which follows from xyz_to_sensor; '
                "give the camera its LibRaw coefficients, or choose weights with matrix rows_1"
            )
    return dataclasses.replace(camera, sensor_to_linear=wanted)


class ParamISP:
    """Both networks behind the contract. Optical parameters that the camera does not know are left out.

    The networks pool over the whole image, so no border makes a crop exact. The halos count the border pixels that differ
    from a larger image more than the pixels inside do: see `border_effect`. They are the same for all weights.
    """

    def __init__(
        self,
        name: str,
        inverse: ParamISPNet,
        forward: ParamISPNet,
        matrices: tuple[MatrixKind, MatrixKind] = ("rows_1", "rows_1"),
        weights: tuple[str, ...] = (),
        trained_for: str | None = None,
    ) -> None:
        self.name = name
        self.weights = weights
        self.limits = Limits(
            inverse_halo=INVERSE_BORDER, forward_halo=FORWARD_BORDER, camera=trained_for, renders="camera"
        )
        self.networks: dict[Direction, ParamISPNet] = {
            "inverse": inverse.requires_grad_(False),
            "forward": forward.requires_grad_(False),
        }
        self._matrices = dict(zip(("inverse", "forward"), matrices, strict=True))

    @torch.no_grad()
    def inverse(self, srgb: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
        """Return `sensor` by the inverse network.

        Source: kim2024, §3.3
        """
        sensor: Tensor = self.networks["inverse"](srgb, camera_for(self._matrices["inverse"], camera))
        return sensor

    @torch.no_grad()
    def forward(
        self, bayer: Float[Tensor, "b 1 h w"], camera: Camera, *, reference: Float[Tensor, "b 3 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Return sRGB by the forward network, clipped to [0, 1].

        Source: kim2024, §3.2
        """
        srgb: Tensor = self.networks["forward"](bayer, camera_for(self._matrices["forward"], camera))
        return srgb.clamp(0, 1)

    def strategies(self, direction: Direction, count: int, height: int, width: int) -> list[Strategy]:
        """List these ways: at once, in strips, in strips that compute parts of the skip connection twice, with float16 maps."""
        network = self.networks[direction]

        def at_once(image: Tensor, camera: Camera, _reference: Tensor | None, meter: Meter) -> Tensor:
            with strips.metered(network, meter):
                return self.inverse(image, camera) if direction == "inverse" else self.forward(image, camera)

        def in_strips(
            storage: Storage, image: Tensor, camera: Camera, _reference: Tensor | None, meter: Meter
        ) -> Tensor:
            result = strips.run(network, image, camera_for(self._matrices[direction], camera), storage, meter)
            return result if direction == "inverse" else result.clamp_(0, 1)

        return [
            Strategy(
                label="at once",
                peak_bytes=WHOLE_BYTES_A_PIXEL * count * height * width,
                work=count * strips.work(network, height, width, None),
                run=at_once,
            ),
            *(
                Strategy(
                    label=f"in strips, {storage.description}",
                    peak_bytes=strips.peak_bytes(network, count, height, width, storage),
                    work=count * strips.work(network, height, width, storage),
                    run=partial(in_strips, storage),
                )
                for storage in STORAGES
            ),
        ]


def border_effect(
    run: Callable[[Tensor], Tensor], image: Float[Tensor, "b c h w"], crop: int, tolerance: float = 1 / 255
) -> int:
    """Count the border pixels that change if the middle `crop` x `crop` of `image` is rendered alone.

    The differences from the same place of the whole image are averaged over the batch and over each ring of pixels at equal
    depth. The inner half of the crop differs as well, since the networks pool over everything they see. The result is the
    depth of the last ring in the outer half whose difference exceeds that of the inner half by more than `tolerance`.
    """
    top, left = ((side - crop) // 4 * 2 for side in image.shape[-2:])  # even: the CFA phase stays
    place = (..., slice(top, top + crop), slice(left, left + crop))
    difference = (run(image[place].contiguous()) - run(image)[place]).abs().mean((0, 1))
    inset = torch.minimum(torch.arange(crop, device="cpu"), torch.arange(crop - 1, -1, -1, device="cpu"))
    depth = torch.minimum(inset[:, None], inset)
    rings = torch.stack([difference[depth == ring].mean() for ring in range(crop // 4)])
    beyond = (rings > difference[depth >= crop // 4].mean() + tolerance).nonzero()
    return int(beyond.max()) + 1 if len(beyond) else 0


class _Trained(NamedTuple):
    """One network and the metadata of its file; `camera` is the camera that it was trained for."""

    network: ParamISPNet
    matrix: MatrixKind
    camera: str
    digest: str


def _networks_of(path: Path) -> dict[str, _Trained]:
    """Open the networks in one weight file, by their direction."""
    from isp.files import weights

    read = weights.read_for("paramisp", path)
    matrix = read.metadata.get("matrix")
    if matrix not in get_args(MatrixKind):
        raise ValueError(f"{path}: expected weights with matrix rows_1 or official, got {matrix}")
    try:
        design = Design.from_json(read.metadata.get("design", ""))
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from problem
    found = {}
    for direction, tensors in read.networks.items():
        if direction not in get_args(Direction):
            raise ValueError(f"{path}: expected the direction inverse, forward or joint, got {direction}")
        network = ParamISPNet(cast(Direction, direction), design)
        weights.fill(network, tensors, str(path))
        found[direction] = _Trained(network, cast(MatrixKind, matrix), read.metadata["camera"], read.digest)
    return found


def _files(variant: str) -> list[Path]:
    """Find the files of one of `VARIANTS`, of a folder with inverse.safetensors and forward.safetensors, FILE, or FILE+FILE.

    Raises `ValueError` if there is nothing of that name.
    """
    path = PRETRAINED / variant if variant in VARIANTS else Path(variant)
    if path.is_dir():
        return [path / "inverse.safetensors", path / "forward.safetensors"]
    if path.is_file():
        return [path]
    if "+" in variant:
        return [Path(part) for part in variant.split("+")]
    raise ValueError(
        f"paramisp/{variant}: expected {', '.join(VARIANTS)}, a folder with inverse.safetensors and forward.safetensors, "
        f'or weight files, but there is no "{variant}"'
    )


def create(variant: str, device: torch.device | str) -> ParamISP:
    """Open the ISP of a variant or of weight files; an empty name means the first variant.

    Raises `ValueError` if there are no weights of that name, or if one direction is missing or there twice.
    """
    variant = variant or VARIANTS[0]
    found: dict[str, _Trained] = {}
    for path in _files(variant):
        for direction, trained in _networks_of(path).items():
            if direction in found:
                raise ValueError(
                    f"paramisp/{variant}: expected one inverse and one forward network, got two of {direction}"
                )
            found[direction] = trained
    missing = [direction for direction in get_args(Direction) if direction not in found]
    if missing:
        raise ValueError(f"paramisp/{variant}: expected weights of both directions, but {missing[0]} is not among them")
    inverse, forward = found["inverse"], found["forward"]
    return ParamISP(
        f"paramisp/{variant}",
        inverse.network.to(device),
        forward.network.to(device),
        matrices=(inverse.matrix, forward.matrix),
        weights=tuple(dict.fromkeys((inverse.digest, forward.digest))),
        trained_for=inverse.camera if inverse.camera == forward.camera else None,
    )
