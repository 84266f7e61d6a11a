"""Opening an ISP by name: built-ins, plug-ins, and what a wrong name is told."""

from importlib.metadata import EntryPoint

import pytest

import isp
from isp import registry
from isp.backends.paramisp import ParamISP
from isp.backends.rsblur import RSBlur
from isp.backends.upi import UPI

PLUG_IN = """
from isp.backends.rsblur import RSBlur

def create(variant, device):
    made = RSBlur("srgb")
    made.name = f"plugged/{variant or 'bare'} on {device}"
    return made
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs plug-ins: `install(name="module that holds source")`."""
    monkeypatch.syspath_prepend(tmp_path)
    installed: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in installed if p.group == group])

    def plug(name: str, module: str, source: str = PLUG_IN, group: str = "isp.backends") -> None:
        (tmp_path / f"{module}.py").write_text(source)
        installed.append(EntryPoint(name=name, value=module, group=group))

    return plug


def test_names():
    assert isp.names() == [
        "rsblur/a7r3", "rsblur/srgb", "rsblur/published", "rsblur/tensorflow", "upi/pair", "upi/published", "upi/paramisp",
        "paramisp/a7r3-virtual", "paramisp/d7000-virtual",
    ]  # fmt: skip


@pytest.mark.parametrize("name", isp.names())
def test_every_name_opens_what_it_names(name):
    assert isp.create(name).name == name


def test_a_bare_name_is_the_first_variant():
    firsts = (
        ("rsblur", RSBlur, "rsblur/a7r3"),
        ("upi", UPI, "upi/pair"),
        ("paramisp", ParamISP, "paramisp/a7r3-virtual"),
    )
    for bare, kind, first in firsts:
        made = isp.create(bare, device="cpu")
        assert isinstance(made, kind) and made.name == first


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rsblurr", r'isp: expected a backend out of rsblur, upi, paramisp, got "rsblurr"; did you mean "rsblur"\?$'),
        ("qqq", r'isp: expected a backend out of rsblur, upi, paramisp, got "qqq"$'),
        ("", r'isp: expected a backend out of rsblur, upi, paramisp, got ""$'),
        (
            "upi/piar",
            r'isp: expected one of upi/pair, upi/published, upi/paramisp, got "upi/piar"; did you mean "upi/pair"\?$',
        ),
        ("rsblur/qqq", r'isp: expected one of rsblur/a7r3, .*, got "rsblur/qqq"$'),
        ("rsblur/a7r3/x", r'isp: expected one of rsblur/a7r3, .*, got "rsblur/a7r3/x"; did you mean "rsblur/a7r3"\?$'),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(name, words):
    with pytest.raises(ValueError, match=words):
        isp.create(name)


# ---------------------------------------------------------------- plug-ins


def test_a_plug_in_is_listed_and_opened(install):
    install("plugged", "plug_in_good")
    install("elsewhere", "plug_in_elsewhere", group="another.group")
    assert isp.names()[-1] == "plugged"
    assert isp.create("plugged").name == "plugged/bare on cpu"
    assert isp.create("plugged/a/b", device="cuda").name == "plugged/a/b on cuda"
    with pytest.raises(
        ValueError, match=r'out of rsblur, upi, paramisp, plugged, got "plugge"; did you mean "plugged"\?'
    ):
        isp.create("plugge")


def test_a_plug_in_that_fails_to_import_says_so_when_asked_for(install):
    install("broken", "plug_in_broken", "import a_module_that_is_not_there")
    assert isp.names()[-1] == "broken"
    assert isp.create("rsblur").name == "rsblur/a7r3"
    words = r'isp: the plug-in "broken" \(plug_in_broken\) cannot be imported: .*; reinstall or uninstall the package'
    with pytest.raises(ValueError, match=words) as refusal:
        isp.create("broken")
    assert isinstance(refusal.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("ask", [isp.names, lambda: isp.create("upi"), lambda: isp.create("rsblur/a7r3")])
def test_a_clash_of_names_is_an_error(install, ask):
    install("upi", "plug_in_upi")
    with pytest.raises(
        ValueError, match=r'two backends are named "upi": isp.backends.upi and plug_in_upi; uninstall one'
    ):
        ask()


def test_two_plug_ins_of_one_name_are_an_error(install):
    install("mine", "plug_in_one")
    install("mine", "plug_in_two")
    with pytest.raises(ValueError, match=r'two backends are named "mine": plug_in_one and plug_in_two; uninstall one'):
        isp.create("mine")
