"""Reports: pages that open from the disk, and figures of one look."""

from snowmelt.report.figures import ACCENT, INK, PALE, panels, save_figure
from snowmelt.report.page import (
    INTERVALS,
    Block,
    Chapter,
    Picture,
    Table,
    check_report_libraries,
    write_html_report,
)

__all__ = [
    "ACCENT",
    "INK",
    "INTERVALS",
    "PALE",
    "Block",
    "Chapter",
    "Picture",
    "Table",
    "check_report_libraries",
    "panels",
    "save_figure",
    "write_html_report",
]
