"""`python -m isp.convert`: published checkpoints of a learned ISP as .safetensors.

    python -m isp.convert official.ckpt --direction inverse --camera A7R3 --out a7r3-inverse.safetensors
    python -m isp.convert joint.ckpt --direction joint --camera A7R3 --out a7r3-joint.safetensors

Nothing in a checkpoint runs. It may hold tensors, plain containers, numbers, texts, and numbers and arrays of NumPy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from isp import command
from isp.command import BAD_DATA, DONE, USAGE, refuse


@command.door()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command.parser("isp.convert", "Convert a published checkpoint of a learned ISP to .safetensors.")
    parser.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT",
        help="a file of the authors; several if they split one direction into several files",
    )  # fmt: skip
    parser.add_argument("--backend", default="paramisp", metavar="NAME", help="default: paramisp")
    parser.add_argument("--direction", required=True, choices=("inverse", "forward", "joint"))
    parser.add_argument("--camera", required=True, help="the camera that the weights are for, such as A7R3")
    parser.add_argument("--out", required=True, type=Path, help="the .safetensors file to write")
    parser.add_argument("--force", action="store_true", help="overwrite it")
    args = parser.parse_args(argv)
    if args.out.suffix != ".safetensors":
        return refuse(f"--out: expected a name that ends in .safetensors, got {args.out}", USAGE)
    if args.out.exists() and not args.force:
        return refuse(f"{args.out}: exists already; choose another name, or overwrite it with --force", USAGE)
    from isp import registry

    try:
        backend, published = registry.trainable_backend(args.backend), registry.published(args.backend)
    except ValueError as problem:
        return refuse(str(problem), USAGE)
    from isp.files import checkpoints, weights

    source = " + ".join(map(str, args.checkpoints))
    try:
        read = [checkpoints.read(path) for path in args.checkpoints]
        tensors = checkpoints.renamed(read, published, args.direction, source)
        networks = backend.trainable(args.direction, published.design, {}, 0)
        found = weights.by_network(tensors, args.direction)
        for name, network in networks.networks.items():
            weights.fill(network, found.get(name, {}), f"{source} ({name})")
        metadata = {**networks.metadata, **published.metadata, "licence": published.licence}
        weights.write(args.out, tensors, backend=args.backend, direction=args.direction, camera=args.camera, **metadata)
    except (OSError, ValueError) as problem:
        return refuse(command.sentence_of(problem), BAD_DATA)
    doubt = all(len(published.directions_of(checkpoint)) > 1 for checkpoint in read)
    notes = [f"{key} {value}" for key, value in {**published.design, **published.metadata}.items()]
    command.say(
        ", ".join([
            f"{args.out}: {args.direction} {args.backend} of {args.camera}",
            f"{sum(tensor.numel() for tensor in tensors.values()):,} parameters",
            *notes,
        ])
        + ("; the checkpoint does not say its direction" if doubt else "")
    )  # fmt: skip
    return DONE


if __name__ == "__main__":
    sys.exit(main())
