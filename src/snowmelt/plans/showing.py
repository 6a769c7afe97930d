"""Plans and methods in a notebook."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from snowmelt.notebook import html_facts, html_picture, html_table
from snowmelt.plans.plan import Plan
from snowmelt.plans.presets import PRESETS

if TYPE_CHECKING:
    from snowmelt.plans.method import Method

__all__ = ["method_html", "plan_html"]


def plan_html(plan: Plan) -> str:
    """Return the plan's picture, if matplotlib is there, and its table."""
    return plan_picture(plan) + html_table(plan.cells(), repr(plan).strip("<>"))


def plan_picture(plan: Plan) -> str:
    """Return the plan as a picture; without matplotlib, nothing."""
    from snowmelt.plans.drawing import plan_figure

    file = BytesIO()
    try:
        plan_figure(plan).savefig(file, format="png", dpi=80)
    except ImportError:
        return ""
    return html_picture(file.getvalue(), repr(plan))


def method_html(method: Method) -> str:
    """Return what the method says, and what a preset stands for; of a table, the table."""
    if method.table is not None:
        return plan_html(method.table)
    if method.preset is not None:
        facts = PRESETS[method.preset]._asdict()
        return html_facts(f"Method {method}", facts | facts.pop("options"))
    return html_facts(f"Method {method}", method.to_dict())
