"""DICOM without the patient: a copy keeps what reading its image takes, and nothing else.

A list of what to remove, as PS3.15 annex E has it, misses what vendors and departments write where nobody expects it.
So this is a list of what stays. All else goes: names, ids, dates and times, institutions, devices' serial numbers,
descriptions and comments, overlays, private attributes.
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from participant.data.importing.pseudonyms import Pseudonyms

#: Stays as it is. Codes and numbers only: no free text, no date, nothing that says who or where.
KEPT: Final = (
    *("SOPClassUID", "ImageType", "Modality", "BodyPartExamined", "PatientPosition", "ViewPosition"),
    *("Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "KVP", "SliceThickness", "SpacingBetweenSlices"),
    *("InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PresentationLUTShape", "LossyImageCompression", "BurnedInAnnotation", "PixelData"),
)
#: Tables of grey values; of each only the numbers stay, not the words that explain them.
_TABLES: Final = ("ModalityLUTSequence", "VOILUTSequence")
_NUMBERS: Final = ("LUTDescriptor", "ModalityLUTType", "LUTData")
#: Stays the same within a study or series, but is no longer the archive's.
_UIDS: Final = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_KEPT_TAGS: Final = tuple(Tag(name) for name in KEPT)


def stripped(original: Dataset, patient: str, pseudonyms: Pseudonyms) -> Dataset:
    """A copy of a DICOM file's content that can be written, without what identifies the patient.

    Pixels, compressed or not, stay as they are, byte by byte. Text that is burnt into them stays too.

    Args:
        patient: what stands for the patient.
    """
    copy = Dataset()
    implicit, little = original.original_encoding
    copy.set_original_encoding(implicit, little, original.original_character_set)
    for tag in _KEPT_TAGS:
        if tag in original:
            copy[tag] = original.get_item(tag)  # as the file has it: what is not converted cannot change
    for name in _UIDS:
        setattr(copy, name, pseudonyms.uid(str(original.get(name, ""))))
    for name in _TABLES:
        if original.get(name):
            setattr(copy, name, Sequence(_numbers(item) for item in original[name].value))
    copy.PatientName, copy.PatientID = "", patient
    copy.PatientIdentityRemoved = "YES"
    copy.DeidentificationMethod = "Pleura: only attributes for reading the image"
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = original.file_meta.TransferSyntaxUID
    copy.file_meta.MediaStorageSOPClassUID = original.SOPClassUID
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    return copy


def _numbers(table: Dataset) -> Dataset:
    kept = Dataset()
    for name in _NUMBERS:
        if name in table:
            kept[name] = table[name]
    return kept
