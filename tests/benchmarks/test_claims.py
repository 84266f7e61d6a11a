"""The command that measures the paper's claims, at a size that says nothing about them: it resumes, keeps, and judges."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from isp.train import loop

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--patch", "88", "--batch", "1", "--patches", "8", "--tested", "2", "--processes", "1"]


@pytest.fixture(scope="module")
def claims():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)  # where worker processes look for it, too
        spec = importlib.util.find_spec("claims")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "claims", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def tiny(claims):
    return claims.Scale(patch=88, batch=1, patches=8, tested=2)


def shorter(run, epochs: int):
    """The same run with fewer steps, of one patch each."""
    return dataclasses.replace(run, plan=run.plan.model_copy(update={"epochs": epochs}))


def test_every_comparison_names_figures_that_are_measured(claims, tiny):
    table = claims.runs(tiny)
    for comparison in claims.comparisons():
        assert comparison.claim in claims.CLAIMS
        for figure in (*comparison.better, *comparison.worse):
            run = table[figure.run]
            assert figure.condition in run.conditions and claims.CAMERA in run.plan.cameras
            assert (
                figure.predicted
                in {"inverse": ("raw",), "forward": ("srgb",), "joint": ("raw", "srgb", "cycle")}[run.plan.direction]
            )
    assert {comparison.claim for comparison in claims.comparisons()} == set(claims.CLAIMS)
    names = list(table)
    assert all(names.index(start) < names.index(name) for name in names for start in table[name].starts)
    known = claims.digests(table, tiny)
    assert len(set(known.values())) == len(names)
    assert known != claims.digests(table, dataclasses.replace(tiny, tested=3))


def test_measured_once_printed_recorded(claims, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims, "RECORD", tmp_path / "claims.json")
    arguments = [*TINY, "--out", str(tmp_path / "out"), "--only", "equalisation"]
    assert claims.main([*arguments, "--record"]) == 0
    printed = capsys.readouterr().out
    assert "| full_1 > no_equalisation_1 |" in printed and "| no_equalisation_1 |" in printed
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"full_1.json", "no_equalisation_1.json", loop.STATE} <= kept.keys()
    table = printed.splitlines()[1:]  # the first line tells how busy the machine is
    monkeypatch.setattr(claims, "measured", None)
    for source in ("measured", "recorded", "either"):
        assert claims.main([*arguments, "--from", source]) == 0
        assert capsys.readouterr().out.splitlines()[1:] == table
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert claims.main([*TINY, "--from", "recorded", "--only", "joint"]) == 0
    assert "not measured" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "claims.json").read_text())) == {"full_1", "no_equalisation_1"}


def test_a_run_goes_on_and_starts_another(claims, tiny, tmp_path):
    table, cpu = claims.runs(tiny), torch.device("cpu")
    full = dataclasses.replace(shorter(table["full_1"], 3), conditions=("true", "without all", "wrong iso"))
    straight = claims.measured(full, "", 2, tmp_path / "straight", cpu)
    killed = loop.Run(full.plan, tmp_path / "out" / "full_1", cpu)
    killed.advance(loop.VirtualShots.of(full.plan).pairs("train"))
    killed.save()
    parts = claims.measured(full, "", 2, tmp_path / "out", cpu)
    assert straight.psnr_db == parts.psnr_db and straight.seconds and parts.seconds
    assert len(parts.psnr_db) == 3 and all(len(values) == 2 for values in parts.psnr_db.values())
    again = claims.measured(full, "", 2, tmp_path / "out", cpu)
    assert again.seconds is None and again.psnr_db == parts.psnr_db
    # What is only measured are the networks that it starts from.
    only = dataclasses.replace(shorter(table["full_further_1"], 1), steps=0)
    (values,) = claims.measured(only, "", 2, tmp_path / "out", cpu).psnr_db.values()
    assert values == parts.psnr_db[f"{claims.CAMERA} srgb true"]


def test_a_diverged_run_is_a_result(claims, tiny, tmp_path):
    lost = shorter(claims.runs(tiny)["full_1"], 1)
    lost = dataclasses.replace(lost, plan=lost.plan.model_copy(update={"lr": 1e30}))
    record = claims.measured(lost, "", 2, tmp_path, torch.device("cpu"))
    assert record.diverged and record.psnr_db == {} and record.before_db is not None
    assert claims.read_records(tmp_path / "full_1.json") == {"full_1": record}
    good = dataclasses.replace(record, diverged=False, psnr_db={})
    equalisation = next(row for row in claims.comparisons() if row.claim == "equalisation")
    table = claims.runs(tiny)
    assert (
        claims.judged(equalisation, {"full_1": good, "no_equalisation_1": record}, table)[1]
        == "yes: the second diverged"
    )
    assert (
        claims.judged(equalisation, {"full_1": record, "no_equalisation_1": good}, table)[1] == "no: the first diverged"
    )
    # Nothing starts from it.
    known = claims.digests(table, tiny)
    claims.write_records(
        tmp_path / "generic_1.json", {"generic_1": dataclasses.replace(record, digest=known["generic_1"])}
    )
    records = claims.measure_all({"generic_individual_1"}, table, tiny, tmp_path, torch.device("cpu"), 1)
    assert set(records) == {"generic_1"}


def test_differences_are_paired_and_judged_by_their_error(claims, tiny):
    table = claims.runs(tiny)
    patches = np.linspace(10, 40, 16)  # far more than what runs differ by

    def record(shift_db: float) -> object:
        values = [float(value) for value in patches + shift_db + 0.01 * np.cos(np.arange(16))]
        keys = [f"{claims.CAMERA} srgb {condition}" for condition in table["full_1"].conditions]
        return claims.Record("", "", "", 1.0, 5.0, False, dict.fromkeys(keys, values))

    def verdict(claim: str, shifts_db: dict[str, float]) -> tuple[str, str]:
        row = next(row for row in claims.comparisons() if row.claim == claim)
        return claims.judged(row, {name: record(shift_db) for name, shift_db in shifts_db.items()}, table)

    assert verdict("parameters", {"full_1": 0.5, "no_focal_mm_1": 0.0}) == ("+0.50 ± 0.00", "yes")
    assert verdict("parameters", {"full_1": 0.0, "no_focal_mm_1": 0.5}) == ("-0.50 ± 0.00", "no")
    seeds = {f"full_{seed}": 0.4 * seed for seed in (1, 2, 3)} | {f"no_param_net_{seed}": 0.0 for seed in (1, 2, 3)}
    assert verdict("paramnet", seeds) == ("+0.80 ± 0.40", "yes")
    # The same difference of one seed is no longer one, now that differences are seen to vary from seed to seed.
    assert verdict("parameters", seeds | {"full_1": 0.5, "no_focal_mm_1": 0.0}) == ("+0.50 ± 0.00", "within noise")
