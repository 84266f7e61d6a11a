"""What the documents say is what there is."""

import configparser
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from blursynth.recipe import summaries
from isp import registry

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("equations", ROOT / "docs" / "equations.py")
equations = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(equations)


def test_every_source_has_a_reference_and_every_reference_is_cited():
    cited = {source.key for source in equations.sources()}
    assert len(cited) > 8
    assert cited == equations.keys()


def test_equations_table_is_up_to_date():
    assert equations.TABLE.read_text() == equations.table(), "run python docs/equations.py"


def test_a_source_is_found_in_prose():
    assert list(equations.cited("Noise. Source: rim2022, eq. 4; kim2024, §3.2.")) == [
        ("rim2022", "eq. 4"),
        ("kim2024", "§3.2"),
    ]


PLANTED = '''"""A module. It has two sentences.

Source: mod2000, §1
"""

# Two lines above
# a constant. Source: con2000, Table 1
FIRST = (
    1,  # inside it. Source: in2000, eq. 1
    # on its own line. Source: own2000
    2,
)
SECOND = 2  # beside it. Source: by2000, eq. 2; other2000, Fig. 3


# Above a decorator. Source: dec2000
@dataclass(frozen=True)
class Outer:
    """A class.

    Source: cls2000
    """

    # A field. Source: field2000
    field: int = 0

    def method(self):
        """Return a number, e.g. 1, by eq. 5. More follows.

            1 + 1

        Source: met2000, eq. 5
        """
        # A step. Source: step2000
        text = "# no comment. Source: no2000"

        def inner():
            """A helper: it | helps. Source: inn2000, §2"""
'''

PLANTED_PROFILE = """# A camera. Source: top2000
name: x
# Its matrix.
# Source: mat2000, Table 2
matrix: [[1]]
levels: {black: 1}  # assumed. Source: lev2000
shots:
  # Of one day. Source: day2000
  - iso: 100
"""


def test_a_source_is_listed_with_the_qualified_name_that_cites_it():
    found = {
        key: (name, what)
        for name, text, what in equations.prose_of_python(PLANTED, "planted")
        for key, _ in equations.cited(text)
    }
    assert found == {
        "mod2000": ("planted", "A module"),
        "con2000": ("FIRST", "Two lines above a constant"),
        "in2000": ("FIRST", "inside it"),
        "own2000": ("FIRST", "on its own line"),
        "by2000": ("SECOND", "beside it"),
        "other2000": ("SECOND", "beside it"),
        "dec2000": ("Outer", "Above a decorator"),
        "cls2000": ("Outer", "A class"),
        "field2000": ("Outer.field", "A field"),
        "met2000": ("Outer.method", "Return a number, e.g. 1, by eq. 5"),
        "step2000": ("Outer.method", "A step"),
        "inn2000": ("Outer.method.inner", "A helper: it | helps"),
    }


def test_a_source_in_a_profile_is_listed_with_its_key():
    found = {
        key: (name, what)
        for name, text, what in equations.prose_of_profile(PLANTED_PROFILE, "planted")
        for key, _ in equations.cited(text)
    }
    assert found == {
        "top2000": ("name", "A camera"),
        "mat2000": ("matrix", "Its matrix"),
        "lev2000": ("levels", "assumed"),
        "day2000": ("shots", "Of one day"),
    }


def test_every_formula_has_a_name_that_leads_to_it():
    """The last part of a name stands in its file, so that a search finds it; a module's name is that of its file."""
    for source in equations.sources():
        names = source.name.split(", ")
        text = (ROOT / source.file).read_text(encoding="utf-8")
        assert all(name.rpartition(".")[2] in text or name == Path(source.file).stem for name in names), source


def test_readme_lists_every_recipe_and_every_isp():
    readme = (ROOT / "README.md").read_text()
    shelf = (ROOT / "recipes" / "README.md").read_text()
    for name in summaries():
        assert f"`{name}`" in readme
        assert f"| `{name}` |" in shelf
    for backend, variant in (
        (name, variant) for name in registry.BUILT_IN for variant in registry._module(name).VARIANTS
    ):
        assert f"`{backend}/{variant}`" in readme


def test_every_reference_is_closed():
    for entry in re.split(
        r"^(?=@)", (ROOT / "docs" / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE
    ):
        assert entry.count("{") == entry.count("}"), entry


def test_the_citation_file_lists_every_reference():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"message", "title", "authors"}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert (citation["version"], citation["license"]) == (setup["metadata"]["version"], setup["metadata"]["license"])
    assert all(reference.keys() >= {"type", "title", "authors", "year"} for reference in citation["references"])
    titles = re.findall(r"^  title = \{(.+?)\},", (ROOT / "docs" / "references.bib").read_text(), re.MULTILINE)
    plain = [re.sub("[{}]", "", title).replace("--", "\N{EN DASH}") for title in titles]
    assert [reference["title"] for reference in citation["references"]] == plain
    assert len(plain) == len(equations.keys())


def test_readme_has_both_commands_on_one_line_each():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert "pip install -c constraints.txt . && python -m blursynth.make --recipe realblur_j" in lines
    assert 'pip install -c constraints.txt -e ".[test]" && pytest' in lines


def paths_in(text: str) -> list[str]:
    """Every path that a document names, without those that hold a NAME to fill in."""
    found = re.findall(
        r"[\w.*-]*/[\w./*-]+\.(?:py|md|yaml|bib|json|jpg)\b|\b(?:isp|blursynth|tests|docs|recipes)/[\w./-]*", text
    )
    return [path for path in found if "NAME" not in path]


@pytest.mark.parametrize("document", ["docs/deviations.md", "docs/equations.md", "CONTRIBUTING.md"])
def test_documents_name_only_what_is_in_the_repository(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    paths = paths_in(re.sub(r"\w+@\w+ \([^)]*\)", "", text))  # without files of published code
    assert paths
    missing = [
        path for path in paths if not ((ROOT / path).exists() or (ROOT / document).parent.joinpath(path).exists())
    ]
    assert missing == []
    assert "facts/" not in text and "shared/" not in text


def test_a_path_that_is_not_there_is_found():
    assert paths_in(
        "see `isp/io.py`, facts/rsblur.md, and `isp/backends/`; not and/or, nor `isp/backends/NAME.py`"
    ) == [
        "isp/io.py",
        "facts/rsblur.md",
        "isp/backends/",
    ]


@pytest.mark.parametrize(
    "document", [path.relative_to(ROOT) for place in ("*", "*/*", "tests/*/*") for path in ROOT.glob(f"{place}.md")]
)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / document.parent / target).exists(), f"{document}: {target}"
