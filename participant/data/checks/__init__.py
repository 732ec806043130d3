"""What a hospital should know of its data before it trains: checked in one pass, told as values, as a page, as text."""

from participant.data.checks.check import check
from participant.data.checks.report import CaseNote, Finding, Report

__all__ = ["CaseNote", "Finding", "Report", "check"]
