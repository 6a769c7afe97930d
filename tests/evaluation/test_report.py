"""The report: one page that loads nothing, escapes everything, and says every number."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from snowmelt.evaluation import Estimate, Features, Scores, TensorSource
from snowmelt.evaluation.answers.novelty import novelty, novelty_chapter
from snowmelt.evaluation.answers.usefulness import usefulness, usefulness_chapter
from snowmelt.images import encode_png
from snowmelt.report import Chapter, Picture, Table, write_html_report

VOID = {"meta", "img"}
PNG = encode_png(torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4))
NASTY = '<script>alert("&")</script>'


class Page(HTMLParser):
    """The tags, texts and attributes of a page, which must be well nested."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(tmp_path):
    def write(*chapters: Chapter, **options) -> Page:
        write_html_report(tmp_path / "new" / "report.html", "A report", chapters, **options)
        return Page(tmp_path / "new" / "report.html")

    return write


def estimates(value: float) -> dict[str, Estimate]:
    return {
        name: Estimate(value, value - 0.1, value + 0.1, 0.05, 500, 360, "k = 3") for name in ("fid", "recall")
    }


def test_the_page_loads_nothing_from_elsewhere(page, tmp_path):
    page(Chapter("Pictures", [Picture(PNG, "noise", "Noise.")]))
    text = (tmp_path / "new" / "report.html").read_text()
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert "default-src 'none'" in text


def test_a_picture_is_inside_with_its_description(page):
    (image,) = page(Chapter("Pictures", [Picture(PNG, "noise", "Noise.")])).all("img")
    kind, _, data = image["src"].partition(",")
    assert (kind, base64.b64decode(data), image["alt"]) == ("data:image/png;base64", PNG, "noise")


def test_everything_is_escaped(page):
    table = Table(NASTY, [NASTY], [[NASTY]], notes=[NASTY])
    found = page(Chapter(NASTY, [NASTY, table, Picture(PNG, NASTY, NASTY)]), facts={NASTY: NASTY})
    assert found.all("script") == []
    assert found.texts.count(NASTY) == 9
    assert found.all("img")[0]["alt"] == NASTY


def test_a_table_names_its_rows_and_columns(page):
    table = Table("Figures", ["cell", "fid"], [["ddim", "1.5"], ["heun", "1.2"]], marked=[1])
    found = page(Chapter("Table", [table]))
    assert [each.get("scope") for each in found.all("th")] == ["col", "col", "row", "row"]
    assert [each.get("class") for each in found.all("tr")] == [None, None, "marked"]
    cells = [cell for row in table.rows for cell in row]
    assert [text for text in found.texts if text in cells] == cells


def test_it_reads_in_light_and_in_dark(page, tmp_path):
    found = page(Chapter("Empty", []))
    assert found.all("html") == [{"lang": "en"}]
    assert "prefers-color-scheme: dark" in (tmp_path / "new" / "report.html").read_text()


def test_good_has_every_estimate_note_and_omission(page):
    scores = Scores(estimates(0.5), {"owl": estimates(0.7)}, ["kid of all images: too few"])
    found = page(scores.chapter())
    assert found.texts.count("0.50 (0.40, 0.60)") == 2
    assert found.texts.count("0.70 (0.60, 0.80)") == 2
    assert "k = 3: fid, recall" in found.texts
    assert "Left out: too few: kid of all images" in found.texts
    assert any(text.startswith("recall: ") and text.endswith("more is better") for text in found.texts)


def test_new_has_the_rates_of_each_space(page, tmp_path):
    (tmp_path / "pairs.png").write_bytes(PNG)
    sets = [Features(torch.randn(50, 4)) for _ in range(3)]
    result = novelty(*sets, quantile=0.1)
    found = page(novelty_chapter({"features": result, "pixels": result}, tmp_path / "pairs.png"))
    for rate in (result.copy_rate, result.held_out_rate, result.duplicate_rate):
        assert found.texts.count(str(rate.percent())) >= 2
    assert {"features", "pixels"} <= set(found.texts)
    assert len(found.all("img")) == 1


def test_useful_has_the_answer_every_classifier_and_every_class(page):
    images = TensorSource(torch.randn(30, 1, 4, 4).clamp(-1, 1), torch.arange(30) % 2, ["all", "owl"])
    result = usefulness(images, images, images, seeds=range(2), steps=2)
    found = page(usefulness_chapter(result))
    assert any(result.answer() in text for text in found.texts)
    for arm in result.arms:
        assert {arm.learner, arm.trained_on, arm.recipe} <= set(found.texts)
        if arm.test is not None:
            assert str(arm.test.balanced_accuracy.percent()) in found.texts
    before, after = (result.tested(index) for index in (result.baseline, result.with_generated))
    for each in (before, after, result.gain):
        for estimate in (*each.recall.values(), *each.average_precision.values()):
            assert str(estimate.percent()) in found.texts
    marked = [row.get("class") for row in found.all("tr")].count("marked")
    assert marked == 3  # the two that are compared, and the rarest class


def test_estimates_have_the_places_that_their_interval_deserves():
    def shown(value: float, half: float) -> str:
        return str(Estimate(value, value - half, value + half, half / 2, 10, 10))

    assert shown(12.3456, 1.0) == "12.3 (11.3, 13.3)"
    assert shown(0.123456, 0.0123) == "0.123 (0.111, 0.136)"
    assert shown(12345.6, 321.0) == "12346 (12025, 12667)"
    assert shown(1.0, 0.0) == "1.000 (1.000, 1.000)"
