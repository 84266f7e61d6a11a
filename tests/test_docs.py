"""What the documents say is what there is."""

import importlib.util
import re
from pathlib import Path

import pytest

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


def test_readme_has_both_commands_on_one_line_each():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert "pip install -c constraints.txt . && python -m blursynth.make --recipe realblur_j" in lines
    assert 'pip install -c constraints.txt -e ".[test]" && pytest' in lines


@pytest.mark.parametrize(
    "document", [path.relative_to(ROOT) for place in ("*", "*/*", "tests/*/*") for path in ROOT.glob(f"{place}.md")]
)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / document.parent / target).exists(), f"{document}: {target}"
