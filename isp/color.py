"""White balance, 3x3 colour matrices, XYZ: the conversion from `sensor` to `linear` and back.

Matrices act on a pixel as a column vector: out_i = sum_j M_ij v_j.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from isp import cfa as _cfa
from isp.camera import Camera

# sRGB primaries, D65 white. Source: iec61966; rim2022, RSBlur@ae33a6c (the transpose of its row-convention matrix)
LINEAR_TO_XYZ = (
    (0.41245643908969226, 0.3575760776439089, 0.1804374832663989),
    (0.21267285140562256, 0.7151521552878178, 0.07217499330655956),
    (0.019333895582329303, 0.11919202588130294, 0.9503040785363677),
)
# The inverse, rounded as in the published code; it differs from the true inverse by 8e-8.
XYZ_TO_LINEAR = (
    (3.2404541621141045, -1.537138512797716, -0.4985314095560159),
    (-0.9692660305051868, 1.8760108454466942, 0.04155601753034981),
    (0.055643430959114726, -0.20402591351675384, 1.0572251882231791),
)
# Bradford chromatic adaptation. Source: rim2022, RSBlur@ae33a6c (M_d652d50)
D65_TO_D50 = (
    (1.0477827237215072, 0.022869851951838428, -0.0501353148871517),
    (0.02951563641572715, 0.9905096959663051, -0.01705024649104856),
    (-0.009238372726848588, 0.015051532210123824, 0.7520477048739399),
)


def _float64(matrix: object) -> Float[Tensor, "3 3"]:
    return torch.as_tensor(matrix, dtype=torch.float64, device="cpu")


def apply_matrix(image: Float[Tensor, "b 3 h w"], matrix: Float[Tensor, "n 3 3"]) -> Float[Tensor, "b 3 h w"]:
    """Apply a matrix to every pixel: one matrix for all images, or one for each."""
    if len(matrix) not in (1, len(image)):
        raise ValueError(f"matrix: expected one 3x3 or one for each of the {len(image)} images, got {len(matrix)}")
    return torch.matmul(matrix.to(image.dtype), image.flatten(2)).reshape(image.shape)


def white_balance(bayer: Float[Tensor, "b 1 h w"], camera: Camera) -> Float[Tensor, "b 1 h w"]:
    """Multiply each photosite of the mosaic by the white-balance gain of its colour."""
    return _cfa.site_gains(bayer, camera.white_balance, camera.cfa)


def sensor_to_linear(sensor: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
    """Apply white balance, then the camera's matrix; nothing is clipped. Inverse: `linear_to_sensor`.

        linear = sensor_to_linear @ (white_balance * sensor)

    Source: kim2024, §3.2
    """
    return apply_matrix(sensor, camera.sensor_to_linear * camera.white_balance[:, None, :])


def linear_to_sensor(linear: Float[Tensor, "b 3 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
    """Apply the camera's inverse matrix, then undo white balance; nothing is clipped. Inverse: `sensor_to_linear`.

    Source: kim2024, §3.3
    """
    inverse = torch.linalg.inv(camera.sensor_to_linear.double()) / camera.white_balance.double()[:, :, None]
    return apply_matrix(linear, inverse)


# ---------------------------------------------------------------- where camera matrices come from


def matrix_from_libraw(xyz_to_sensor: object) -> Float[Tensor, "3 3"]:
    """Return `sensor_to_linear` from the LibRaw (Adobe, dcraw) coefficients of a camera, in float64; rows sum to 1.

    The matrix from linear RGB to white-balanced camera RGB is `xyz_to_sensor @ LINEAR_TO_XYZ`, each row scaled to sum 1 so
    that white stays white. This is its inverse. Raises `ValueError` if the coefficients are zero or singular.
    Source: rim2022, RSBlur@ae33a6c (a7r3_xyz2cam)
    """
    linear_to_sensor: Tensor = _float64(xyz_to_sensor) @ _float64(LINEAR_TO_XYZ)
    linear_to_sensor = linear_to_sensor / linear_to_sensor.sum(1, keepdim=True)
    if not bool(torch.isfinite(linear_to_sensor).all()) or abs(float(torch.linalg.det(linear_to_sensor))) < 1e-6:
        raise ValueError(f"xyz_to_sensor: expected an invertible 3x3 with non-zero row sums, got {xyz_to_sensor}")
    inverse: Tensor = torch.linalg.inv(linear_to_sensor)
    return inverse


def daylight_white_balance(xyz_to_sensor: object) -> Float[Tensor, " 3"]:
    """Return the white-balance gains under D65, from a camera's LibRaw coefficients, in float64; green is 1.

    The sensor sees D65 white as `xyz_to_sensor @ LINEAR_TO_XYZ @ (1, 1, 1)`; the gains make its channels equal.
    Raises `ValueError` if a channel does not respond to white.
    """
    response = (_float64(xyz_to_sensor) @ _float64(LINEAR_TO_XYZ)).sum(1)
    if not bool((response > 0).all()):
        raise ValueError(f"xyz_to_sensor: expected a positive response to white, got {response.tolist()}")
    gains: Tensor = response[1] / response
    return gains


def matrix_from_libraw_rows_3(xyz_to_sensor: object) -> Float[Tensor, "3 3"]:
    """Return `sensor_to_linear` of the published ParamISP, in float64: XYZ_TO_LINEAR @ inv(xyz_to_sensor), rows summing to 3.

    White becomes 3, so no other ISP can use this matrix: see `matrix_from_libraw`.
    Source: kim2024, ParamISP@0e4913f
    """
    sensor_to_linear: Tensor = _float64(XYZ_TO_LINEAR) @ torch.linalg.inv(_float64(xyz_to_sensor))
    return sensor_to_linear / sensor_to_linear.mean(1, keepdim=True)


def matrix_from_rsblur(color_correction: object) -> Float[Tensor, "3 3"]:
    """Return `sensor_to_linear` from the colour correction matrix of one RSBlur capture day, in float64.

    The published matrix uses the row convention and acts in D50-adapted XYZ. Camera RGB is treated as if it were linear
    sRGB: linear -> XYZ -> D50 -> matrix -> D65 -> linear.
    Source: rim2022, RSBlur@ae33a6c (poisson_RSBlur)
    """
    to_xyz_d50: Tensor = _float64(D65_TO_D50) @ _float64(LINEAR_TO_XYZ)
    from_xyz_d50: Tensor = _float64(XYZ_TO_LINEAR) @ torch.linalg.inv(_float64(D65_TO_D50))
    sensor_to_linear: Tensor = from_xyz_d50 @ _float64(color_correction).T @ to_xyz_d50
    return sensor_to_linear
