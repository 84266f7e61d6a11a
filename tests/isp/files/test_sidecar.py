"""Sidecars: what is written is read, and a file from elsewhere is read or refused in a sentence, in bounded time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from isp import profile
from isp.files import document, sidecar


def written(path: Path) -> dict[str, object]:
    camera = profile.load("a7r3").camera((2.0, 1.6), "GBRG", iso=100.0, exposure_s=0.01, f_number=4.0, focal_mm=50.0)
    sidecar.write(
        path, camera, (40, 60), orientation=6, model="SONY/A7R3", source="a.jpg", isp="rsblur/a7r3", weights=()
    )
    record: dict[str, object] = json.loads(path.read_text())
    return record


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path / "a.json")
    found = sidecar.read(tmp_path / "a.json")
    assert found.size == (40, 60) and found.orientation == 6 and found.source == "a.jpg"
    assert found.shot().cfa == ("GBRG",)


def test_a_name_that_is_not_utf_8_can_be_read_again(tmp_path: Path) -> None:
    camera = profile.load("a7r3").camera((2.0, 1.6), iso=100.0)
    names = {"source": os.fsdecode(b"caf\xe9.jpg"), "model": "", "isp": "x"}
    sidecar.write(tmp_path / "a.json", camera, (40, 60), orientation=1, weights=(), **names)
    assert sidecar.read(tmp_path / "a.json").source == r"caf\xe9.jpg"


def doubled(text: str, key: str) -> str:
    """`text` with a second, other value of `key` before the first one."""
    assert text.count(f'"{key}"') == 1
    return text.replace(f'"{key}"', f'"{key}": 1, "{key}"')


CONTENTS = {
    "nothing": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "no text": lambda text: b"\xff\xfe\x00\xd8",
    "a list": lambda text: "[]",
    "a deep list": lambda text: "[" * 10**5,
    "a deep block": lambda text: '{"a":' * 10**5,
    "a key twice": lambda text: doubled(text, "orientation"),
    "an inner key twice": lambda text: doubled(text, "iso"),
    "an unknown key": lambda text: text.replace('"size"', '"sizes": 1, "size"'),
    "100,000 keys": lambda text: json.dumps({f"{at}": 0 for at in range(100_000)}),
    "10 MB of text": lambda text: text.replace("a.jpg", "x" * 10**7),
    "more digits than a number has": lambda text: text.replace("60", "9" * 5000),
    "a side of 10^18": lambda text: text.replace("60", "1" + "0" * 18),
    "a negative side": lambda text: text.replace("60", "-60"),
    "a truth value": lambda text: text.replace("60", "true"),
    "a text as a number": lambda text: text.replace("60", '"60"'),
    "NaN": lambda text: text.replace("50.0", "NaN"),
    "infinity": lambda text: text.replace("50.0", "1e999"),
    "half a character": lambda text: text.replace("a.jpg", "\\ud800"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_sidecar_from_elsewhere_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.json"
    written(path)
    content = CONTENTS[name](path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"expected a sidecar of isp.apply inverse") as refusal:
        sidecar.read(path)
    assert (
        str(refusal.value).startswith(f"{path}: ") and len(str(refusal.value)) < 700 and "\n" not in str(refusal.value)
    )


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name, got in (("pipe", "a named pipe"), ("folder", "a folder")):
        with pytest.raises(ValueError, match=f"{name}.json: expected a sidecar of isp.apply inverse, .*, got {got}"):
            sidecar.read(tmp_path / f"{name}.json")
    with pytest.raises(FileNotFoundError, match="got no file; copy it along with the mosaic"):
        sidecar.read(tmp_path / "none.json")


def test_the_limit_is_the_one_of_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    written(path)
    text = path.read_text()
    path.write_text(text + " " * (document.MOST_BYTES - len(text)))
    assert sidecar.read(path).orientation == 6
    path.write_text(text + " " * (document.MOST_BYTES - len(text) + 1))
    with pytest.raises(ValueError, match=r"of at most 1,048,576 bytes, got 1,048,577; check the path"):
        sidecar.read(path)
