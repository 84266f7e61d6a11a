"""What the doctor says of each file, and that no damage makes anything but one sentence of it."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from isp import doctor, registry
from isp.apply import __main__ as apply
from isp.contract import Limits
from isp.doctor import diagnose, main, report
from isp.files.findings import Finding, optics, verdict
from isp.files.pictures import read_image, write_image
from isp.files.raw import read_embedded_jpeg, read_raw

ROOT = Path(__file__).parents[2]
DICE = np.random.Generator(np.random.PCG64(4))
RAW = DICE.integers(100, 4000, (48, 64), dtype=np.uint16)


@pytest.fixture
def shot(dng, tmp_path):
    """`shot(raw, **tags of the DNG)` writes one and gives its path."""

    def write(raw=RAW, *arguments, **options) -> Path:
        path = tmp_path / "shot.dng"
        path.write_bytes(dng(raw, *arguments, **options))
        return path

    return write


@pytest.fixture
def photo(tmp_path) -> Path:
    """A JPEG with EXIF, as a camera turned on its side writes it."""
    exif = Image.Exif()
    exif[271], exif[272], exif[274] = "NIKON CORPORATION", "NIKON D90", 6
    rational = TiffImagePlugin.IFDRational
    optical = {33434: rational(1, 250), 33437: rational(28, 10), 34855: 400, 37386: rational(35), 41989: 52}
    exif.get_ifd(34665).update(optical)
    smooth = Image.fromarray(DICE.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((64, 48))
    smooth.save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


def texts(path: Path) -> dict[str, str]:
    """{topic: text}, warnings and fatal findings marked as they are printed."""
    return {
        finding.topic: finding.text if finding.severity == "ok" else f"{finding.severity}: {finding.text}"
        for finding in diagnose(path).findings
    }


# ---------------------------------------------------------------- the rule


def test_the_verdict_follows_from_the_worst_finding():
    ok, dark = Finding("a", "ok", "fine"), Finding("b", "warning", "it is dark", "dark")
    assert verdict([]) == verdict([ok]) == "good"
    assert verdict([dark, ok, dark]) == "usable, dark; dark"
    assert verdict([dark, Finding("c", "fatal", "one"), Finding("d", "fatal", "two")]) == "not usable: one"


def test_unknown_optics_are_named():
    known = {"iso": 400.0, "exposure_s": 1 / 250, "f_number": 2.8, "focal_mm": 35.0}
    assert optics(known) == Finding("optics", "ok", "ISO 400, 1/250 s, f/2.8, 35 mm")
    partly = optics(known | {"iso": None, "exposure_s": 2.0})
    assert (partly.text, partly.consequence) == ("2 s, f/2.8, 35 mm; unknown: ISO", "ISO unknown")
    assert optics({}).consequence == "optics unknown"


# ---------------------------------------------------------------- RAW files


def test_every_line_on_a_dng(shot):
    path = shot(RAW, "GRBG", black=(103, 100, 106, 103), orientation=6, active=(2, 4, 46, 60))
    found = diagnose(path)
    visible = np.sort(RAW[2:46, 4:60].ravel())
    said = texts(path)
    assert found.usable
    assert said.pop("white balance").startswith("2 1 1.6 as shot; daylight ")
    assert said == {
        "kind": "RAW, DNG: TIFF structure",
        "camera": "Maker/Camera 1",
        "orientation": "6, to be turned by 90 degrees clockwise",
        "encoding": "uncompressed, 16 bits",
        "visible area": "44x56 at row 2, column 4 of 48x64",
        "CFA": "GRBG",
        "data": "pixels in all 44 rows",
        "black": "100 103 106; 0.00% of the pixels are below",
        "white": "4000 (12 bits); 0.00% of the pixels are at or above",
        "histogram": "minimum {}, 0.1 % {}, median {}, 99.9 % {}, maximum {}".format(*visible[[0, 2, 1231, 2461, -1]]),
        "matrix": "the file's own (sensor_to_linear)",
        "optics": "ISO 400, 1/250 s, f/2.8, 35 mm",
        "embedded JPEG": "none that LibRaw finds (No thumbnail in file)",
        "ISPs, forward": ", ".join(name for name in registry.names() if name != "upi/published")
        + "; not upi/published (needs the CFA pattern RGGB, got GRBG)",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "good"),
        ({"neutral": (1, 1, 1)}, "usable, white balance replaced by daylight"),
        ({"neutral": (2, 1, 1.6), "exif": {}}, "usable, white balance replaced by daylight; optics unknown"),
        ({"black": (100, 100, 200, 100)}, "good"),
        ({"black": (1500,) * 4}, "usable, black level doubtful"),
        ({"white": 3500}, "usable, white level doubtful"),
        ({"white": 65000}, "usable, very dark or white level doubtful"),
        ({"white": 255}, "not usable: expected pixels up to the white level 255, got "),
        ({"matrix": None}, "not usable: expected a camera with a known colour matrix, got none; give --matrix"),
    ],
)  # fmt: skip
def test_verdicts(shot, options, says):
    found = diagnose(shot(**options))
    assert verdict(found.findings).startswith(says)
    assert found.usable == (found.camera is not None) == (not says.startswith("not"))


def test_what_an_isp_lacks(shot, monkeypatch):
    limits = {
        "a": Limits(needs=("iso",)),
        "b": Limits(needs_reference=True),
        "c": Limits(cfas=("BGGR",)),
        "d": "d: cannot be imported",
    }
    monkeypatch.setattr(doctor, "_limits", lambda names: limits)
    said = texts(shot(exif={}))["ISPs, forward"]
    assert said == (
        "none; not a (needs iso, which is unknown); "
        "not b (needs the sRGB picture of the same scene as a reference, got none); "
        "not c (needs the CFA pattern BGGR, got RGGB); not d (d: cannot be imported)"
    )


def test_headerless_data_are_not_guessed_at(tmp_path):
    path = tmp_path / "mosaic.raw"
    DICE.integers(0, 2**14, 512 * 768, dtype=np.uint16).tofile(
        path
    )  # LibRaw takes it for a camera of 768x1024 and 8 bits
    (kind,) = diagnose(path).findings
    assert kind.text.startswith(
        "expected a RAW file, JPEG, PNG or TIFF, got 786432 bytes without a known header; if it is"
    )


# ---------------------------------------------------------------- pictures and others


def test_every_line_on_a_jpeg(photo):
    said = texts(photo)
    assert said.pop("data").startswith("mean of red, green, blue ")
    assert said == {
        "kind": "picture, JPEG",
        "camera": "NIKON CORPORATION/NIKON D90; its profile: --camera d90",
        "orientation": "6, to be turned by 90 degrees clockwise",
        "size": "64x48 upright, 8 bits",
        "colours": "no colour profile; its values are assumed to be sRGB",
        "optics": "ISO 400, 1/250 s, f/2.8, 35 mm",
        "inverse": "isp.apply inverse takes it; --camera or --like set white balance, matrix and levels",
        "ISPs, inverse": ", ".join(registry.names()),
    }
    assert verdict(diagnose(photo).findings) == "good"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_nothing_says_whether_16_bits_are_linear(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    write_image(path, DICE.integers(0, 65535, (20, 30, 3), dtype=np.uint16))
    found = diagnose(path)
    assert found.usable
    assert verdict(found.findings) == "usable, sRGB assumed, 16 bits may be linear; optics unknown"


def test_a_mosaic_of_apply_is_known_by_its_sidecar(photo, tmp_path):
    assert apply.main(["inverse", str(photo), "--isp", "rsblur/a7r3", "--out", str(tmp_path / "raw")]) == 0
    mosaic = tmp_path / "raw" / f"{photo.stem}.tif"
    said = texts(mosaic)
    assert said["kind"].startswith("mosaic of isp.apply inverse")
    assert "RGGB, black 512 512 512, white 16383" in said["size"]
    assert "rsblur/a7r3" in said["ISPs, forward"]
    mosaic.with_suffix(".json").write_text("{}")
    assert doctor.diagnose(mosaic).findings[-1].severity == "fatal"


def test_a_picture_of_one_value_is_none(tmp_path):
    write_image(tmp_path / "black.png", np.zeros((20, 30, 3), np.uint8))
    assert verdict(diagnose(tmp_path / "black.png").findings).startswith(
        "not usable: expected a picture, got 0 in every"
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "got 0 bytes without a known header"),
        (b'{"a": 1}', "got 8 bytes without a known header"),
        (b"\x93NUMPY\1\0v\0{", "got a NumPy array; "),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 90, "got a video, or a HEIF or AVIF picture; "),
        (b"RIFF\0\0\0\0WEBPVP8 ", "got a WebP picture; save it as PNG"),
        (b"\x89PNG\r\n\x1a\n", "expected a whole PNG file, got a truncated or damaged one; copy it again"),
    ],
)
def test_what_is_neither(tmp_path, content, says):
    path = tmp_path / "thing.nef"
    path.write_bytes(content)
    said = verdict(diagnose(path).findings)
    assert said.startswith("not usable: expected ")
    assert says in said


# ---------------------------------------------------------------- the command


def test_the_command(shot, photo, tmp_path, capsys):
    raw, missing = shot(), tmp_path / "missing.nef"
    assert main([str(raw), str(photo)]) == doctor.DONE
    first, second = capsys.readouterr().out.split("\n\n")
    assert first == report(diagnose(raw)).rstrip("\n")
    assert second.startswith(f"{photo}\n  kind:          picture, JPEG\n")
    assert second.endswith("\n  verdict:       good\n")
    assert main([str(missing), str(raw), str(tmp_path)]) == doctor.BAD_DATA
    verdicts = [line.split(":", 1)[1].strip() for line in capsys.readouterr().out.splitlines() if "verdict:" in line]
    assert verdicts == [
        "not usable: expected a file, got nothing there; check the path",
        "good",
        "not usable: expected a file, a regular file, got a folder; check the path",
    ]
    assert main([]) == 2


def test_json(shot, tmp_path, capsys):
    path = shot()
    assert main(["--json", str(path), str(tmp_path / "missing.nef")]) == doctor.BAD_DATA
    found, missing = json.loads(capsys.readouterr().out)
    assert found["path"] == str(path)
    assert (found["usable"], found["verdict"]) == (True, "good")
    assert found["camera"]["white_balance"] == pytest.approx([2, 1, 1.6])
    assert {"topic": "CFA", "severity": "ok", "text": "RGGB", "consequence": ""} in found["findings"]
    assert (missing["usable"], missing["camera"]) == (False, None)


def test_interrupted(shot, monkeypatch, capsys):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "diagnose", interrupt)
    assert main([str(shot())]) == doctor.INTERRUPTED
    assert "interrupted; 0 of 1 files are done" in capsys.readouterr().err


def test_help_comes_at_once():
    loaded = "import sys, isp.doctor; print({'torch', 'numpy', 'cv2', 'rawpy'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, env=environment, timeout=60
    )
    assert process.stdout == "set()\n", process.stderr


def test_a_pipe_does_not_hold_it_up(tmp_path):
    os.mkfifo(tmp_path / "pipe.nef")
    assert "got a named pipe" in verdict(diagnose(tmp_path / "pipe.nef").findings)


# ---------------------------------------------------------------- damage

MOST_SECONDS, MOST_BYTES = 20.0, 2**31  # of CPU time for one file, since the machine may be busy; for the whole process


def mutations(content: bytes, cuts: int, flips: int) -> Iterator[tuple[str, bytes]]:
    """Truncations at `cuts` places, half of them near the start; 1, 4 or 16 changed bytes at `flips` places.

    A third of the flips hits the first 2 kB, a third the first 64 kB, a third the whole file.
    """
    size = len(content)
    places = np.concatenate([np.linspace(0, size - 1, cuts - cuts // 2), np.geomspace(8, size - 2, cuts // 2)])
    for place in places.astype(int):
        yield f"cut at {place}", content[:place]
    dice = np.random.Generator(np.random.PCG64(size))
    for number in range(flips):
        damaged = bytearray(content)
        reach = min(size, (2**11, 2**16, size)[number % 3])
        for _ in range((1, 4, 16)[number // 3 % 3]):
            damaged[int(dice.integers(reach))] = int(dice.integers(256))
        yield f"flip {number}", bytes(damaged)


def survives(path: Path, case: str) -> str:
    """Gives the file to everything that reads files; how the doctor judged it."""
    start = time.process_time()
    for read in (read_raw, read_embedded_jpeg, read_image):
        try:
            found = read(path)
        except (ValueError, OSError) as problem:
            assert str(problem).startswith(f"{path}: expected "), (case, read.__name__)
            assert str(problem).isprintable(), (case, read.__name__)
        else:
            pixels = found.raw if read is read_raw else found
            assert pixels.size and pixels.min() < pixels.max(), (case, read.__name__)
    diagnosis = diagnose(path)
    assert all(finding.text.isprintable() for finding in diagnosis.findings), case
    json.dumps(doctor.record(diagnosis))
    assert report(diagnosis).count("\n") == len(diagnosis.findings) + 2, case
    assert time.process_time() - start < MOST_SECONDS, case
    return verdict(diagnosis.findings).partition(":")[0].partition(",")[0]


@pytest.mark.parametrize("kind", ["dng", "jpg", "png", "tif"])
def test_no_damage_makes_more_than_a_sentence(kind, shot, photo, tmp_path, capfd):
    whole = {"dng": shot(), "jpg": photo}.get(kind, tmp_path / f"whole.{kind}")
    if not whole.exists():
        write_image(whole, DICE.integers(0, 65535, (24, 32, 3), dtype=np.uint16))
    content, path = whole.read_bytes(), tmp_path / f"damaged.{kind}"
    judged = []
    for case, damaged in mutations(content, cuts=50, flips=200):
        path.write_bytes(damaged)
        judged.append(survives(path, case))
    assert "not usable" in judged
    assert {"good", "usable"} & {*judged} or kind == "png"  # it has checksums
    assert "Traceback" not in capfd.readouterr().err


LONG = (
    "raw/nikon_d1/RAW_NIKON_D1.NEF", "raw/canon_s30/RAW_CANON_S30.CRW", "raw/canon_550d_ml/colorchart.dng",
    "raw/gopro/HERO6_GOPR0024.dng", "raw/blackmagic/Blackmagic.dng", "raw/odd/canon_eos_6d_lineardng.dng",
    "raw/odd/RAW_KODAK_DC50.KDC", "raw/heads/SLT-A55V_head.ARW", "raw/heads/D7100_head.NEF",
    "camera_jpeg/Nikon_D90.jpg", "camera_jpeg/Samsung_S7edge_SM-G935L.jpg", "sharp/kodim03.png",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_no_damage_to_real_files_makes_more_than_a_sentence(real, name, tmp_path):
    content, path = real(name).read_bytes(), tmp_path / Path(name).name
    judged: dict[str, int] = {}
    slowest = 0.0
    for case, damaged in mutations(content, cuts=50, flips=200):
        path.write_bytes(damaged)
        start = time.process_time()
        word = survives(path, case)
        slowest = max(slowest, time.process_time() - start)
        judged[word] = judged.get(word, 0) + 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(f"{name}: {judged}, slowest {slowest:.1f} s, peak {peak / 2**20:.0f} MB\n")
    assert peak < MOST_BYTES


# ---------------------------------------------------------------- real files

UNKNOWN = "usable, optics unknown"
LINEAR = "usable, sRGB assumed, 16 bits may be linear; optics unknown"
NEITHER = "not usable: expected a RAW file, JPEG, PNG or TIFF, got "
VERDICTS = {  # whole, or how it starts; SOURCES.md says what each file is
    "raw/nikon_d1/RAW_NIKON_D1.NEF": "usable, white balance replaced by daylight",
    "raw/canon_s30/RAW_CANON_S30.CRW": "good",
    "raw/canon_550d_ml/colorchart.dng": UNKNOWN,
    "raw/blackmagic/Blackmagic.dng": UNKNOWN,
    "raw/gopro/HERO6_GOPR0024.dng": "usable, gains of up to 2.08 applied to its pixels and their noise",
    "raw/gopro/HERO6_GOPR0024.GPR": "not usable: expected a RAW file of a supported camera, got one compressed by VC-5 (GoPro",
    "raw/odd/canon_eos_6d_lineardng.dng": "not usable: expected a Bayer mosaic, got 3 colours in each pixel",
    "raw/odd/Nikon_coolscan.nef": "not usable: expected a Bayer mosaic, got 3 colours in each pixel",
    "raw/odd/RAW_KODAK_DC120.KDC": "not usable: expected a camera with a known colour matrix, got none",
    "raw/odd/RAW_KODAK_DC50.KDC": "not usable: expected a camera with a known colour matrix, got none",
    "raw/odd/exiftool_Nikon_D70_noraw.nef": "not usable: expected a whole RAW file of 2014x3040 pixels, which take at least",
    "raw/heads/D7100_head.NEF": "not usable: expected a whole RAW file of at least 28842901 bytes, got 3477280; it is trunc",
    "raw/heads/SLT-A55V_head.ARW": "not usable: expected a whole RAW file of at least 17474560 bytes, got 1293760; it is",
    "raw/heads/EOS-1DsIII_head.CR2": "not usable: expected a whole RAW file of at least 20859768 bytes, got 339216; it is",
    "raw/nikon_d750_crop/DSC_1339_768x512_rggb.raw": f"{NEITHER}786432 bytes without a known header; if it is a bare mosaic",
    "raw/nikon_d750_crop/reference_out_gamma.png": LINEAR,
    "raw/packed/x90_3_4.npy": f"{NEITHER}a NumPy array; if it is a bare mosaic",
    "raw/packed/imx135_001.png": LINEAR,
    "raw/packed/imx135_006.png": LINEAR,
    "raw/packed/imx135_011.png": LINEAR,
    "raw/packed/imx135_001_metadata.json": f"{NEITHER}86 bytes without a known header",
    "raw/packed/imx135_006_metadata.json": f"{NEITHER}86 bytes without a known header",
    "raw/packed/imx135_011_metadata.json": f"{NEITHER}85 bytes without a known header",
    "camera_jpeg/Nikon_D90.jpg": "good",
    "camera_jpeg/Nikon_D40.jpg": "good",
    "camera_jpeg/Samsung_S7edge_SM-G935L.jpg": "good",
    "sharp/target_3.png": UNKNOWN,
    "sharp/target_8.png": UNKNOWN,
    "sharp/target_18.png": UNKNOWN,
    "sharp/kodim03.png": UNKNOWN,
    "sharp/cockatoo.mp4": f"{NEITHER}a video",
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_on_each_real_file(real, name):
    said, expected = verdict(diagnose(real(name)).findings), VERDICTS[name]
    assert said == expected or (expected.startswith("not usable") and said.startswith(expected))


def test_no_real_file_is_forgotten(real):
    folders = [real(folder) for folder in ("raw", "camera_jpeg", "sharp")]
    found = {
        path.relative_to(folder.parent).as_posix() for folder in folders for path in folder.rglob("*") if path.is_file()
    }
    assert found == VERDICTS.keys()


def test_a_scanner_whose_white_is_no_white_is_named(real):
    said = texts(real("raw/odd/Nikon_coolscan.nef"))
    assert said["levels"].startswith(
        "fatal: expected pixels up to the white level 255, got 87.5% above it, up to 54998; "
    )
    assert said["camera"] == "Nikon/Nikon COOLSCAN IV ED"


def test_what_can_still_be_said_of_a_head(real):
    said = texts(real("raw/heads/D7100_head.NEF"))
    assert said["camera"] == "NIKON CORPORATION/NIKON D7100"
    assert said["visible area"] == "4020x6036 at row 0, column 0 of 4020x6036"
    assert said["encoding"] == "Nikon NEF, 14 bits"
    assert said["optics"] == "ISO 100, 1/30 s, f/8, 50 mm"
    assert said["embedded JPEG"] == "4000x6000"
