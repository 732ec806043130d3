"""Cases from a folder of exports or from a PACS, as a folder that `participant.data.cases` reads.

What identifies a patient stops here: ids become keyed hashes before anything is stored, and copies of DICOM keep only
the attributes that reading the image takes.
"""
