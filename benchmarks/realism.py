"""Compares generated pairs with real photographs: `python benchmarks/realism.py [DATA]`.

Prints figures of real blurred photographs and of the pairs that several recipes make from the sharp frames of the same
scenes: noise in smooth places and its correlation, gradients, clipped highlights, colour shift, and the noise of the border
relative to the middle. DATA is the folder with pairs_gopro and real_blur (default: ../shared/data).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from blursynth import ShardDataset, make
from isp.files import pictures

BLOCK = 16


def figures(images: Iterable[np.ndarray]) -> dict[str, float]:
    """Return the means of all figures over images (h w 3, in units of 255)."""
    rows: list[dict[str, float]] = []
    for image in images:
        gray = image.mean(2)
        rough = image - gaussian_filter(image, (2, 2, 0))
        slope = np.hypot(*np.gradient(gaussian_filter(gray, 2)))
        height, width = (side // BLOCK * BLOCK for side in gray.shape)

        def blocks(plane: np.ndarray, height: int = height, width: int = width) -> np.ndarray:
            cut = plane[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
            return cut.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)

        exposed = (blocks(gray).mean((1, 2)) > 20) & (blocks(gray).max((1, 2)) < 235)
        smoothest = blocks(slope).mean((1, 2)) + np.where(exposed, 0, 1e9)
        flat = np.argsort(smoothest)[: max(8, len(smoothest) // 10)]
        grain = blocks(rough[..., 1])[flat]
        dx, dy = np.diff(gray, axis=1), np.diff(gray, axis=0)
        edge = np.concatenate([grain_of(rough[:4]), grain_of(rough[-4:])])
        rows.append(
            {
                "noise std": float(np.median(grain.std((1, 2)))),
                "lag-1 corr": float((grain[:, :, 1:] * grain[:, :, :-1]).sum() / (grain[:, :, 1:] ** 2).sum()),
                "mean |gradient|": float(np.abs(dx).mean() + np.abs(dy).mean()) / 2,
                "gradient kurtosis": float((dx**4).mean() / (dx**2).mean() ** 2),
                "clipped %": 100 * float((image >= 250).mean()),
                "border/middle": float(edge.std() / grain_of(rough[BLOCK:-BLOCK]).std()),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def grain_of(rough: np.ndarray) -> np.ndarray:
    return rough[..., 1].ravel()


def crops(folder: Path, pattern: str) -> Iterator[np.ndarray]:
    """Yield four 256-px windows of every picture."""
    for path in sorted(folder.glob(pattern)):
        image = pictures.read_image(path).astype(np.float64)
        height, width = image.shape[:2]
        for top in (height // 4 - 128, 3 * height // 4 - 128):
            for left in (width // 4 - 128, 3 * width // 4 - 128):
                yield image[max(top, 0) : max(top, 0) + 256, max(left, 0) : max(left, 0) + 256]


def pairs(recipe: str, data: Path, out: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the (blurred, sharp) pictures of a recipe on the sharp GoPro frames."""
    arguments = ["--recipe", recipe, "--data", str(data), "--out", str(out / recipe), "--count", "60", "--workers", "0"]
    if make.main([*arguments, "--json", "--set", 'source.pattern="*_sharp.png"']) != make.DONE:
        raise SystemExit(f"{recipe} could not be made")
    both = [ShardDataset(out / recipe)[i] for i in range(60)]
    return tuple([255 * pair[name].permute(1, 2, 0).double().numpy() for pair in both] for name in ("blur", "sharp"))  # type: ignore[return-value]


def main(data: Path) -> None:
    rows = {
        "real: sharp GoPro": figures(crops(data / "pairs_gopro", "*_sharp.png")),
        "real: blurred GoPro": figures(crops(data / "pairs_gopro", "*_blur.png")),
        "real: SRN test set": figures(crops(data / "real_blur", "srn_0*.png")),
        "real: RealBlur-J sharp (night)": figures(crops(data / "sharp", "target_*.png")),
    }
    shift: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for recipe in ("naive", "ablation_srgb", "ablation_noise", "ablation_isp", "realblur_j"):
            blurred, sharp = pairs(recipe, data / "pairs_gopro", Path(scratch))
            rows[f"made: {recipe}"] = figures(blurred)
            shift[recipe] = np.mean([b.mean((0, 1)) - s.mean((0, 1)) for b, s in zip(blurred, sharp, strict=True)], 0)
    names = list(next(iter(rows.values())))
    print(f"{'':32}" + "".join(f"{name:>18}" for name in names))
    for title, row in rows.items():
        print(f"{title:32}" + "".join(f"{row[name]:18.3f}" for name in names))
    print("\nmean of blurred minus mean of sharp, R G B, of 255")
    for recipe, difference in shift.items():
        print(f"{recipe:32}" + "".join(f"{value:8.2f}" for value in difference))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1].parent / "shared" / "data")
