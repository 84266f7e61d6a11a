"""ParamISP (Kim et al. 2024): the learned ISP pair behind the contract, opened from weight files.

The variants are the weights that come with the package; docs/weights.md says what they are.
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
from isp.backends.paramisp.design import Design
from isp.backends.paramisp.network import ParamISPNet
from isp.backends.paramisp.strips import Storage
from isp.camera import Camera
from isp.contract import Direction, Limits, Meter, Strategy

MatrixKind = Literal["rows_1", "official"]
PRETRAINED = Path(__file__).parents[2] / "pretrained" / "paramisp"
VARIANTS = ("a7r3-virtual", "d7000-virtual")
TAKES_PATHS = True
# Border pixels that a crop spoils, by `border_effect` at a tolerance of 1/255: on photographs the A7R3's weights spoil 0 and 3
# (dead leaves: 0 and 6), the D7000's 0 and 5, random weights 0 and 2; at 2/255 the recorded ones, made to be felt, 1 and 4.
INVERSE_BORDER, FORWARD_BORDER = 2, 4
WHOLE_BYTES_A_PIXEL = 1700.0  # at once: a tenth above benchmarks/networks.py at 1280x720, less the program
# How much of its skip connection a network keeps when it runs in strips, the preferred first; then the type of its maps.
STORAGES = (*(Storage(kept=eighths / 8) for eighths in range(8, -1, -1)), Storage(dtype=torch.float16))


def camera_for(matrix: MatrixKind, camera: Camera) -> Camera:
    """`camera` with the matrix that the weights were trained with; "official" is that of the published code.

    Raises `ValueError` for a camera whose published matrix is not known.
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

    The networks pool over the whole image, so no border makes a crop exact. The halos say how many border pixels differ
    more from a larger image than the pixels inside do: see `border_effect`. They are the same for all weights.
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
        """Source: kim2024, §3.3"""
        sensor: Tensor = self.networks["inverse"](srgb, camera_for(self._matrices["inverse"], camera))
        return sensor

    @torch.no_grad()
    def forward(
        self, bayer: Float[Tensor, "b 1 h w"], camera: Camera, *, reference: Float[Tensor, "b 3 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Source: kim2024, §3.2"""
        srgb: Tensor = self.networks["forward"](bayer, camera_for(self._matrices["forward"], camera))
        return srgb.clamp(0, 1)

    def strategies(self, direction: Direction, count: int, height: int, width: int) -> list[Strategy]:
        """At once, in strips, in strips that compute a part of the skip connection again, in strips of float16 maps."""
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
                    label=f"in strips, {storage.said}",
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
    """How many border pixels of the middle `crop` x `crop` of `image`, rendered alone, suffer from not seeing beyond.

    Its differences from the same place of the whole are averaged over the batch and over each ring of pixels that lie
    equally deep. Counted are the rings of the outer half up to the last that differs by more than `tolerance` beyond the
    inner half, which differs because the networks pool over all they see.
    """
    top, left = ((side - crop) // 4 * 2 for side in image.shape[-2:])  # even: the CFA phase stays
    place = (..., slice(top, top + crop), slice(left, left + crop))
    difference = (run(image[place].contiguous()) - run(image)[place]).abs().mean((0, 1))
    inset = torch.minimum(torch.arange(crop), torch.arange(crop - 1, -1, -1))
    depth = torch.minimum(inset[:, None], inset)
    rings = torch.stack([difference[depth == ring].mean() for ring in range(crop // 4)])
    beyond = (rings > difference[depth >= crop // 4].mean() + tolerance).nonzero()
    return int(beyond.max()) + 1 if len(beyond) else 0


class _Trained(NamedTuple):
    """One network, and what its file says of it; `camera` is what it was trained for."""

    network: ParamISPNet
    matrix: MatrixKind
    camera: str
    digest: str


def _networks_of(path: Path) -> dict[str, _Trained]:
    """The networks in one weight file by their direction."""
    from isp.files import weights

    read = weights.read(path)
    said = read.metadata
    if said["backend"] != "paramisp" or said["matrix"] not in get_args(MatrixKind):
        raise ValueError(
            f"{path}: expected weights of paramisp with matrix rows_1 or official, got {said['backend']} with {said['matrix']}"
        )
    if said["direction"] not in (*get_args(Direction), "joint"):
        raise ValueError(f"{path}: expected the direction inverse, forward or joint, got {said['direction']}")
    design = Design.from_json(said["design"])
    found = {}
    for direction in get_args(Direction) if said["direction"] == "joint" else (said["direction"],):
        prefix = f"{direction}." if said["direction"] == "joint" else ""
        network = ParamISPNet(direction, design)
        own = {name.removeprefix(prefix): value for name, value in read.tensors.items() if name.startswith(prefix)}
        weights.fill(network, own, of=str(path))
        found[direction] = _Trained(network, cast(MatrixKind, said["matrix"]), said["camera"], read.digest)
    return found


def _files(variant: str) -> list[Path]:
    """One of `VARIANTS`, FOLDER (with inverse.safetensors and forward.safetensors), FILE (joint), or FILE+FILE.

    Raises `ValueError` where there is nothing of that name.
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
    """The ISP of a variant or of weight files; with an empty name, of the first variant.

    Raises `ValueError` where there are no weights of that name, or not those of both directions.
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
