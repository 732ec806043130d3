"""What is made from a set's images: shifted copies, slabs, phantoms, films with their marks painted over."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import simulation.datasets as d
from participant.data.errors import UnreadableCase
from participant.data.readers import read_case
from participant.data.volume import Volume
from simulation.datasets.dataset import Row, Terms
from simulation.datasets.marks import find_marks, paint_over
from simulation.phantoms import SITES, Scanner, ct_phantom, xray_phantom
from simulation.phantoms.files import PatientLabel, write_dicom_series, write_nifti, write_png

TERMS = Terms("CC0", "nobody")
SMALL = replace(SITES[0], matrix=32, slice_thickness=12.0)
Film = NDArray[np.float32]


@cache
def drawn_chest(seed: int) -> Film:
    return np.asarray(xray_phantom("normal", replace(SITES[0], matrix=192), seed), np.float32)


def chest(seed: int, size: int = 384) -> Film:
    """The film of a phantom, without marks, `size` pixels wide."""
    film = drawn_chest(seed)
    height = round(size * film.shape[0] / film.shape[1])
    return np.clip(cv2.resize(film, (size, height), interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float32)


def set_of(*paths: Path) -> d.Dataset:
    rows = tuple(Row(path, "a", path.name, "ct" if ".nii" in path.name or path.is_dir() else "xray") for path in paths)
    return d.Dataset("some", ("a",), rows, TERMS)


# Shifts


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (d.XrayShift(), lambda film: film),
        (d.XrayShift(gamma=2.0), lambda film: film**2),
        (d.XrayShift(contrast=0.5), lambda film: 0.25 + film / 2),
        (d.XrayShift(inverted=True), lambda film: 1 - film),
    ],
    ids=("as it was", "gamma", "contrast", "inverted"),
)
def test_films_are_toned_as_asked(tmp_path: Path, shift: d.XrayShift, expected) -> None:  # type: ignore[no-untyped-def]
    write_png(chest(1, 64), tmp_path / "a.png")
    film = read_case(tmp_path / "a.png").voxels
    made = d.shifted(set_of(tmp_path / "a.png"), shift, tmp_path / "new", 1)
    np.testing.assert_allclose(read_case(made.rows[0].path).voxels, expected(film), atol=0.5 / 255 + 1e-6)


def test_films_are_blurred_grainy_and_coarse_as_asked(tmp_path: Path) -> None:
    grey = np.full((200, 100), 0.5, np.float32)
    grey[:100] = 0.4
    write_png(grey, tmp_path / "a.png")
    noisy = d.shifted(set_of(tmp_path / "a.png"), d.XrayShift(noise=0.05), tmp_path / "new", 1)
    grain = read_case(noisy.rows[0].path).voxels - read_case(tmp_path / "a.png").voxels
    assert grain.std() == pytest.approx(0.05, rel=0.05)
    coarse = d.shifted(set_of(tmp_path / "a.png"), d.XrayShift(resolution=0.25), tmp_path / "new", 1)
    assert read_case(coarse.rows[0].path).voxels.shape == (50, 25)
    soft = d.shifted(set_of(tmp_path / "a.png"), d.XrayShift(blur=0.02), tmp_path / "new", 1)
    # Of an edge that a Gaussian of 4 pixels blurs, 68 % of the step lie within 4 pixels either side.
    rise = read_case(soft.rows[0].path).voxels[:, 50]
    assert (rise[104] - rise[96]) / 0.1 == pytest.approx(0.68, abs=0.05)


def test_noise_is_a_cases_own_and_the_seeds(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_png(chest(1, 48), tmp_path / f"{name}.png")
    shift = d.XrayShift(noise=0.05)

    def films(folder: str, seed: int, *names: str) -> list[bytes]:
        rows = d.shifted(set_of(*(tmp_path / f"{name}.png" for name in names)), shift, tmp_path / folder, seed).rows
        return [row.path.read_bytes() for row in rows]

    first, second = films("one", 1, "a", "b")
    assert first != second
    assert films("two", 1, "b") == [second]
    assert films("three", 2, "a") != [first]


def ct(path: Path, seed: int = 3) -> Volume:
    phantom = ct_phantom("healthy", SMALL, seed)
    write_nifti(phantom.hu, phantom.grid, path)
    return read_case(path)


def test_cts_are_offset_and_noisy_and_keep_their_geometry(tmp_path: Path) -> None:
    volume = ct(tmp_path / "a.nii.gz")
    made = d.shifted(set_of(tmp_path / "a.nii.gz"), d.CtShift(offset=35.0), tmp_path / "new", 1)
    moved = read_case(made.rows[0].path)
    assert moved.spacing == pytest.approx(volume.spacing)
    np.testing.assert_allclose(moved.voxels, np.clip(volume.voxels + 35, -1024, 3071), atol=0.5)
    made = d.shifted(set_of(tmp_path / "a.nii.gz"), d.CtShift(noise=25.0), tmp_path / "new", 1)
    inside = (volume.voxels > -900) & (volume.voxels < 2900)
    noise = (read_case(made.rows[0].path).voxels - volume.voxels)[inside]
    assert noise.std() == pytest.approx(25.0, rel=0.05)
    assert abs(noise.mean()) < 1


def test_a_shift_fits_its_modality(tmp_path: Path) -> None:
    write_png(chest(1, 48), tmp_path / "a.png")
    with pytest.raises(ValueError, match="CtShift changes cases of modality ct"):
        d.shifted(set_of(tmp_path / "a.png"), d.CtShift(), tmp_path, 1)


# Slabs


def test_a_series_is_cut_from_the_feet_upwards(tmp_path: Path) -> None:
    phantom = ct_phantom("healthy", SMALL, 3)
    write_dicom_series(phantom.hu, phantom.grid, tmp_path / "set/covid/P1", PatientLabel("P1", "F", 50), "s", 1)
    whole = read_case(tmp_path / "set/covid/P1")
    found = d.open_dataset(tmp_path / "set")
    assert (found.rows[0].patient, found.rows[0].sex, found.rows[0].age) == ("P1", "F", 50)
    slabs = d.cut_into_slabs(found, tmp_path / "slabs", 5)
    assert len(slabs.rows) == len(whole.voxels) // 5 > 2
    assert {row.patient for row in slabs.rows} == {"P1"}
    assert [row.part for row in slabs.rows][:2] == ["slab-01", "slab-02"]
    for number, row in enumerate(slabs.rows):
        np.testing.assert_array_equal(read_case(row.path).voxels, whole.voxels[5 * number : 5 * number + 5])
    assert "no accuracy" in slabs.terms.warning
    apart = d.cut_into_slabs(found, tmp_path / "slabs", 5, apart=True)
    assert len(apart.patients) == len(slabs.rows)
    assert [row.path for row in apart.rows] == [row.path for row in slabs.rows]


def test_a_nifti_volume_is_cut_however_it_is_stored(tmp_path: Path) -> None:
    whole = ct(tmp_path / "a.nii.gz")
    image = nibabel.load(tmp_path / "a.nii.gz")
    upside_down = image.as_reoriented(nibabel.orientations.axcodes2ornt("IPL"))
    nibabel.save(upside_down, tmp_path / "b.nii.gz")
    for name in ("a", "b"):
        rows = d.cut_into_slabs(set_of(tmp_path / f"{name}.nii.gz"), tmp_path / "slabs", 4).rows
        assert len(rows) == len(whole.voxels) // 4
        start = len(whole.voxels) % 4 if name == "b" else 0  # what is left over is at the end of what is stored
        for number, row in enumerate(rows):
            part = whole.voxels[start + 4 * number : start + 4 * number + 4]
            np.testing.assert_array_equal(read_case(row.path).voxels, part)


def test_a_slice_that_does_not_say_where_it_lies_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1/1.dcm").write_bytes(b"no DICOM")
    with pytest.raises(UnreadableCase, match="does not say where the slice lies"):
        d.cut_into_slabs(set_of(tmp_path / "P1"), tmp_path / "slabs")


# Phantoms


@pytest.mark.parametrize("kind", ["ct", "xray"])
def test_phantoms_of_any_size_are_drawn_once(tmp_path: Path, kind: str) -> None:
    wanted = d.Phantoms("ct" if kind == "ct" else "xray", 1, (SITES[0], d.FOURTH), matrix=24, slice_thickness=30.0)
    steps: list[tuple[int, int]] = []
    found = d.phantom_dataset(tmp_path, wanted, progress=lambda *step: steps.append(step))
    total = 2 * len(wanted.classes)
    assert steps == [(done, total) for done in range(1, total + 1)]
    assert found.count_by_class() == dict.fromkeys(wanted.classes, 2)
    assert {row.source for row in found.rows} == {"site-1", "site-4"}
    assert read_case(found.rows[0].path).voxels.shape[-1] == 24
    assert d.phantom_dataset(tmp_path, wanted, progress=lambda *step: steps.append(step)) == found
    assert len(steps) == total
    if kind == "ct":
        assert all(row.sex and row.age for row in found.rows)
    assert d.phantom_dataset(tmp_path, replace(wanted, seed=2)).rows != found.rows


def test_phantom_hospitals_differ_by_scanner() -> None:
    assert isinstance(d.FOURTH, Scanner)
    assert d.FOURTH.name not in {scanner.name for scanner in SITES}


# Marks


def letters(
    film: Film, words: str, at: tuple[float, float], grey: float, scale: float
) -> tuple[Film, NDArray[np.bool_]]:
    """A film with words at a place given as shares of height and width, and where they are."""
    height, width = film.shape
    place = (round(at[1] * width), round(at[0] * height))
    drawn = cv2.putText(
        np.zeros(film.shape, np.uint8), words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 3, cv2.LINE_AA
    )
    share = drawn.astype(np.float32) / 255
    return film * (1 - share) + grey * share, share > 0.5


@pytest.mark.parametrize("size", [256, 384, 1024])
@pytest.mark.parametrize("seed", [1, 2])
def test_letters_beside_the_chest_are_found_and_nothing_else_changes(size: int, seed: int) -> None:
    film = chest(seed, size)
    already = find_marks(film)
    marked, where = letters(film, "R", (0.13, 0.03), 1.0, size / 384)
    more, also = letters(marked, "AP", (0.97, 0.84), 1.0, size / 512)
    where |= also
    mask = find_marks(more)
    assert mask[where].mean() > 0.98
    beyond = cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(4, size // 64))
    assert ((mask > 0) & (beyond == 0) & (already == 0)).mean() < 0.0005
    clean = paint_over(more, mask)
    assert (clean[mask == 0] == more[mask == 0]).all()
    # Painted over, the film is again nearly what it was: a letter differs from its place by far more.
    assert np.abs(clean - film)[where].mean() < 0.25 * np.abs(more - film)[where].mean()


def test_an_unmarked_chest_is_left_alone() -> None:
    assert np.mean([find_marks(chest(seed)).mean() for seed in range(4)]) < 0.0005


def test_plates_with_letters_go_whole() -> None:
    film = chest(1)
    height, width = film.shape
    marked = film.copy()
    plate = np.s_[round(0.03 * height) : round(0.03 * height) + 30, 8:34]
    marked[plate] = 0.95
    marked, _ = letters(marked, "B", (0.03 + 24 / height, 12 / width), 0.02, 0.6)
    mask = find_marks(marked)
    assert mask[plate].mean() > 0.95
    assert np.abs(paint_over(marked, mask) - film)[plate].mean() < 0.12


def test_a_set_gets_new_files_for_marked_films_only(tmp_path: Path) -> None:
    film = chest(1)
    marked, _ = letters(film, "R", (0.13, 0.03), 1.0, 1.0)
    for name, each in (
        ("plain", np.full((64, 64), 0.5, np.float32) + np.eye(64, dtype=np.float32) * 0.05),
        ("marked", marked),
    ):
        write_png(each, tmp_path / f"{name}.png")
    found = set_of(tmp_path / "plain.png", tmp_path / "marked.png")
    done = d.inpainted(found, tmp_path / "new")
    assert [row.path.parent.name for row in done.dataset.rows] == [tmp_path.name, "new"]
    assert done.changed == ((tmp_path / "marked.png", done.dataset.rows[1].path),)
    time = done.dataset.rows[1].path.stat().st_mtime_ns
    assert d.inpainted(found, tmp_path / "new") == done
    assert done.dataset.rows[1].path.stat().st_mtime_ns == time
    d.write_panel([row.path for row in found.rows], tmp_path / "pictures/panel.png", columns=1)
    with Image.open(tmp_path / "pictures/panel.png") as picture:
        assert picture.size == (960, 640)
        reds = np.asarray(picture)[..., 0].astype(int) - np.asarray(picture)[..., 2]
    assert (reds[320:, 320:640] > 100).any()
    assert not (reds[:, :320] > 100).any()


def test_a_panel_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no film"):
        d.write_panel([], tmp_path / "panel.png")
