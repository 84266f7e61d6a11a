"""Photographs within a budget: the way that is chosen, equal numbers, and the memory that it takes, measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import isp
from isp import cfa, command, full_size, profile
from isp.camera import Camera
from isp.rng import generator

GENEROUS = 10**12


def picture(height, width):
    return torch.from_numpy(generator(1, 0, "full size").random((1, 3, height, width), dtype="float32"))


def a_camera(pattern="RGGB"):
    return profile.load("a7r3").camera((2.1, 1.7), pattern, iso=640.0, exposure_s=0.02, f_number=4.0, focal_mm=35.0)


@pytest.mark.parametrize("name", [name for name in isp.names() if not name.startswith("paramisp")])
@pytest.mark.parametrize("pattern", ["RGGB", "GRBG"])
def test_strips_of_parametric_isps_equal_the_whole(monkeypatch, name, pattern):
    monkeypatch.setattr(full_size, "STRIP_ROWS", 24)
    camera_isp = isp.create(name)
    if pattern not in camera_isp.limits.cfas:
        pytest.skip(f"{name} takes {', '.join(camera_isp.limits.cfas)} only")
    camera, srgb = a_camera(pattern), picture(74, 60)
    sensor = camera_isp.inverse(srgb, camera)
    assert torch.equal(full_size.inverse(camera_isp, srgb, camera, GENEROUS), sensor)
    bayer = cfa.mosaic(sensor, camera.cfa)
    strips = full_size.forward(camera_isp, bayer, camera, GENEROUS)
    torch.testing.assert_close(strips, camera_isp.forward(bayer, camera), atol=1e-6, rtol=0)


def test_a_budget_decides_on_the_way_and_says_so(capsys, monkeypatch):
    monkeypatch.setattr(full_size, "_resident_bytes", lambda device: 0.3e9)
    camera_isp, camera, srgb = isp.create("paramisp"), a_camera(), picture(120, 160)
    sizes = {way.label: way.peak_bytes + 0.3e9 for way in camera_isp.strategies("inverse", 1, 120, 160)}
    results = {
        said: full_size.inverse(camera_isp, srgb, camera, int(size) + 1)
        for said, size in sizes.items()
        if said == "at once"
    }
    assert "at once" in capsys.readouterr().err
    monkeypatch.setattr(camera_isp, "strategies", lambda *shape: type(camera_isp).strategies(camera_isp, *shape)[1:])
    in_strips = full_size.inverse(camera_isp, srgb, camera, GENEROUS)
    assert "in strips, maps in float32" in capsys.readouterr().err
    torch.testing.assert_close(in_strips, results["at once"], atol=1e-5, rtol=0)


def test_ways_of_24_and_42_megapixels():
    """What the budgets of the README are good for; the largest resident set is measured in benchmarks/full_size.py."""
    camera_isp = isp.create("paramisp")

    def chosen(height, width, memory_bytes):
        return next(
            way.label for way in camera_isp.strategies("forward", 1, height, width) if way.peak_bytes < memory_bytes
        )

    assert "float32" in chosen(4000, 6000, 8e9 - 0.65e9)  # photograph and program are there before
    assert "float16" in chosen(5304, 7952, 12e9 - 1e9)
    assert chosen(720, 1280, 4e9) == "at once"


def test_too_small_a_budget_is_one_sentence():
    with pytest.raises(
        ValueError, match=r"paramisp/a7r3-virtual: expected at least [\d.]+ GB of memory .* got 0\.1 GB; allow more"
    ):
        full_size.inverse(isp.create("paramisp"), picture(96, 96), a_camera(), 10**8)


def test_lines_of_progress_end_before_one(monkeypatch, capsys):
    monkeypatch.setattr(command, "SECONDS_A_LINE", 0.0)
    full_size.inverse(isp.create("rsblur"), picture(600, 40), a_camera(), GENEROUS)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"rsblur/a7r3 inverse of 600x40: in strips, at most [\d.]+ GB", lines[0])
    assert [line.split(",")[0] for line in lines[1:]] == ["inverse 43%", "inverse 85%", "inverse 100%"]


PROGRAM = """
import re, sys, torch
from pathlib import Path
import isp
from isp import full_size, profile
height, width, budget = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
camera = profile.load("a7r3").camera((2.1, 1.7), "RGGB", iso=640.0)
srgb = torch.linspace(0, 1, height * width).view(1, 1, height, width).expand(1, 3, -1, -1).contiguous()
full_size.inverse(isp.create("paramisp"), srgb, camera, budget)
# Not ru_maxrss, which a process inherits from the one that starts it.
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the largest resident set is read from /proc")
def test_the_process_stays_within_its_budget():
    """Of 1.2 megapixels: at once they would take 2.3 GB."""
    asked = 1_250_000_000
    command = [sys.executable, "-c", PROGRAM, "800", "1500", str(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "in strips, maps in float32" in done.stderr
    assert 0.6e9 < int(done.stdout) < asked


# ---------------------------------------------------------------- reference pictures


@pytest.mark.parametrize("count", [1, 2])
def test_the_reference_is_cut_into_the_same_strips(reference_isp, monkeypatch, count):
    monkeypatch.setattr(full_size, "STRIP_ROWS", 24)
    camera_isp, camera = isp.create(reference_isp), Camera.stack([a_camera()] * count)
    reference = torch.cat([picture(76, 60), picture(76, 60).flip(2)])[:count]
    bayer, told = cfa.mosaic(reference, camera.cfa), []
    strategy = full_size.strategy_for(camera_isp, "forward", bayer, GENEROUS)
    assert torch.equal(strategy.run(bayer, camera, reference, told.append), reference)
    assert told == [24, 24, 24, 4]


def test_both_doors_of_full_size_reach_the_reference(reference_isp):
    camera_isp, camera, srgb = isp.create(reference_isp), a_camera(), picture(64, 48)
    sensor = full_size.inverse(camera_isp, srgb, camera, GENEROUS)
    bayer = cfa.mosaic(sensor, camera.cfa)
    assert torch.equal(full_size.forward(camera_isp, bayer, camera, GENEROUS, reference=srgb), srgb)
    with pytest.raises(ValueError, match="echo: expected a reference, got none"):
        full_size.forward(camera_isp, bayer, camera, GENEROUS)


def test_paramisp_ignores_a_reference_in_every_strategy():
    camera_isp, camera = isp.create("paramisp"), a_camera()
    bayer = cfa.mosaic(picture(64, 48), camera.cfa)
    for strategy in camera_isp.strategies("forward", 1, 64, 48)[:2]:
        plain = strategy.run(bayer, camera, None, lambda work: None)
        assert torch.equal(strategy.run(bayer, camera, picture(64, 48), lambda work: None), plain)


def test_the_limit_of_the_shell_counts():
    """`ulimit -v` decides before the work begins, not after minutes of it."""
    code = "from isp import full_size; print(full_size.budget_bytes('cpu'))"

    def budget(limit):
        command = ["sh", "-c", f'ulimit -v {limit}; exec {sys.executable} -c "{code}"']
        return int(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)

    small, large = budget(4_000_000), budget(6_000_000)
    assert 0 < small < 0.8 * 4_000_000 * 1024
    assert large <= small + 0.8 * 2_100_000 * 1024
