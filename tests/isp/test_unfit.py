"""The one function that answers whether an ISP can take an image."""

import pytest

from isp import profile
from isp.contract import Limits, Misfit, known_fields, unfit

ALL = {"direction": "forward", "cfa": ("RGGB",), "known": ("iso",), "has_reference": True, "size": (48, 64)}


def test_an_isp_without_limits_takes_everything():
    assert unfit(Limits(), "forward", cfa=("GBRG", "RGGB"), known=(), has_reference=False, size=(3, 5)) == []


@pytest.mark.parametrize(
    ("limits", "given", "misfit"),
    [
        (Limits(cfas=("RGGB", "BGGR")), {"cfa": ("RGGB", "GBRG", "GRBG")},
         Misfit("cfas", ("GBRG", "GRBG"), "needs the CFA pattern RGGB or BGGR, got GBRG, GRBG")),
        (Limits(needs=("iso", "f_number")), {}, Misfit("needs", ("f_number",), "needs f_number, which is unknown")),
        (Limits(needs=("iso", "f_number")), {"known": ()},
         Misfit("needs", ("iso", "f_number"), "needs iso, f_number, which are unknown")),
        (Limits(needs_reference=True), {"has_reference": False},
         Misfit("needs_reference", (), "needs the sRGB picture of the same scene as a reference, got none")),
        (Limits(multiple_of=16), {"size": (48, 72)},
         Misfit("multiple_of", ("48x72",), "needs height and width to be multiples of 16, got 48x72")),
    ],
)  # fmt: skip
def test_each_limit_has_its_sentence(limits, given, misfit):
    direction, *_ = facts = {**ALL, **given}
    assert unfit(limits, facts.pop(direction), **facts) == [misfit]


def test_what_only_forward_needs_does_not_hinder_inverse():
    limits = Limits(cfas=("RGGB",), needs_reference=True)
    assert unfit(limits, "inverse", cfa=("GBRG",), known=(), has_reference=False) == []
    assert len(unfit(limits, "forward", cfa=("GBRG",), known=(), has_reference=False)) == 2


def test_fields_that_are_never_unknown_need_not_be_listed():
    assert unfit(Limits(needs=("white_balance", "cfa")), "inverse", cfa=(), known=(), has_reference=False) == []


def test_any_size_fits_if_the_caller_pads_it():
    assert unfit(Limits(multiple_of=16), "forward", cfa=(), known=(), has_reference=True) == []


def test_known_fields():
    known = known_fields(profile.load("a7r3").camera((2.0, 1.5), cfa="GRBG", iso=100.0))
    assert {"iso", "cfa", "white_balance", "black", "white"} <= known
    assert not {"exposure_s", "f_number", "focal_mm"} & known
