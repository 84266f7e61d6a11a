"""The training loop: one step, one epoch, a run that can be killed anywhere and goes on with the same weights."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, distributed

from isp import cfa
from isp.backends.paramisp.network import ParamISPNet
from isp.contract import Direction
from isp.files import weights
from isp.files.pictures import write_image
from isp.files.whole import replace_file
from isp.metrics import psnr_db
from isp.train.data import Batch, Folders, VirtualShots, quantisation_noise, training_batch, validation_batches
from isp.train.plan import Plan

STATE = "state.pt"
SAVE_EVERY_S = 300  # between validations, so that a kill costs minutes


@dataclass(frozen=True)
class Ranks:
    """The processes of a run: this one's rank among them. Started by torchrun, or alone."""

    rank: int = 0
    size: int = 1

    def rows(self, batch: int) -> range:
        """The rows of a step that are this process's. Raises `ValueError` where they cannot be shared out evenly."""
        if batch % self.size:
            raise ValueError(f"batch: expected a multiple of the {self.size} processes, got {batch}; change batch")
        each = batch // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over all processes, in every one of them."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            tensor /= self.size
        return tensor


# ---------------------------------------------------------------- losses


def l1(predicted: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], border: int) -> Float[Tensor, ""]:
    """Mean absolute difference inside a frame of `border` pixels.

    Source: kim2024, eq. 4; kim2024, eq. 5
    """
    inside = slice(border, -border or None)
    return (predicted - target)[..., inside, inside].abs().mean()


def loss_of(
    networks: Mapping[Direction, ParamISPNet], noisy: Batch, clean: Batch, plan: Plan, dropout: torch.Generator
) -> Tensor:
    """One direction: its L1 distance. Joint: that of the RAW image and that of the picture rendered from it, and, where the
    plan gives it a weight, that of the picture rendered from the recorded RAW image.

    Source: kim2024, eq. 4; kim2024, eq. 5; kim2024, eq. S1
    """
    camera = clean.camera

    def rendered(bayer: Tensor) -> Tensor:
        return l1(networks["forward"](bayer, camera, dropout), clean.srgb, plan.border)

    if plan.direction == "forward":
        return rendered(noisy.bayer)
    estimated = cfa.mosaic(networks["inverse"](noisy.srgb, camera, dropout), camera.cfa)
    loss = l1(estimated, clean.bayer, plan.border)
    if plan.direction == "joint":
        loss = loss + rendered(estimated)
        if plan.forward_weight:
            loss = loss + plan.forward_weight * rendered(noisy.bayer)
    return loss


def predictions(networks: Mapping[Direction, ParamISPNet], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """(predicted, target) by what is predicted; the predictions clipped to [0, 1], as in every test of the paper."""
    found = {}
    if "inverse" in networks:
        estimated = cfa.mosaic(networks["inverse"](batch.srgb, batch.camera), batch.camera.cfa)
        found["raw"] = estimated.clamp(0, 1), batch.bayer
    if "forward" in networks:
        found["srgb"] = networks["forward"](batch.bayer, batch.camera).clamp(0, 1), batch.srgb
    if len(networks) == 2:
        found["cycle"] = networks["forward"](found["raw"][0], batch.camera).clamp(0, 1), batch.srgb
    return found


# ---------------------------------------------------------------- a run


class Run:
    """Networks, optimiser and place of one training run. Raises `ValueError` where its folder holds another run."""

    def __init__(self, plan: Plan, out: Path, device: torch.device, ranks: Ranks = Ranks()) -> None:
        self.plan, self.out, self.device, self.ranks = plan, out, device, ranks
        design = plan.network
        self.networks = {d: ParamISPNet(d, design, seed=plan.seed) for d in plan.directions}
        for direction, file in zip(plan.directions, plan.start_from, strict=bool(plan.start_from)):
            weights.fill(self.networks[direction], weights.read(Path(file)).tensors, of=file)
        for network in self.networks.values():
            network.to(device)
        self.optimiser = torch.optim.AdamW(self._parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
        self.step = 0
        self.best_db = -math.inf
        out.mkdir(parents=True, exist_ok=True)
        if (out / STATE).exists():
            self._resume()

    def _parameters(self) -> list[Tensor]:
        return [parameter for network in self.networks.values() for parameter in network.parameters()]

    def _resume(self) -> None:
        try:
            state: dict[str, Any] = torch.load(self.out / STATE, map_location=self.device, weights_only=True)
        except Exception as problem:  # a damaged file raises whatever its reader meets first
            raise ValueError(f"{self.out / STATE}: expected the state of a run, got: {problem}; remove it") from problem
        if state["plan"] != self.plan.text:
            raise ValueError(f"{self.out}: holds a run of another recipe; choose another --out")
        for direction, network in self.networks.items():
            network.load_state_dict(state["networks"][direction])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best_db = int(state["step"]), float(state["best_db"])

    def save(self) -> None:
        """Writes the state whole or not at all."""
        content = io.BytesIO()
        state = {
            "plan": self.plan.text,
            "step": self.step,
            "best_db": self.best_db,
            "networks": {direction: network.state_dict() for direction, network in self.networks.items()},
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, content)
        replace_file(self.out / STATE, content.getvalue())

    def export(self, camera: str) -> None:
        """Writes the networks as weight files that `isp.create("paramisp/FOLDER")` opens."""
        for direction, network in self.networks.items():
            weights.write(
                self.out / f"{direction}.safetensors",
                {name: tensor.to(getattr(torch, self.plan.store)) for name, tensor in network.state_dict().items()},
                backend="paramisp",
                direction=direction,
                camera=camera,
                design=self.plan.network.to_json(),
                matrix="rows_1",
                licence=self.plan.licence,
                recipe=self.plan.text,
            )

    def advance(self, pairs: Sequence[Sequence[Any]]) -> float:
        """One step of training; returns its loss, the same whatever the number of processes."""
        plan, rows = self.plan, self.ranks.rows(self.plan.batch)
        clean = training_batch(pairs, plan.seed, self.step, rows, plan.batch, plan.patches, plan.patch)
        noisy = quantisation_noise(clean, plan.seed, self.step, rows, plan.batch, plan.noise).to(self.device)
        # One mask for the whole step, the same in every process. Source: kim2024, §3.1
        dropout = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        epoch = self.step * plan.batch // (plan.patches * len(pairs))
        for group in self.optimiser.param_groups:
            group["lr"] = plan.lr * plan.decay ** (epoch // plan.every)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
            loss = loss_of(self.networks, noisy, clean.to(self.device), plan, dropout)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = self._parameters()
        for parameter in parameters:
            if parameter.grad is None:  # of a parameter whose term was dropped in this process
                parameter.grad = torch.zeros_like(parameter)
        if self.ranks.size > 1:
            # One message for all: hundreds of small ones take longer than a small step.
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            means = self.ranks.mean(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, mean in zip(gradients, torch.split(means, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        self.optimiser.step()
        self.step += 1
        return float(self.ranks.mean(loss.detach().clone()))

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Mean PSNR in dB over the patches, by what is predicted."""
        found: dict[str, list[float]] = {}
        for batch in batches:
            for name, (predicted, target) in predictions(self.networks, batch.to(self.device)).items():
                found.setdefault(name, []).append(psnr_db(predicted, target, self.plan.border))
        return {name: float(np.mean(values)) for name, values in found.items()}

    @torch.no_grad()
    def write_pictures(self, batch: Batch, path: Path) -> None:
        """Predicted | target | eight times their difference, a row for each thing predicted; RAW brightened."""
        rows = []
        for name, (predicted, target) in predictions(self.networks, batch.to(self.device)).items():
            three = torch.cat([predicted, target, (8 * (predicted - target)).abs()], 3)[0].clamp(0, 1).cpu()
            three = three.expand(3, -1, -1) ** (1 / 2.2 if name == "raw" else 1)
            rows.append((255 * three).round().permute(1, 2, 0).numpy().astype(np.uint8))
        write_image(path, np.concatenate(rows))


class DivergedError(ValueError):
    """The loss is no number any more, and no step would make it one."""


def train(
    plan: Plan, source: Folders | VirtualShots, out: Path, device: torch.device, ranks: Ranks, steps: int | None = None
) -> dict[str, float]:
    """Runs `plan` to its end, or for `steps` more steps; returns the last validation. Only rank 0 writes and speaks.

    Raises `DivergedError` at the first loss that is not finite; what was saved before it stays.
    """
    pairs, batches = source.pairs("train"), validation_batches(source.pairs("val"), plan.validate_patches, plan.patch)
    run = Run(plan, out, device, ranks)
    per_epoch = max(1, plan.patches * len(pairs) // plan.batch)
    last = plan.epochs * per_epoch
    last = last if steps is None else min(last, run.step + steps)
    board = _board(out) if ranks.rank == 0 else None
    camera = "+".join(dict.fromkeys(pair.camera.name[0] for of_camera in pairs for pair in of_camera[:1]))
    result: dict[str, float] = {}
    began = said = saved = time.monotonic()
    first = run.step
    while run.step < last:
        loss = run.advance(pairs)
        if not math.isfinite(loss):
            raise DivergedError(
                f"step {run.step}: expected a finite loss, got {loss}; the run has diverged. "
                f"Begin again in another folder with a lower lr than {plan.lr:g}; {out} keeps what was saved before"
            )
        now = time.monotonic()
        if ranks.rank == 0 and (now - said > 5 or run.step == last):
            rate = (run.step - first) / (now - began)
            sys.stderr.write(
                f"step {run.step}/{last}, loss {loss:.5f}, {rate * plan.batch:.1f} patches/s, "
                f"{(last - run.step) / rate:.0f} s left\n"
            )
            said = now
        if board is not None:
            board.add_scalar("loss", loss, run.step)
        if run.step % (per_epoch * plan.validate_every) == 0 or run.step == last:
            result = run.validate(batches)
            if ranks.rank == 0:
                _record(run, result, batches, camera, board)
            saved = now
        elif ranks.rank == 0 and now - saved > SAVE_EVERY_S:
            run.save()
            saved = now
    return result


def _record(run: Run, result: dict[str, float], batches: Sequence[Batch], camera: str, board: Any) -> None:
    sys.stderr.write(", ".join(f"{name} {value:.2f} dB" for name, value in result.items()) + "\n")
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
    """TensorBoard's writer, where it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out))
