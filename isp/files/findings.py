"""Findings on a file, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One finding on a topic.

    text         what was found; of a fatal finding: what was expected, what came, and what to do (the caller prepends the
                 path)
    consequence  a few words on what follows from a warning, for the verdict
    """

    topic: str
    severity: Literal["ok", "warning", "fatal"]
    text: str
    consequence: str = ""


def verdict(findings: Iterable[Finding]) -> str:
    """Return the verdict: the first fatal finding, else the consequences of all warnings, else "good"."""
    findings = list(findings)
    fatal = next((finding for finding in findings if finding.severity == "fatal"), None)
    if fatal is not None:
        return f"not usable: {fatal.text}"
    warnings = [finding.consequence for finding in findings if finding.severity == "warning"]
    return f"usable, {'; '.join(warnings)}" if warnings else "good"


# ---------------------------------------------------------------- EXIF


OPTICS: dict[str, tuple[str, Callable[[float], str]]] = {
    "iso": ("ISO", lambda iso: f"ISO {iso:g}"),
    "exposure_s": ("exposure time", lambda time: f"1/{1 / time:.4g} s" if time < 0.3 else f"{time:.4g} s"),
    "f_number": ("f-number", lambda number: f"f/{number:.4g}"),
    "focal_mm": ("focal length", lambda length: f"{length:.4g} mm"),
}
_TURNS = {
    1: "upright", 2: "mirrored", 3: "to be turned by 180 degrees", 4: "mirrored, to be turned by 180 degrees",
    5: "mirrored, to be turned by 270 degrees clockwise", 6: "to be turned by 90 degrees clockwise",
    7: "mirrored, to be turned by 90 degrees clockwise", 8: "to be turned by 270 degrees clockwise",
}  # fmt: skip


def optics(values: Mapping[str, float | None]) -> Finding:
    """Return the finding on iso, exposure_s, f_number and focal_mm of a shot; a missing value or None is unknown."""
    known = [written(value) for field, (_, written) in OPTICS.items() if (value := values.get(field)) is not None]
    unknown = [name for field, (name, _) in OPTICS.items() if values.get(field) is None]
    if not unknown:
        return Finding("optics", "ok", ", ".join(known))
    listed = f"{', '.join(known)}; " if known else ""
    missing = " and ".join(unknown) if known else "optics"
    return Finding("optics", "warning", f"{listed}unknown: {', '.join(unknown)}", f"{missing} unknown")


def orientation(exif: int | None) -> Finding:
    """Return the finding on an EXIF orientation, 1..8 or None."""
    return Finding("orientation", "ok", "unknown, assumed upright" if exif is None else f"{exif}, {_TURNS[exif]}")
