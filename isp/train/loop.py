"""The training loop of any `Trainable`: a run can be killed anywhere, and resumes to the same weights."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from isp import cfa, command
from isp.command import Pace, progress
from isp.contract import Batch, Trainable
from isp.files import torch_file, weights
from isp.files.pictures import write_image
from isp.files.whole import replace_file
from isp.metrics import psnr_db
from isp.train.data import Folders, VirtualShots, training_batch, validation_batches
from isp.train.plan import Plan

STATE = "state.pt"
_STATE = {"plan": str, "step": int, "best_db": float, "networks": dict, "optimiser": dict}  # what is in it
SAVE_EVERY_S = 300  # between validations, so that a kill costs minutes


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among the `size` processes of a run, which torchrun starts; or the only process."""

    rank: int = 0
    size: int = 1

    def rows(self, batch: int) -> range:
        """Return the rows of a step that this process does. Raises `ValueError` if the rows cannot be shared evenly."""
        if batch % self.size:
            raise ValueError(f"batch: expected a multiple of the {self.size} processes, got {batch}; change batch")
        each = batch // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def mean(self, tensor: Tensor) -> Tensor:
        """Compute the mean over all processes, in each of them, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            tensor /= self.size
        return tensor


# ---------------------------------------------------------------- a run


def predictions(model: Trainable, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """Compute {what is predicted: (prediction, target)}; predictions are clipped to [0, 1], as in every test of the paper."""
    camera, found = batch.camera, {}
    if "inverse" in model.directions:
        estimated = cfa.mosaic(model.inverse(batch.srgb, camera), camera.cfa)
        found["raw"] = estimated.clamp(0, 1), batch.bayer
    if "forward" in model.directions:
        found["srgb"] = model.forward(batch.bayer, camera, reference=batch.srgb).clamp(0, 1), batch.srgb
    if len(found) == 2:
        found["cycle"] = model.forward(found["raw"][0], camera, reference=batch.srgb).clamp(0, 1), batch.srgb
    return found


class Run:
    """Networks, optimiser and position of one training run. Raises `ValueError` if its folder holds another run."""

    def __init__(self, plan: Plan, out: Path, device: torch.device, ranks: Ranks = Ranks()) -> None:
        self.plan, self.out, self.device, self.ranks = plan, out, device, ranks
        self.model = plan.trainable()
        self.phase = plan.phase or self.model.phases[0]
        if plan.start_from:
            _fill(self.model, plan)
        for network in self.model.networks.values():
            network.to(device)
        self.optimiser = torch.optim.AdamW(self._parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
        self.step = 0
        self.best_db = -math.inf
        out.mkdir(parents=True, exist_ok=True)
        if (out / STATE).exists():
            self._resume()

    def _parameters(self) -> list[nn.Parameter]:
        parameters = (each for network in self.model.networks.values() for each in network.parameters())
        return [parameter for parameter in parameters if parameter.requires_grad]

    def _resume(self) -> None:
        path = self.out / STATE
        remedy = f"remove {STATE} to begin again"
        state = torch_file.read(path, "the state of a run", remedy)
        wrong = [key for key, kind in _STATE.items() if not isinstance(state, dict) or type(state.get(key)) is not kind]
        wrong += [] if wrong or state["step"] >= 0 else ["step"]
        wrong += [] if wrong or all(isinstance(each, dict) for each in state["networks"].values()) else ["networks"]
        if wrong:
            raise ValueError(f"{path}: expected the state of a run, got none with {', '.join(wrong)}; {remedy}")
        if state["plan"] != self.plan.text:
            raise ValueError(f"{self.out}: holds a run of another recipe; choose another --out")
        for name, network in self.model.networks.items():
            weights.fill(network, state["networks"].get(name, {}), f"{path} ({name})")
        moments = state["optimiser"].get("state")
        if not _belong_to(self._parameters(), moments):
            raise ValueError(f"{path}: expected the moments of AdamW for these networks, got others; {remedy}")
        # The settings are those of the plan; only the moments come from the file.
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        self.step, self.best_db = state["step"], state["best_db"]

    def save(self) -> None:
        """Write the state whole or not at all. It is an archive, in which every member has a checksum (CRC-32)."""
        content = io.BytesIO()
        state = {
            "plan": self.plan.text,
            "step": self.step,
            "best_db": self.best_db,
            "networks": {name: network.state_dict() for name, network in self.model.networks.items()},
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, content)
        replace_file(self.out / STATE, content.getvalue())

    def export(self, camera: str) -> None:
        """Write the networks as weight files that `isp.create("BACKEND/FOLDER")` opens."""
        stored = getattr(torch, self.plan.store)
        for name, network in self.model.networks.items():
            weights.write(
                self.out / f"{name}.safetensors",
                {
                    key: value.to(stored) if value.is_floating_point() else value
                    for key, value in network.state_dict().items()
                },
                backend=self.plan.backend,
                direction=name,
                camera=camera,
                licence=self.plan.licence,
                recipe=self.plan.text,
                **self.model.metadata,
            )

    def advance(self, pairs: Sequence[Sequence[Any]]) -> dict[str, float]:
        """Train for one step. Return "loss" and its parts by name, the same whatever the number of processes."""
        plan = self.plan
        batch = training_batch(pairs, plan, self.step, self.ranks.rows(plan.batch), self.device)
        epoch = self.step * plan.batch // (plan.patches * len(pairs))
        for group in self.optimiser.param_groups:
            group["lr"] = plan.lr * plan.decay ** (epoch // plan.every)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
            loss, parts = self.model.loss(batch, self.phase)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = self._parameters()
        for parameter in parameters:
            if parameter.grad is None:  # its term was dropped in this step
                parameter.grad = torch.zeros_like(parameter)
        if self.ranks.size > 1:
            # One message for all of them: hundreds of small messages take longer than a small step.
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            means = self.ranks.mean(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, mean in zip(gradients, torch.split(means, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        self.optimiser.step()
        self.step += 1
        figures = {"loss": loss, **parts}
        means = self.ranks.mean(torch.stack([figure.detach().float() for figure in figures.values()]))
        return dict(zip(figures, means.tolist(), strict=True))

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Compute the mean PSNR in dB over the patches, by what is predicted."""
        found: dict[str, list[float]] = {}
        for batch in batches:
            for name, (predicted, target) in predictions(self.model, batch.to(self.device)).items():
                found.setdefault(name, []).append(psnr_db(predicted, target, self.plan.border))
        return {name: float(np.mean(values)) for name, values in found.items()}

    @torch.no_grad()
    def write_pictures(self, batch: Batch, path: Path) -> None:
        """Write prediction | target | eight times their difference, a row for each prediction; RAW images are brightened."""
        rows = []
        for name, (predicted, target) in predictions(self.model, batch.to(self.device)).items():
            three = torch.cat([predicted, target, (8 * (predicted - target)).abs()], 3)[0].clamp(0, 1).cpu()
            three = three.expand(3, -1, -1) ** (1 / 2.2 if name == "raw" else 1)
            rows.append((255 * three).round().permute(1, 2, 0).numpy().astype(np.uint8))
        write_image(path, np.concatenate(rows))


def _belong_to(parameters: Sequence[nn.Parameter], moments: Any) -> bool:
    """Tell whether `moments` are those of AdamW for each of `parameters`."""
    if not isinstance(moments, dict) or moments.keys() != set(range(len(parameters))):
        return False
    for number, parameter in enumerate(parameters):
        shapes = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        found = moments[number]
        if not isinstance(found, dict) or found.keys() != shapes.keys():
            return False
        if not all(isinstance(found[key], Tensor) and found[key].shape == shape for key, shape in shapes.items()):
            return False
    return True


def _fill(model: Trainable, plan: Plan) -> None:
    """Fill the networks from the files that the plan starts from. Raises `ValueError` if a network is in none, or in two."""
    wanted, filled = " and ".join(model.networks), set()
    for file in plan.start_from:
        for name, tensors in weights.read_for(plan.backend, Path(file)).networks.items():
            if name in filled or name not in model.networks:
                raise ValueError(f"{file}: expected weights of {wanted}, each once, got {name}; change start_from")
            weights.fill(model.networks[name], tensors, file)  # type: ignore[index]
            filled.add(name)
    missing = [name for name in model.networks if name not in filled]
    if missing:
        raise ValueError(f"start_from: expected weights of {wanted}, but {missing[0]} is missing; name its file, too")


class DivergedError(ValueError):
    """The loss is not finite, and no further step would make it finite."""


def train(
    plan: Plan, source: Folders | VirtualShots, out: Path, device: torch.device, ranks: Ranks, steps: int | None = None
) -> dict[str, float]:
    """Run `plan` to its end, or for `steps` more steps; return the last validation. Only rank 0 writes files and progress.

    Raises `DivergedError` at the first loss that is not finite; what was saved before it stays.
    """
    pairs, batches = source.pairs("train"), validation_batches(source.pairs("val"), plan.validate_patches, plan.patch)
    run = Run(plan, out, device, ranks)
    per_epoch = max(1, plan.patches * len(pairs) // plan.batch)
    last = plan.epochs * per_epoch
    last = last if steps is None else min(last, run.step + steps)
    board = _board(out) if ranks.rank == 0 else None
    camera = "+".join(dict.fromkeys(pair.camera.name[0] for shots in pairs for pair in shots[:1]))
    result: dict[str, float] = {}
    figures: dict[str, float] = {}
    saved = time.monotonic()

    def line(pace: Pace) -> str:
        shown = ", ".join(f"{name} {value:.5f}" for name, value in figures.items())
        return f"step {run.step}/{last}, {shown}, {pace.rate * plan.batch:.1f} patches/s, {pace.left_s:.0f} s left"

    with progress(float(last - run.step), line) if ranks.rank == 0 else nullcontext(lambda step: None) as meter:
        while run.step < last:
            figures = run.advance(pairs)
            if not math.isfinite(figures["loss"]):
                raise DivergedError(
                    f"step {run.step}: expected a finite loss, got {figures['loss']}; the run has diverged. "
                    f"Begin again in another folder with a lower lr than {plan.lr:g}; {out} keeps what was saved before"
                )
            meter(1.0)
            if board is not None:
                for name, value in figures.items():
                    board.add_scalar("loss" if name == "loss" else f"loss/{name}", value, run.step)
            if run.step % (per_epoch * plan.validate_every) == 0 or run.step == last:
                result = run.validate(batches)
                if ranks.rank == 0:
                    _record(run, result, batches, camera, board)
                saved = time.monotonic()
            elif ranks.rank == 0 and time.monotonic() - saved > SAVE_EVERY_S:
                run.save()
                saved = time.monotonic()
    return result


def _record(run: Run, result: dict[str, float], batches: Sequence[Batch], camera: str, board: Any) -> None:
    command.warn(", ".join(f"{name} {value:.2f} dB" for name, value in result.items()))
    if board is not None:
        for name, value in result.items():
            board.add_scalar(f"psnr/{name}", value, run.step)
    mean = float(np.mean(list(result.values())))
    if mean > run.best_db:
        run.best_db = mean
        run.export(camera)
        run.write_pictures(batches[0], run.out / "validation.png")
    run.save()


def _board(out: Path) -> Any:
    """Return TensorBoard's writer, or None if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out))
