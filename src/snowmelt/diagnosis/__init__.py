"""Diagnosis: which conventions does a network really follow?"""

from snowmelt.diagnosis.check import check_denoiser
from snowmelt.diagnosis.report import Report

__all__ = ["Report", "check_denoiser"]
