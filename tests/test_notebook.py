"""What a notebook shows of our values is what they say in text, and never markup of others."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from snowmelt import EMA, Checkpoint, DiffusionSampler, Method, create_ddpm, make_plan
from snowmelt.core import RectifiedFlow
from snowmelt.evaluation import Estimate, Scores
from snowmelt.report import Table


@pytest.fixture(scope="module")
def model():
    return create_ddpm(8, 1, 8, (1, 2), num_classes=2, norm_groups=4, layers_per_block=1)


def shown_numbers(html: str) -> list[str]:
    return [cell.split("<", 1)[0] for cell in html.split("<td>")[1:]]


@pytest.mark.parametrize("solver", ["ddim", "heun", "unipc", "sa_solver"])
def test_a_plan_shows_the_numbers_of_its_text_and_a_picture(solver):
    plan = make_plan(RectifiedFlow(), solver, steps=4)
    html = plan._repr_html_()
    words = [word for line in str(plan).splitlines()[2:] for word in line.split()]
    assert [number for number in shown_numbers(html) if number] == words
    assert "data:image/png;base64," in html


def test_without_matplotlib_a_plan_still_shows_its_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    html = make_plan(RectifiedFlow(), "ddim", steps=4)._repr_html_()
    assert "<img" not in html
    assert shown_numbers(html)[-1] == "1.00000"


def test_markup_in_a_name_is_shown_and_not_obeyed(model):
    plan = replace(make_plan(RectifiedFlow(), "ddim", steps=1), name="<script>")
    checkpoint = Checkpoint.of(model, class_names=["<script>", "b"])
    table = Table("<script>", ["<script>"], [["<script>"]], notes=["<script>"])
    for value in (plan, Method(table=plan), checkpoint, table):
        assert "<script>" not in value._repr_html_()
        assert "&lt;script&gt;" in value._repr_html_()


def test_a_method_says_what_a_preset_stands_for():
    assert shown_numbers(Method("ddim", 20, options={"eta": 0.5})._repr_html_()) == ["ddim", "20", "0.5"]
    assert "adams" in Method()._repr_html_()


def test_a_sampler_says_what_it_samples_with(model):
    sampler = DiffusionSampler(model, ema=EMA(model), method="ddim:3")
    html = sampler._repr_html_()
    assert {"ddim:3", "(1, 8, 8)", "2", "yes", "clip", "fp32"} <= set(shown_numbers(html))
    assert sampler.plan._repr_html_() in html


def test_a_sampler_of_a_denoiser_of_your_own_shows_itself():
    class Zero(torch.nn.Module):
        schedule, image_shape, num_classes, null_class = RectifiedFlow(), (1, 2, 2), None, None

        def forward(self, x, level, class_labels=None):
            return torch.zeros_like(x)

    assert "RectifiedFlow" in DiffusionSampler(Zero(), method="ddim:2")._repr_html_()


def test_scores_show_their_estimates():
    estimate = Estimate(1.5, 1.0, 2.0, 0.25, 5000, 100)
    assert shown_numbers(Scores({"kid": estimate})._repr_html_())[:2] == ["kid", str(estimate)]
