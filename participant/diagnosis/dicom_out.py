"""A heat map as DICOM objects of the patient's study: pictures for any viewer, or a layer for viewers of segmentations.

Both refer to the source series and say what they are: "research use", not a finding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from participant.diagnosis.case import NOTICE, Case
from participant.diagnosis.look import Opinion
from participant.diagnosis.pictures import Grey, blended, grey, heat, resized
from participant.diagnosis.series import Series
from participant.policy import Refused

_MAKER: Final = "Pleura"
_SERIES_NUMBER: Final = 9_000  # far from the numbers that scanners give
_SMALLEST_SIDE: Final = 512  # pixels: the notice has to be readable
_LO: Final = 64  # characters of DICOM's LO
_HEAT: Final = Code("heat-map", "99PLEURA", "What speaks for a class")  # no lesion: the standard has no code for this


def captures(case: Case, opinion: Opinion, label: int, preset: str, opacity: float) -> Iterator[Dataset]:
    """The slices with the heat map of class `label` on them, as a series of secondary captures.

    Raises:
        Refused: the scan did not come as DICOM.
    """
    series = _series(case)
    uid, description = highdicom.UID(), _description(opinion, label)
    for number in range(case.slices):
        under = grey(case.voxels[number], preset)
        drawn = _labelled(blended(under, heat(opinion.maps[label, number], under.shape), opacity), description)
        with _silent():
            made = highdicom.sc.SCImage.from_ref_dataset(
                ref_dataset=_source(series, number, case),
                pixel_array=drawn,
                photometric_interpretation="RGB",
                bits_allocated=8,
                coordinate_system="PATIENT",
                series_instance_uid=uid,
                series_number=_SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=number + 1,
                manufacturer=_MAKER,
                patient_orientation=("L", "P") if case.is_ct else ("L", "F"),
                transfer_syntax_uid=ExplicitVRLittleEndian,
            )
        made.SeriesDescription = description[:_LO]
        made.DerivationDescription = NOTICE
        made.BurnedInAnnotation = "NO"  # nothing that tells who it is
        made.SourceImageSequence = [_reference(_source(series, number, case))]
        yield made


def layer(case: Case, opinion: Opinion, label: int) -> Dataset:
    """The heat map of class `label` as a fractional segmentation on the source series' own frames.

    Raises:
        Refused: the scan did not come as DICOM.
    """
    series = _series(case)
    size = case.voxels.shape[1], case.voxels.shape[2]
    fine = np.stack([np.clip(resized(each, size), 0, 1) for each in opinion.maps[label]])
    with _silent():
        made = highdicom.seg.Segmentation(
            source_images=list(series.headers),
            pixel_array=series.onto_frames(fine).astype(np.float32),
            segmentation_type=SegmentationTypeValues.FRACTIONAL,
            segment_descriptions=[_segment(opinion, label)],
            series_instance_uid=highdicom.UID(),
            series_number=_SERIES_NUMBER + 1,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=_MAKER,
            manufacturer_model_name=opinion.model.recipe.name[:_LO],
            software_versions=version("pleura"),
            device_serial_number=opinion.model.file.digest[:_LO],
            content_description=NOTICE[:_LO],
            content_label="HEAT_MAP",
        )
    made.SeriesDescription = _description(opinion, label)[:_LO]
    return made


@contextmanager
def _silent() -> Iterator[None]:
    """The library quotes what it finds unusual in patients' names, and warnings end in logs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _series(case: Case) -> Series:
    if case.series is None:
        raise Refused("no-series", "the scan did not come as DICOM, so there is no patient and study to refer to")
    return case.series


def _source(series: Series, number: int, case: Case) -> Dataset:
    """The slice of the series that the case's slice was: volumes run from the feet to the head, files as they like."""
    order = series.onto_volume(np.arange(len(series.headers))[:, None, None])
    return series.headers[int(order[number, 0, 0])] if case.is_ct else series.headers[0]


def _description(opinion: Opinion, label: int) -> str:
    return f"Heat map {opinion.model.classes[label]}, research use"


def _segment(opinion: Opinion, label: int) -> SegmentDescription:
    return SegmentDescription(
        segment_number=1,
        segment_label=f"speaks for {opinion.model.classes[label]}"[:_LO],
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=_HEAT,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="Grad-CAM++", family=codes.DCM.ArtificialIntelligence, version=version("pleura"), source=_MAKER
        ),
        display_color=CIELabColor(70.0, 40.0, 60.0),
    )


def _reference(header: Dataset) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return made


def _labelled(picture: Grey, description: str) -> Grey:
    """Large enough to be read, with a line below that says what it is: it stays with the picture wherever it goes."""
    image = Image.fromarray(picture)
    scale = max(1, -(-_SMALLEST_SIDE // min(image.size)))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BILINEAR)
    room = max(20, image.height // 24)
    sheet = Image.new("RGB", (image.width, image.height + 2 * room))
    sheet.paste(image, (0, 0))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(round(room * 0.62))
    pen.text((room // 3, image.height + room // 6), f"Pleura: {description}", "white", font)
    pen.text((room // 3, image.height + room + room // 8), NOTICE, "white", font)
    return np.asarray(sheet)
