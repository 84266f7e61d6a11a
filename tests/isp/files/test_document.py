"""YAML documents: values mean what they look like, and a document from elsewhere takes bounded time and memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from isp.files import document
from isp.files.document import MOST_BYTES, Count, Matrix3, Part, Positive, PositiveRange, parsed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("+3", 3), ("0", 0), ("9223372036854775807", 2**63 - 1),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("-2.5e-3", -2.5e-3), ("1.0e+3", 1000.0), (".inf", float("inf")),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("a7r3", "a7r3"), ("2 m", "2 m"), ("12:30 h", "12:30 h"), ("y", "y"), ("v1_0", "v1_0"), ("1e-4", "1e-4"),
        ('"12:30"', "12:30"), ("'010'", "010"), ('"yes"', "yes"), ("'2024-01-31'", "2024-01-31"), ('"1_000"', "1_000"),
    ],
)  # fmt: skip
def test_a_value_means_what_it_looks_like(text: str, value: Any) -> None:
    found = parsed(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


# What YAML 1.1 takes for something else than it looks like: 45045, 8, 1000, 2, 255, true and a day.
UNCLEAR = [
    "12:30:45", "1:30", "-190:20:30", "12:30:45.5", "1:30.5", "010", "-007", "0777", "08", "09", "0_1", "1_000", "1_0.5",
    "0b10", "0x_ff", "0xff", "yes", "No", "on", "OFF", "2024-01-31", "2024-01-31 12:30:45", "2024-01-31T12:30:45Z",
    "9" * 20, "-" + "9" * 500,
]  # fmt: skip


@pytest.mark.parametrize("form", ["a: {}", "a: [1, {}]", "{}: 1", "{{a: {}}}"])
@pytest.mark.parametrize("text", UNCLEAR, ids=lambda text: text[:20])
def test_what_yaml_reads_otherwise_than_it_looks_is_refused(text: str, form: str) -> None:
    with pytest.raises(
        yaml.YAMLError, match=r"expected .*, got .* in line 1; put it in quotes if it is a text"
    ) as refusal:
        parsed(form.format(text))
    assert f'got "{text:.60}"' in str(refusal.value) and len(str(refusal.value)) < 300


@given(st.integers(-(10**18), 10**18))
def test_whole_numbers_are_decimal(number: int) -> None:
    assert parsed(str(number)) == number


@given(st.lists(st.integers(0, 59), min_size=2, max_size=4), st.sampled_from(["", "-", "+"]))
def test_no_number_of_base_60_passes_as_another(digits: list[int], sign: str) -> None:
    text = sign + ":".join(map(str, digits))
    try:
        found = parsed(f"a: {text}")["a"]
    except yaml.YAMLError:
        return
    assert found == text


# ---------------------------------------------------------------- structure


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", 'the key "a" appears twice in the block that begins in line 1; keep one'),
        ("a: {b: 1, 'b': 2}", 'the key "b" appears twice'),
        ("a: &x {b: 1}\nc: *x", 'expected no alias, got "*x" in line 2; repeat it'),
        ("a: &x [*x]", 'expected no alias, got "*x" in line 1; repeat it'),
        ("<<: {a: 1}", "expected a name as the key in line 1, got a merge (<<)"),
        ("a: 1\n? [1]\n: 2", "expected a name as the key in line 2, got a block"),
        ("? {a: 1}\n: 2", "expected a name as the key in line 1, got a block"),
        ("a: !!python/object/apply:os.system [ls]", 'expected no tag, got "tag:yaml.org,2002:python/object/apply:os.system"'),
        ("a: !!int '12:30'", 'expected no tag, got "tag:yaml.org,2002:int" in line 1; leave it out'),
        ("a: !!binary aGk=", "expected no tag"),
        ("a: !own 3", "expected no tag"),
        ("[" * 3000, "expected a few levels of blocks in blocks, got hundreds"),
        ("- " * 3000, "expected a few levels of blocks in blocks, got hundreds"),
        ("{a: " * 3000, "expected a few levels of blocks in blocks, got hundreds"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ('a: "\\ud800"', "expected whole characters, got half of one in line 1"),
        ("a: \x00", "unacceptable character"),
        ("a: [1", "while parsing a flow sequence"),
    ],
)  # fmt: skip
def test_what_is_no_plain_document_is_refused_on_one_line(text: str, words: str) -> None:
    with pytest.raises(yaml.YAMLError) as refusal:
        parsed(text)
    assert words in str(refusal.value) and "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


M = MOST_BYTES
LARGE = {
    "keys": "".join(f"k{at}: 1\n" for at in range(100_000)),
    "equal keys": "a: 1\n" * 10_000,
    "a list": "[" + "1," * (M // 2 - 1) + "]",
    "texts": "[" + "''," * (M // 3 - 1) + "]",
    "one text": "a: " + "x" * (M - 3),
    "many words": "a: " + "x " * (M // 2 - 2),
    "escapes": 'a: "' + "\\u0041" * (M // 6 - 1) + '"',
    "comments": "#\n" * (M // 2),
    "lines": "\n" * M,
    "levels": "".join(" " * at + "a:\n" for at in range(1400)),
    "questions": "? " * (M // 2),
    "anchors": "".join(f"- &a{at} 1\n" for at in range(80_000)),
    "colons": "a" + ":" * (M - 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_large_document_takes_bounded_time(name: str) -> None:
    """A second or two; 100,000 keys took more than an hour."""
    try:
        parsed(LARGE[name][:M])
    except yaml.YAMLError as refusal:
        assert len(str(refusal)) < 400


def test_the_number_of_values_is_limited() -> None:
    assert len(parsed("".join(f"k{at}: 1\n" for at in range(9_999)))) == 9_999
    with pytest.raises(
        yaml.YAMLError, match="expected at most 20,000 values, got more in line 10000; shorten the file"
    ):
        parsed("".join(f"k{at}: 1\n" for at in range(10_000)))


# ---------------------------------------------------------------- files


def test_the_text_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: ä", encoding="utf-8")
    assert document.text_of(path, "a recipe") == "a: ä"
    path.write_bytes(b"a: \xe4")
    with pytest.raises(ValueError, match=r"a.yaml: expected a recipe in UTF-8, got the byte 0xe4"):
        document.text_of(path, "a recipe")
    path.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(ValueError, match=r"a.yaml: expected a recipe of at most 1,048,576 bytes, got 1,048,577"):
        document.text_of(path, "a recipe")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ValueError, match=r"pipe.yaml: expected a recipe, a regular file, got a named pipe"):
        document.text_of(tmp_path / "pipe.yaml", "a recipe")


# ---------------------------------------------------------------- kinds of values


class Block(Part):
    count: Count = 1
    size: Positive = 1.0
    matrix: Matrix3 = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    ratio: PositiveRange | str = "profile"
    bare: float = 0.0
    flag: bool = False
    either: bool | float = 0.0


@pytest.mark.parametrize(
    "block",
    [
        {"count": True}, {"size": True}, {"bare": False}, {"ratio": [True, 2]}, {"matrix": [[1, 0, 0], [0, True, 0]]},
        {"count": 10**18}, {"size": 1e300}, {"size": float("nan")}, {"bare": float("inf")}, {"bare": "nan"}, {"bare": "1e999"},
        {"matrix": [[1, 0, 0], [0, float("nan"), 0], [0, 0, 1]]}, {"matrix": [[1e300, 0, 0], [0, 1, 0], [0, 0, 1]]},
    ],
)  # fmt: skip
def test_a_number_is_a_finite_number(block: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Block.model_validate(block)


def test_truth_values_are_taken_where_they_belong() -> None:
    assert Block(flag=True, either=True).model_dump()["either"] is True


@settings(deadline=None, max_examples=30)
@given(st.text(alphabet="[]{}:,-#&*!|>'\"%@` \n\tab1", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed(text)
    except yaml.YAMLError as refusal:
        assert "\n" not in str(refusal)
