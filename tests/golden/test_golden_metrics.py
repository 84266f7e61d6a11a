"""Parity with the ParamISP authors' metrics and test windows."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from isp import cfa, metrics

_spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


def recorded(name: str):
    path = golden.folder() / "paramisp" / name
    if not path.is_file():
        pytest.skip(f"{path} is not recorded in this folder")
    return json.loads(path.read_text()) if name.endswith(".json") else dict(np.load(path))


def test_golden_psnr_and_ssim():
    pictures, scalars = recorded("metrics.npz"), recorded("scalars.json")
    predicted, target = (torch.from_numpy(pictures[name]).float() / 255 for name in ("pred_u8", "target_u8"))
    (of_rgb,) = (value for key, value in scalars.items() if key.startswith("metrics_rgb"))
    assert metrics.psnr_db(predicted, target) == pytest.approx(of_rgb["psnr"], abs=1e-4)
    assert metrics.ssim(predicted, target, data_range=None) == pytest.approx(of_rgb["ssim"], abs=1e-4)
    (of_raw,) = (value for key, value in scalars.items() if key.startswith("metrics_raw"))
    predicted, target = predicted[:, 1:2] * 0.4, target[:, 1:2] * 0.4
    assert metrics.psnr_db(predicted, target) == pytest.approx(of_raw["psnr"], abs=1e-4)
    assert metrics.ssim(predicted, target, data_range=None) == pytest.approx(of_raw["ssim"], abs=1e-4)


def test_golden_five_windows():
    compared = 0
    for entry in recorded("crop_windows.json"):
        if entry["type"].startswith("5crop448"):
            # Ours are aligned to RGGB; another pair of patterns that lie equally far apart has the same windows.
            (source,) = (
                cfa.shift("RGGB", row, column)
                for row in (0, 1)
                for column in (0, 1)
                if cfa.shift(entry["target"], row, column) == entry["source"]
            )
            windows = list(metrics.five_windows(tuple(entry["size"]), 448, source))
            assert list(windows[int(entry["type"][-1])]) == entry["window"]
            compared += 1
    assert compared > 20
