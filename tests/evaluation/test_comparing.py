"""Comparing: the law of the Pareto front, cells that are made once, and metrics of the images themselves."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.errors import InputError
from snowmelt.evaluation import (
    Estimate,
    Features,
    Scores,
    evaluate,
    extract_features,
    make_extractor,
    open_images,
)
from snowmelt.evaluation.compare import (
    Cell,
    CommonImages,
    Judge,
    Result,
    compare,
    pareto_front,
    write_comparison,
)
from snowmelt.evaluation.compare.cell import cell_names, series_names
from snowmelt.evaluation.compare.pareto import best, front, sufficient
from snowmelt.evaluation.compare.store import clear
from snowmelt.evaluation.compare.writing import summary
from snowmelt.images import from_uint8, to_uint8
from snowmelt.plans import Method
from snowmelt.sampling import Request

MODEL = create_ddpm(
    8, 1, 8, (1,), num_classes=3, num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1
)
SAMPLER = DiffusionSampler(MODEL)
REQUEST = Request(tuple(range(12)), (0, 1, 2) * 4)
IMAGES = CommonImages(REQUEST, ["ant", "bee", "cat"], 5, [0, 4, 11])
REAL = extract_features(open_images("digits:test"), make_extractor("pixels"))
JUDGE = Judge(make_extractor("pixels"), REAL, ["precision", "fid"])


def cell(steps: int, scale: float = 0.0, checkpoint: str = "model.pth") -> Cell:
    method = Method("ddim", steps)
    identity = SAMPLER.with_method(method).identity(replace(REQUEST, guidance_scale=scale))
    evaluations = steps * (2 if scale else 1)
    return Cell(checkpoint, method, scale, evaluations, {**identity, "checkpoint": checkpoint})


def result(evaluations: int, seconds: float, *values: float, half: float = 0.0) -> Result:
    names = ("fid", "recall")
    estimates = {
        name: Estimate(value, value - half, value + half, half / 2, 12, 360)
        for name, value in zip(names, values, strict=False)
    }
    made = replace(cell(2), evaluations=evaluations)
    return Result(made, 12, seconds, Scores(estimates), torch.zeros(3, 1, 8, 8, dtype=torch.uint8))


class Samplers:
    """Stands for the sampler of every checkpoint, and notes the steps of the methods that it is given."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, checkpoint: str) -> Samplers:
        return self

    def with_method(self, method: Method) -> DiffusionSampler:
        self.asked.append(method.steps)
        return SAMPLER.with_method(method)


# The front

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    on_front = pareto_front(*zip(*points, strict=True))

    def beaten(point):
        return any(a <= point[0] and b <= point[1] and (a < point[0] or b < point[1]) for a, b in points)

    assert on_front == [index for index, point in enumerate(points) if not beaten(point)]
    assert on_front


@given(POINTS)
def test_the_front_depends_on_order_alone(points):
    costs, losses = zip(*points, strict=True)
    assert pareto_front([2.0**cost for cost in costs], [loss**3 + 5 for loss in losses]) == pareto_front(
        costs, losses
    )


def test_quality_knows_its_direction():
    low, high = result(4, 1.0, 2.0, 0.5), result(8, 2.0, 1.0, 0.6)
    worse = result(8, 3.0, 3.0, 0.4)
    for metric in ("fid", "recall"):
        assert front([worse, low, high], metric, "evaluations") == [low, high]
        assert best([worse, low, high], metric) is high
    assert front([worse, result(9, 9.0)], "fid", "seconds") == [worse]  # the other was not measured


def test_sufficient_is_the_cheapest_that_reaches_the_best():
    cells = [result(2, 1.0, 9.0, half=1), result(4, 1.0, 2.5, half=1), result(9, 1.0, 2.0, half=1)]
    assert sufficient(cells, "fid") is cells[1]
    assert "4 NFE, with 2.5 (1.5, 3.5)" in summary(cells, "fid")
    assert "No cell with fewer" in summary([cells[0], cells[2]], "fid")
    assert summary(cells, "kid") == "No cell has the metric kid."


# Names


def test_names_say_only_what_differs():
    assert cell_names([cell(2), cell(4)]) == ["ddim, 2 NFE", "ddim, 4 NFE"]
    assert cell_names([cell(2), cell(2, 3.0)]) == ["ddim, guidance 0, 2 NFE", "ddim, guidance 3, 4 NFE"]
    paths = ["runs/a/model.pth", "runs/b/model.pth"]
    named = series_names([cell(2, checkpoint=path) for path in paths])
    assert list(named.values()) == ["a/model.pth, ddim", "b/model.pth, ddim"]


# Cells


def test_scores_pictures_and_order_are_those_of_the_images(tmp_path):
    cells = [cell(3), cell(2, 2.0)]
    found = compare(cells, Samplers(), IMAGES, JUDGE, tmp_path)
    for each, made in zip(found, cells, strict=True):
        sampler = DiffusionSampler(MODEL, method=made.method)
        images = to_uint8(sampler.sample(12, REQUEST.labels, made.guidance_scale, seeds=REQUEST.seeds))
        features = Features(from_uint8(images).flatten(1))
        assert each.cell is made
        assert each.scores == evaluate(features, REAL, metrics=JUDGE.metrics, per_class=False)
        assert torch.equal(each.pictures, images[[0, 4, 11]])
        assert each.seconds > 0


def test_finished_cells_are_not_made_again(tmp_path):
    samplers = Samplers()
    first = compare([cell(2), cell(3)], samplers, IMAGES, JUDGE, tmp_path)
    again = compare([cell(4), cell(3), cell(2)], samplers, IMAGES, JUDGE, tmp_path)
    assert samplers.asked == [2, 3, 4]
    assert [each.to_dict() for each in again[:0:-1]] == [each.to_dict() for each in first]


def test_a_stopped_comparison_keeps_what_was_finished(tmp_path):
    class Stopped(Samplers):
        def with_method(self, method: Method) -> DiffusionSampler:
            if method.steps == 3:
                raise KeyboardInterrupt
            return super().with_method(method)

    with pytest.raises(KeyboardInterrupt):
        compare([cell(2), cell(3)], Stopped(), IMAGES, JUDGE, tmp_path)
    samplers = Samplers()
    compare([cell(2), cell(3)], samplers, IMAGES, JUDGE, tmp_path)
    assert samplers.asked == [3]


@pytest.mark.parametrize("name", ["features.npy", "pictures.png", "cell.json"])
def test_a_damaged_cell_is_made_anew(tmp_path, name):
    samplers = Samplers()
    first = compare([cell(2)], samplers, IMAGES, JUDGE, tmp_path)
    (path,) = tmp_path.rglob(name)
    path.write_bytes(path.read_bytes()[:40])
    again = compare([cell(2)], samplers, IMAGES, JUDGE, tmp_path)
    assert samplers.asked == [2, 2]
    assert again[0].scores == first[0].scores


def test_other_metrics_need_no_new_images(tmp_path):
    samplers = Samplers()
    compare([cell(2)], samplers, IMAGES, JUDGE, tmp_path)
    (other,) = compare([cell(2)], samplers, IMAGES, replace(JUDGE, metrics=["recall"]), tmp_path)
    assert samplers.asked == [2]
    assert list(other.scores.overall) == ["recall"]


def test_a_classifier_gives_its_probabilities(tmp_path):
    class Classifier:
        name, dim = "brightness", 2

        def __call__(self, images):
            light = images.float().mean(dim=(1, 2, 3)) / 255
            return torch.stack([light, 1 - light], dim=1)

        def probabilities(self, features):
            return features

    judge = Judge(
        Classifier(), extract_features(open_images("digits:test"), Classifier()), ["inception_score"]
    )
    (found,) = compare([cell(2)], Samplers(), IMAGES, judge, tmp_path)
    assert 1 <= found.scores.overall["inception_score"].value < 2


def test_clear_removes_the_cells_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    compare([cell(2)], Samplers(), IMAGES, JUDGE, tmp_path)
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# Files


def test_the_files_hold_every_number(tmp_path):
    judge = replace(JUDGE, per_class=True)
    found = compare([cell(3), cell(2), cell(2, 2.0)], Samplers(), IMAGES, judge, tmp_path)
    options = {"title": "Cells", "facts": {"seeds": "0"}, "column_names": ["a", "b", "c"]}
    report = write_comparison(found, judge.metrics, tmp_path, **options)
    values = json.loads((tmp_path / "results.json").read_text())
    assert values == [json.loads(json.dumps(each.to_dict())) for each in found]
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [
        (each.cell.steps, name, metric, one.value, one.low, one.high)
        for each in found
        for name, estimates in {"": each.scores.overall, **each.scores.per_class}.items()
        for metric, one in estimates.items()
    ]
    assert expected == [
        (
            int(row["steps"]),
            row["class"],
            row["metric"],
            *(float(row[key]) for key in ("value", "low", "high")),
        )
        for row in rows
    ]
    page = report.read_text()
    assert page.count("data:image/png;base64,") == 3
    for name in cell_names([each.cell for each in found]):
        assert name in page


def test_nothing_to_show_is_said(tmp_path):
    found = compare([cell(2)], Samplers(), IMAGES, replace(JUDGE, metrics=["inception_score"]), tmp_path)
    with pytest.raises(
        InputError, match=r"nothing was measured: inception_score of all images: .* probabilities"
    ):
        write_comparison(found, ["inception_score"], tmp_path, title="", facts={}, column_names="abc")
