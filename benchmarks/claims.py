"""The ParamISP paper's claims, measured on virtual cameras: `python benchmarks/claims.py [--out DIR] [--only CLAIM ...]`.

It trains some thirty small networks, which differ only in what a claim is about, and measures them on the same held-out
patches. Each run resumes where it was stopped; --out keeps it, with its figures in NAME.json, so the command may be killed and
repeated. --record puts the figures into benchmarks/claims.json, which is committed; --from chooses between those figures and
new ones. A run is identified by its plan, the runs that it starts from and what is measured, but not by the code: after a
change of the networks, the virtual cameras or the training loop, measure again.

The size suits two cores, and is smaller than the paper's: 4,000 patches of 96 px. Its 520 epochs at 2e-4 do not fit into these
1,000 steps, so runs begin at 6e-4 and end at a twelfth of it. --patch, --patches, --batch and --device are for a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import math
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import measure
import numpy as np
import torch
from numpy.typing import NDArray

from isp.backends.paramisp.design import OPTICAL
from isp.camera import Camera
from isp.command import BAD_DATA, DONE, INTERRUPTED, refuse, sentence_of
from isp.evaluate import with_wrong
from isp.files.whole import replace_file
from isp.metrics import psnr_db
from isp.train import loop
from isp.train.data import VirtualShots, validation_batches
from isp.train.plan import Plan
from isp.virtual import cameras

# The camera whose pictures depend most on the EXIF: developed as if all shots had the median EXIF, they are 23.8 dB from the
# true ones (a7r3-virtual and d90-virtual: 26 to 27), nearly all of it due to ISO. The paper's ablations use the D7000, too.
CAMERA = "d7000-virtual"
SEEDS = (1, 2, 3)
EPOCHS = 8
LR, DECAY = 6e-4, 0.7  # 0.7^7 is a twelfth
SHOTS_PER_PATCH = 25  # a run draws its patches among these shots, so that hardly one in fifty comes twice
RECORD = Path(__file__).with_suffix(".json")

WITHOUT = tuple(f"without {name}" for name in (*OPTICAL, "all"))
WRONG = tuple(f"wrong {name}" for name in OPTICAL)


@dataclass(frozen=True)
class Scale:
    """The size of the study: `patches` is the total of a run, `tested` the held-out patches of each camera."""

    patch: int = 96
    batch: int = 4
    patches: int = 4000
    tested: int = 200


@dataclass(frozen=True)
class Run:
    """A plan, the runs whose networks it starts from, and the EXIF conditions of its measurement (see `seen_as`).

    With 0 `steps` nothing is trained, and the networks are measured as they begin.
    """

    plan: Plan
    starts: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ("true",)
    steps: int | None = None

    @property
    def passes(self) -> int:
        """Count the patches that go through a network in training: the cost of the run."""
        plan = self.plan
        return 0 if self.steps == 0 else plan.epochs * plan.patches * len(plan.cameras) * len(plan.directions)


def runs(scale: Scale) -> dict[str, Run]:
    """List all runs by name, each after those that it starts from."""
    epoch = max(1, scale.patches // EPOCHS)
    # One in twenty may be held out, and the numbers of training scenes end at a million.
    shots = min(max(SHOTS_PER_PATCH * scale.patches, 20 * scale.tested), 1_000_000)
    base = Plan(
        name="base", direction="forward", cameras=(CAMERA,), shots=shots, patch=scale.patch, batch=scale.batch,
        patches=epoch, epochs=EPOCHS, lr=LR, decay=DECAY, every=1, precision="bfloat16",
        validate_every=2 * EPOCHS, validate_patches=8,  # at the end alone: what is exported is the last state, not the best
    )  # fmt: skip

    def run(
        name: str,
        seed: int = 1,
        starts: tuple[str, ...] = (),
        conditions: tuple[str, ...] = ("true",),
        steps: int | None = None,
        **changes: Any,
    ) -> Run:
        return Run(Plan(**(base.model_dump() | changes | {"name": name, "seed": seed})), starts, conditions, steps)

    plain: dict[str, Any] = {"optical": ()}  # without ParamNet
    bare: dict[str, Any] = {"optical": (), "inputs": ()}  # what Table S3 compares, by its number of parameters
    later: dict[str, Any] = {"lr": 1e-4, "patches": max(1, epoch // 2)}  # the paper's rate of the joint stage
    joint: dict[str, Any] = {"direction": "joint", **later}
    table = [
        *(run(f"full_{seed}", seed, conditions=("true", *WITHOUT, *WRONG)) for seed in SEEDS),
        run("inverse_full_1", conditions=("true", *WRONG), direction="inverse"),
        *(run(f"no_param_net_{seed}", seed, design=plain) for seed in SEEDS),
        run("inverse_no_param_net_1", direction="inverse", design=plain),
        run("no_equalisation_1", design={"equalisation": False}),
        *(run(f"no_dropout_{seed}", seed, conditions=("true", *WITHOUT), design={"dropout": 0.0}) for seed in SEEDS),
        *(run(f"no_{left_out}_1", design={"optical": [name for name in OPTICAL if name != left_out]}) for left_out in OPTICAL),
        *(run(f"tone_{tone.lower()}_1", design=bare | {"tone": tone}) for tone in ("A", "B")),
        *(run(f"tone_c{stages}_1", design=bare | {"stages": stages}) for stages in (1, 4)),
        # As many patches in all, shared among the cameras. Then the paper's second stage: a tenth of the rate, about as
        # many patches as the first. Table S7 is without ParamNet; no_param_net_1 is its "individual".
        run("generic_1", cameras=cameras.names(), patches=max(1, epoch // len(cameras.names())), design=plain),
        run("generic_individual_1", starts=("generic_1",), lr=LR / 10, design=plain),
        run("individual_twice_1", epochs=2 * EPOCHS, every=2, design=plain),
        # The pair before joint training, after it, after it with noise in the loss (ours), and after each network was
        # trained on by itself for as long.
        run("pair_1", starts=("inverse_full_1", "full_1"), steps=0, **joint),
        run("joint_1", starts=("inverse_full_1", "full_1"), **joint),
        run("joint_noise_1", starts=("inverse_full_1", "full_1"), forward_weight=1.0, **joint),
        run("inverse_further_1", starts=("inverse_full_1",), direction="inverse", **later),
        run("full_further_1", starts=("full_1",), **later),
        run("pair_further_1", starts=("inverse_further_1", "full_further_1"), steps=0, **joint),
        run("full_float32_1", precision="float32"),
    ]  # fmt: skip
    return {run.plan.name: run for run in table}


def digests(table: Mapping[str, Run], scale: Scale) -> dict[str, str]:
    """Compute a digest for each run of everything that should change its figures."""
    found: dict[str, str] = {}
    for name, run in table.items():
        known = [run.plan.text, [found[start] for start in run.starts], run.conditions, run.steps, scale.tested]
        found[name] = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    return found


def with_starts(names: Collection[str], table: Mapping[str, Run]) -> list[str]:
    """Add all runs that `names` start from; the order is the table's."""
    wanted = set(names)
    for name in reversed(list(table)):
        wanted |= set(table[name].starts) if name in wanted else set()
    return [name for name in table if name in wanted]


# ---------------------------------------------------------------- the claims


class Figure(NamedTuple):
    """The PSNR of a run on `CAMERA`."""

    run: str
    predicted: str = "srgb"
    condition: str = "true"

    @property
    def key(self) -> str:
        return f"{CAMERA} {self.predicted} {self.condition}"


@dataclass(frozen=True)
class Comparison:
    """`better` is claimed to have a higher PSNR than `worse`, seed by seed."""

    claim: str
    compared: str
    better: tuple[Figure, ...]
    worse: tuple[Figure, ...]


CLAIMS = {
    "paramnet": "ParamNet helps (Tables 1, S6)",
    "equalisation": "equalisation trains where raw parameters diverge (Table 1)",
    "dropout": "dropout helps, above all where parameters are missing (Table 1)",
    "parameters": "each parameter matters (Table 2)",
    "wrong": "wrong parameters hurt (Table S5)",
    "tone": "C x 4 beats A, B and C x 1 (Table S3)",
    "strategy": "generic + individual > individual > generic (Table S7)",
    "joint": "joint training improves the cycle (eq. S1)",
    "precision": "is float32 better than bfloat16? (not the paper's)",
}


def comparisons() -> list[Comparison]:
    def one(claim: str, better: str, worse: str, predicted: str = "srgb") -> Comparison:
        compared = f"{better} > {worse}" + (f", {predicted}" if predicted != "srgb" else "")
        return Comparison(claim, compared, (Figure(better, predicted),), (Figure(worse, predicted),))

    def three(claim: str, better: str, worse: str, condition: str = "true") -> Comparison:
        sides = (tuple(Figure(f"{side}_{seed}", condition=condition) for seed in SEEDS) for side in (better, worse))
        return Comparison(claim, f"{better} > {worse}" + (f", {condition}" if condition != "true" else ""), *sides)

    def spoiled(name: str, true: tuple[Figure, ...], condition: str) -> Comparison:
        wrong = tuple(figure._replace(condition=condition) for figure in true)
        return Comparison("wrong", f"{name}, true > {condition}", true, wrong)

    full, inverse = tuple(Figure(f"full_{seed}") for seed in SEEDS), (Figure("inverse_full_1", "raw"),)
    return [
        three("paramnet", "full", "no_param_net"),
        three("paramnet", "no_dropout", "no_param_net"),
        one("paramnet", "inverse_full_1", "inverse_no_param_net_1", "raw"),
        one("equalisation", "full_1", "no_equalisation_1"),
        *(three("dropout", "full", "no_dropout", condition) for condition in ("true", *WITHOUT)),
        *(one("parameters", "full_1", f"no_{name}_1") for name in OPTICAL),
        *(spoiled("full", full, condition) for condition in WRONG),
        *(spoiled("inverse_full_1", inverse, condition) for condition in WRONG),
        *(one("tone", "tone_c4_1", f"tone_{other}_1") for other in ("a", "b", "c1")),
        one("strategy", "generic_individual_1", "no_param_net_1"),
        one("strategy", "generic_individual_1", "individual_twice_1"),
        one("strategy", "no_param_net_1", "generic_1"),
        one("joint", "joint_1", "pair_1", "cycle"),
        one("joint", "joint_1", "pair_further_1", "cycle"),
        one("joint", "joint_1", "pair_1", "srgb"),
        one("joint", "joint_noise_1", "pair_further_1", "cycle"),
        one("joint", "joint_noise_1", "pair_1", "srgb"),
        one("precision", "full_float32_1", "full_1"),
    ]


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Record:
    """The figures of a run.

    seconds    wall time of the training, extrapolated from the part after the last stop; None if nothing was trained
    before_db  mean PSNR of the random weights at the start
    diverged   the result is not finite, or no better than those random weights
    psnr_db    {"camera predicted condition": one value a patch}; empty where they are not finite
    """

    digest: str
    date: str
    machine: str
    seconds: float | None
    before_db: float | None
    diverged: bool
    psnr_db: dict[str, list[float]]


def seen_as(camera: Camera, condition: str, index: int) -> Camera:
    """Give `camera` the EXIF of a condition: "true", "without iso", "without all", "wrong iso"; `index` is the patch's."""
    how, _, parameter = condition.partition(" ")
    if how == "wrong":
        return with_wrong(camera, parameter, 0, index)
    unknown: dict[str, Any] = {name: None for name in OPTICAL if how == "without" and parameter in (name, "all")}
    return dataclasses.replace(camera, **unknown)


@torch.no_grad()
def psnr_of(run: loop.Run, conditions: Sequence[str], tested: int) -> dict[str, list[float]]:
    """Measure {"camera predicted condition": PSNR in dB of each held-out patch}; runs of equal cameras see equal patches."""
    found: dict[str, list[float]] = {}
    plan = run.plan
    held_out = VirtualShots.of(plan).pairs("test")
    for camera, pairs in zip(plan.cameras, held_out, strict=True):
        for index, batch in enumerate(validation_batches([pairs], tested, plan.patch)):
            for condition in conditions:
                seen = batch._replace(camera=seen_as(batch.camera, condition, index)).to(run.device)
                for predicted, images in loop.predictions(run.model, seen).items():
                    found.setdefault(f"{camera} {predicted} {condition}", []).append(psnr_db(*images))
    return found


def mean_true_db(psnr: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([values for key, values in psnr.items() if key.endswith(" true")]))


def measured(run: Run, digest: str, tested: int, out: Path, device: torch.device) -> Record:
    """Train a run to its end, measure it, and write NAME.json into `out`."""
    starts = zip(run.starts, run.plan.directions, strict=bool(run.starts))
    files = tuple(str(out / start / f"{direction}.safetensors") for start, direction in starts)
    plan = run.plan.model_copy(update={"start_from": files})
    folder = out / plan.name
    before_db = -math.inf
    if not run.starts:
        with tempfile.TemporaryDirectory() as scratch:
            before_db = mean_true_db(psnr_of(loop.Run(plan, Path(scratch), device), ["true"], tested))
    step = loop.Run(plan, folder, device).step
    began = time.monotonic()
    lost = False
    with (folder / "log").open("a", buffering=1, encoding="utf-8") as log, redirect_stderr(log):
        try:
            loop.train(plan, VirtualShots.of(plan), folder, device, loop.Ranks(), run.steps)
        except loop.DivergedError as end:
            lost = True
            log.write(f"{end}\n")
    seconds = time.monotonic() - began
    trained = loop.Run(plan, folder, device)
    psnr = psnr_of(trained, run.conditions, tested)
    finite = not lost and all(math.isfinite(value) for values in psnr.values() for value in values)
    record = Record(
        digest=digest,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=measure.machine(),
        seconds=round(seconds * trained.step / (trained.step - step), 1) if trained.step > step else None,
        before_db=round(before_db, 2) if math.isfinite(before_db) else None,
        diverged=not finite or mean_true_db(psnr) <= before_db,
        psnr_db={key: [round(value, 2) for value in values] for key, values in psnr.items()} if finite else {},
    )
    write_records(out / f"{plan.name}.json", {plan.name: record})
    return record


def read_records(path: Path) -> dict[str, Record]:
    """Read the records in a file, by the names of their runs; a missing file has none."""
    written = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: Record(**record) for name, record in written.items()}


def write_records(path: Path, records: Mapping[str, Record]) -> None:
    """Write one line for each record; the file is written whole or not at all."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(dataclasses.asdict(record))}" for name, record in sorted(records.items())
    ]
    replace_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def begin_worker() -> None:
    """Limit this worker to one thread, and start another thread that watches the parent."""
    torch.set_num_threads(1)
    threading.Thread(target=leave_with_parent, daemon=True).start()


def leave_with_parent() -> None:
    """End this process when its parent has died, so that a repeated command does not meet a second owner of a run."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers wait here"
    parent.join()
    os._exit(1)


def measure_all(
    names: Collection[str], table: Mapping[str, Run], scale: Scale, out: Path, device: torch.device, processes: int
) -> dict[str, Record]:
    """Measure `names` and the runs that they start from, `processes` at a time; return all records in `out`.

    A run that starts from a diverged run has no record.
    """
    known_as = digests(table, scale)
    kept = {name: record for run in table for name, record in read_records(out / f"{run}.json").items()}
    records = {name: record for name, record in kept.items() if record.digest == known_as[name]}
    waiting = [name for name in with_starts(names, table) if name not in records]
    lost = {name for name, record in records.items() if record.diverged}
    running: dict[Future[Record], str] = {}
    # Processes that are forked inherit locks of PyTorch's threads, and cannot use CUDA.
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawned, initializer=begin_worker) as pool:
        while waiting or running:
            for name in list(waiting):
                run = table[name]
                if not lost.isdisjoint(run.starts):
                    waiting.remove(name)
                    lost.add(name)
                elif len(running) < processes and records.keys() >= set(run.starts):
                    waiting.remove(name)
                    running[pool.submit(measured, run, known_as[name], scale.tested, out, device)] = name
            for job in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(job)
                records[name] = job.result()
                lost |= {name} if records[name].diverged else set()
                sys.stderr.write(f"{name} measured, {len(waiting) + len(running)} runs left\n")
    return records


# ---------------------------------------------------------------- the table


def judged(comparison: Comparison, records: Mapping[str, Record], table: Mapping[str, Run]) -> tuple[str, str]:
    """Return (difference in dB, verdict).

    A difference holds, or its opposite does, if it is larger than twice its standard error. With several seeds the
    error is that of their mean and of the patches; with one, that of the patches and, if a network began with random
    weights, the spread that such differences have from seed to seed.
    """
    better, worse = ([records.get(figure.run) for figure in side] for side in (comparison.better, comparison.worse))
    if None in better or None in worse:
        return "", "not measured"
    for side, verdict in ((better, "no"), (worse, "yes")):
        if any(record.diverged for record in side if record is not None):
            return "", f"{verdict}: the {'first' if side is better else 'second'} diverged"
    by_seed = differences(comparison, records)
    mean_db, patches_db = float(by_seed.mean()), standard_error(by_seed.mean(0))
    if len(by_seed) > 1:
        shown_db = float(by_seed.mean(1).std(ddof=1))
        error_db = math.hypot(standard_error(by_seed.mean(1)), patches_db)
    else:
        (one,), (other,) = comparison.better, comparison.worse
        anew = one.run != other.run and not (table[one.run].starts and table[other.run].starts)
        shown_db, error_db = patches_db, math.hypot(patches_db, seed_spread_db(records) if anew else 0)
    holds = "within noise" if abs(mean_db) <= 2 * error_db else "yes" if mean_db > 0 else "no"
    return f"{mean_db:+.2f} ± {shown_db:.2f}", holds


def differences(comparison: Comparison, records: Mapping[str, Record]) -> NDArray[np.float64]:
    """Compute the PSNR of the better side minus that of the worse, in dB: a row for each seed, a column for each patch."""

    def psnr_of_side(side: Sequence[Figure]) -> NDArray[np.float64]:
        return np.array([records[figure.run].psnr_db[figure.key] for figure in side])

    return psnr_of_side(comparison.better) - psnr_of_side(comparison.worse)


def standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def seed_spread_db(records: Mapping[str, Record]) -> float:
    """Pool the standard deviation from seed to seed of the difference of two runs; 0 if none was measured."""
    variances = [
        differences(comparison, records).mean(1).var(ddof=1)
        for comparison in comparisons()
        if len(comparison.better) > 1
        and {figure.condition for figure in comparison.better + comparison.worse} == {"true"}
        and all(f.run in records and not records[f.run].diverged for f in comparison.better + comparison.worse)
    ]
    return math.sqrt(float(np.mean(variances))) if variances else 0.0


def figured(chosen: Collection[Comparison]) -> set[str]:
    """List the runs that are compared."""
    return {figure.run for comparison in chosen for figure in (*comparison.better, *comparison.worse)}


def report(claims: Collection[str], records: Mapping[str, Record], table: Mapping[str, Run]) -> None:
    """Print the claims, then the runs, as Markdown."""
    chosen = [comparison for comparison in comparisons() if comparison.claim in claims]
    rows = [(CLAIMS[row.claim], row.compared, *judged(row, records, table)) for row in chosen]
    print_table(("claim", "compared", "difference, dB", "holds?"), rows)
    spread_db = seed_spread_db(records)
    print(
        "\n± is the standard deviation from seed to seed if there are three seeds, else the standard error over the\n"
        "patches. From seed to seed, differences of two networks vary by "
        f"{f'{spread_db:.2f} dB' if spread_db else 'an amount that has not been measured'}.\n"
    )
    listed = []
    for name in (name for name in with_starts(figured(chosen), table) if name in records):
        record, run = records[name], table[name]
        figures = {
            key.removesuffix(" true"): np.array(db) for key, db in record.psnr_db.items() if key.endswith(" true")
        }
        psnr = ", ".join(f"{key} {db.mean():.2f} ± {standard_error(db):.2f}" for key, db in figures.items())
        before = "" if record.before_db is None else f"{record.before_db:.2f}"
        speed = ("", "") if not record.seconds else (f"{record.seconds:.0f}", f"{run.passes / record.seconds:.1f}")
        listed.append((name, ("diverged " if record.diverged else "") + psnr, before, *speed))
    print_table(("run", "PSNR, dB", "untrained, dB", "s", "patches/s"), listed)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    for line in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description="The ParamISP paper's claims, measured on virtual cameras.")
    parser.add_argument("--out", type=Path, default=Path("out/claims"), metavar="DIR", help="default: out/claims")
    parser.add_argument("--only", nargs="+", choices=CLAIMS, default=list(CLAIMS), metavar="CLAIM", help="default: all")
    parser.add_argument("--list", action="store_true", help="list the runs, and run nothing")
    parser.add_argument(
        "--from", choices=("measured", "recorded", "either"), default="measured", dest="source",
        help="take the figures from --out and train what is missing (default), from claims.json and train nothing, "
        "or from claims.json and train what is missing there",
    )  # fmt: skip
    parser.add_argument("--record", action="store_true", help="put the figures into claims.json")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N", help="default: one a core")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (default: cpu)")
    for field in dataclasses.fields(Scale):
        parser.add_argument(
            f"--{field.name}", type=int, default=field.default, metavar="N", help=f"default: {field.default}"
        )
    args = parser.parse_args(argv)
    scale = Scale(args.patch, args.batch, args.patches, args.tested)
    if scale.tested < 2:
        parser.error(f"--tested: expected at least 2, got {scale.tested}; a spread needs two")
    table = runs(scale)
    compared = figured([comparison for comparison in comparisons() if comparison.claim in args.only])
    if args.list:
        names = with_starts(compared, table)
        for name in names:
            print(f"{name:24} {table[name].passes:6} patches  {' + '.join(table[name].starts)}")
        print(f"{len(names)} runs, {sum(table[name].passes for name in names)} patches through a network")
        return DONE
    committed, records = read_records(RECORD), {}
    if args.source != "measured":
        known_as = digests(table, scale)
        records = {name: record for name, record in committed.items() if record.digest == known_as.get(name)}
    try:
        if args.source != "recorded":
            lacking, device = compared - records.keys(), torch.device(args.device)
            records |= measure_all(lacking, table, scale, args.out.resolve(), device, args.processes)
        if args.record:
            write_records(RECORD, committed | records)
    except (ValueError, OSError) as problem:
        return refuse(sentence_of(problem), BAD_DATA)
    except KeyboardInterrupt:
        return refuse("interrupted; run the same command again to resume", INTERRUPTED)
    print(measure.machine())
    report(args.only, records, table)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
