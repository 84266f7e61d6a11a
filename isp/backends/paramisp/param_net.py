"""ParamNet: the optical parameters of a shot as one feature vector (kim2024, Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from isp.backends.paramisp.design import WIDTH, Design
from isp.camera import Camera


# x/scale, its roots and their reciprocals lie in [0, 1] for x in [smallest, scale], and (log2 x - offset) / span with
# them; the sines and cosines lie in [-1, 1]. Source: kim2024, §3.1; kim2024, ParamISP@0e4913f (constants)
@dataclass(frozen=True)
class _Equalisation:
    scale: float
    smallest: float
    log_offset: float
    log_span: float
    periods: tuple[float, float, float]


EQUALISATION: dict[str, _Equalisation] = {
    "focal_mm": _Equalisation(200.0, 4.2, 1.9, 5.8, (50.0, 30.0, 20.0)),
    "f_number": _Equalisation(32.0, 1.7, 0.7, 4.3, (11.0, 5.0, 2.0)),
    "exposure_s": _Equalisation(30.0, 1 / 28800, -15.0, 20.0, (11.0, 5.0, 2.0)),
    "iso": _Equalisation(8000.0, 64.0, 6.0, 7.0, (3100.0, 1300.0, 500.0)),
}


def equalise(value: Float[Tensor, " b"], parameter: str) -> Float[Tensor, "b 15"]:
    """Compute the 15 non-linear mappings of an optical parameter that is above 0.

    Source: kim2024, §3.1
    """
    by = EQUALISATION[parameter]
    scaled, inverse, log = value / by.scale, 1 / (value / by.smallest), torch.log2(value)
    powers = [scaled, scaled.sqrt(), scaled.sqrt().sqrt(), inverse, inverse.sqrt(), inverse.sqrt().sqrt()]
    logs = [(log - by.log_offset) / by.log_span, log.sin(), log.cos()]
    waves = [wave for period in by.periods for wave in ((value / period).sin(), (value / period).cos())]
    return torch.stack([*powers, *logs, *waves], 1)


class ParamNet(nn.Module):
    """Optical parameters -> feature vector. The sum leaves out the term of an unknown or dropped parameter.

    Source: kim2024, Fig. 3
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        mappings = 15 if design.equalisation else 1
        self.optical = nn.ModuleDict({name: nn.Linear(mappings, WIDTH) for name in design.optical})
        self.colour = nn.Linear(24, WIDTH) if design.colour_embedding else None
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, camera: Camera, generator: torch.Generator | None = None) -> Float[Tensor, "b 64"]:
        """Compute the feature vector; in training, with random dropout of optical parameters.

        Each parameter is dropped for the whole batch with probability `Design.dropout`, drawn from the CPU `generator`.
        Without a `generator` none is dropped.

        Source: kim2024, §3.1
        """
        count, device = len(camera), camera.white_balance.device
        kept = torch.ones(len(self.optical), dtype=torch.bool, device="cpu")
        if generator is not None:
            kept = torch.empty(len(self.optical), device="cpu").uniform_(generator=generator) >= self.design.dropout
        activation_first = self.design.fully_connected == "activation_first"
        total = torch.zeros(count, WIDTH, device=device)
        for term_kept, (name, layer) in zip(kept.to(device), self.optical.items(), strict=True):
            value = getattr(camera, name)
            if value is None:
                value = torch.full((count,), torch.nan, device=device)
            known = value > 0  # NaN is not
            value = torch.where(known, value, 1.0)
            term = layer(equalise(value, name) if self.design.equalisation else value[:, None])
            term = term if activation_first else functional.elu(term)
            total = total + torch.where((known & term_kept)[:, None], term, 0.0)
        if self.colour is not None:
            gains, matrix = camera.white_balance, camera.sensor_to_linear
            inverse = torch.linalg.inv(matrix.double()).to(matrix.dtype)
            total = total + self.colour(torch.cat([gains, 1 / gains, matrix.flatten(1), inverse.flatten(1)], 1))
        for layer in self.layers:
            total = layer(functional.elu(total)) if activation_first else functional.elu(layer(total))
        return total
