"""What a model makes of a scan lies on the scan's own slices, however the file stores them."""

from __future__ import annotations

from pathlib import Path

import lit_scans as lit
import numpy as np
import pytest

from models.first_model import first_model
from models.flatten import save_model
from models.recipe import load_recipe
from participant.data.preprocessing import CTSettings
from participant.data.volume import Volume
from participant.diagnosis.case import examine
from participant.diagnosis.look import look
from participant.diagnosis.models import given_file, load
from participant.diagnosis.pictures import blended, grey, heat, outline, resized
from participant.diagnosis.windows import windows
from participant.policy import Refused


@pytest.mark.parametrize("turned", lit.TURNED)
@pytest.mark.parametrize(
    ("slices", "spot"), [(9, (7, 10, 36)), (16, (2, 30, 12)), (40, (36, 12, 38)), (100, (17, 33, 9))]
)
def test_the_map_lies_on_the_spot(tmp_path: Path, slices: int, spot: lit.Spot, turned: lit.Turned) -> None:
    series = lit.write_series(tmp_path / "series", lit.volume(slices, spot), turned)
    case = examine([lit.zipped(series, tmp_path / "scan.zip")], [], [lit.bright_model()])
    (opinion,) = case.opinions
    assert opinion.likeliest == 1
    fine = np.stack([resized(each, (lit.SIDE, lit.SIDE)) for each in opinion.maps[1]])
    assert fine.shape == case.voxels.shape
    off = np.abs(lit.centre(fine) - lit.centre(case.voxels > 0))
    assert (off < (1, 1, 1)).all(), off
    assert np.abs(lit.centre(case.voxels > 0) - spot).max() < 1.6, "a block at the end of a short scan is cut"


@pytest.mark.parametrize("slices", [*range(2, 40), 75, 80, 81, 160, 161, 333])
def test_windows_cover_every_slice(slices: int) -> None:
    settings = CTSettings(size=(16, 8, 8))
    laid = windows(slices, settings, 5)
    share = sum(window.weights(slices).sum(axis=1) for window in laid)
    assert (share > 0).all()
    assert len(laid) >= min(5, max(1, slices - 15))
    for window in laid:
        assert window.places.min() >= 0
        assert window.places.max() < slices
        assert np.allclose(window.weights(slices).sum(axis=1).max(), 1)


def test_probabilities_are_means_over_the_subsets() -> None:
    scan = Volume(lit.volume(60, (30, 20, 20)), lit.SPACING, "ct", "LPS", Path("scan"))
    opinion = look(scan, lit.bright_model())
    assert opinion.subsets.shape == (5, 2)
    assert np.allclose(opinion.subsets.sum(axis=1), 1)
    assert np.allclose(opinion.mean, opinion.subsets.mean(axis=0))
    assert np.allclose(opinion.spread, opinion.subsets.std(axis=0, ddof=1))
    assert opinion.spread.min() > 0.01, "not every window holds the spot"
    assert opinion.maps.max() == 1


def test_a_part_of_the_scan_counts_as_its_class_is_probable_there() -> None:
    """By itself the faint spot's map would reach 1 in the windows that hold nothing brighter."""
    hu = lit.volume(70, (10, 20, 20), radius=6)
    hu[58:62, 30:42, 30:42] = 260
    opinion = look(Volume(hu, lit.SPACING, "ct", "LPS", Path("scan")), lit.bright_model())
    along = opinion.maps[1].astype(np.float32).max(axis=(1, 2))
    assert along[7:14].max() == 1
    assert 0.05 < along[55:65].max() < 0.7


def test_a_film_is_one_slice(tmp_path: Path) -> None:
    recipe = load_recipe("fl-cxr-resnet18").overridden({"input.size": [64, 64]})
    made = first_model(recipe, 0)
    save_model(tmp_path / "m.safetensors", made.vector, made.layout, made.recipe)
    model = load(given_file(tmp_path / "m.safetensors"))
    film = np.random.default_rng(0).random((90, 120), np.float32)
    opinion = look(Volume(film, None, "xray", "", Path("film")), model)
    assert opinion.maps.shape == (3, 1, 64, 64)
    assert opinion.subsets.shape == (1, 3)
    assert not opinion.spread.any()
    with pytest.raises(Refused, match="looks at X-rays, and this is none"):
        look(Volume(lit.volume(20, (3, 3, 3)), lit.SPACING, "ct", "LPS", Path("scan")), model)


def test_presets_and_colours() -> None:
    hu = np.array([[-1350, -600, 150, 3000]], np.int16)
    assert grey(hu, "lung").tolist() == [[0, 128, 255, 255]]
    assert grey(np.array([[0, 0.5, 1]], np.float32), "lung").tolist() == [[0, 128, 255]]
    drawn = heat(np.array([[0.0, 1.0]]), (1, 2))
    assert drawn[0, 0, 3] == 0, "where nothing speaks for the class, the scan shows"
    assert drawn[0, 1, 3] == 255
    mixed = blended(np.array([[10, 10]], np.uint8), drawn, 0.5)
    assert mixed[0, 0].tolist() == [10, 10, 10]
    assert mixed[0, 1].tolist() == [131, 132, 87]
    ring = outline(np.pad(np.ones((3, 3), bool), 1))
    assert (ring[..., 3] > 0).sum() == 8
