"""Diagnosis: which conventions does a network really follow?"""

from snowmelt.diagnosis.check import check_denoiser
from snowmelt.diagnosis.report import Report
from snowmelt.diagnosis.trained import check_checkpoint

__all__ = ["Report", "check_checkpoint", "check_denoiser"]
