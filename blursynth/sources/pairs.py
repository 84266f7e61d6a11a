"""Ready-made pairs as a source."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from blursynth.sources.clips import Files, Footage, footage_of
from blursynth.sources.colours import remarks_on
from blursynth.sources.source import SourceModel, given
from blursynth.sources.walk import find

# Folder and name of blurred image, saturation mask and sharp target; * matches the same text in all three.
# Source: rim2022, RSBlur@ae33a6c (README)
LAYOUTS = {
    "gopro_u": (
        ("centroid_blurred_img", "*_blurred.png"),
        ("centroid_blurred_mask_100", "*_blurred.png"),
        ("target_img", "*_gt.png"),
    ),
    "gopro_abme": (("avg_inter_img", "avg_blur.png"), ("avg_inter_mask_100", "avg_blur.png"), ("gt", "gt_sharp.png")),
    "rsblur": (("avg65_img", "avg_blur.png"), ("avg65_mask_100", "avg_blur.png"), ("gt", "gt_sharp.png")),
}


class Pairs(SourceModel):
    """Ready-made blur, saturation mask and sharp target in a published layout; a pair counts if one of them matches."""

    use: Literal["pairs"] = "pairs"
    layout: Literal["gopro_u", "gopro_abme", "rsblur"]

    brings: ClassVar[tuple[str, ...]] = ("one_frame", "saturation")

    def open(self, data: Path | None) -> Footage:
        """Find the pairs. Raises `ValueError` if there is none, or one lacks a file."""
        layout = ", ".join("/".join(role) for role in LAYOUTS[self.layout])
        data = given(data, "pairs", f"the layout {self.layout} ({layout})")
        found = find(data, self.pattern)
        triples = [_triple(name, self.layout) for name in found.names]
        pairs = [Files(each[0], data.absolute(), each[:1], each[2], each[1]) for each in {*triples} if each]
        if not pairs:
            raise ValueError(f'{data}: expected {layout} (source.layout "{self.layout}"), got none of them; check both')
        for pair in sorted(pairs):
            missing = [str(path) for path in pair.paths() if not path.is_file()]
            if missing:
                expected = ", ".join(map(str, pair.paths()))
                raise ValueError(f"{data}: expected {expected}, got no {', '.join(missing)}; copy the data again")
        if strangers := triples.count(None):
            found.skipped["image of no pair"] = strangers
        found.notes += remarks_on(pair.folder / pair.sharp for pair in pairs)
        return footage_of(pairs, found.skipped, len(pairs), found.notes)


def _triple(name: str, layout: str) -> tuple[str, str, str] | None:
    """Return blurred image, mask and sharp target of the pair that `name` belongs to; `None` if it belongs to none."""
    path = PurePosixPath(name)
    for folder, form in LAYOUTS[layout]:
        before, star, after = form.partition("*")
        fits = path.name.startswith(before) and path.name.endswith(after) if star else path.name == form
        if fits and path.parent.name == folder:
            text, root = path.name.removeprefix(before).removesuffix(after), path.parents[1]
            blur, mask, sharp = (str(root / role / file.replace("*", text)) for role, file in LAYOUTS[layout])
            return blur, mask, sharp
    return None
