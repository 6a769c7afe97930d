"""The studio's runs: found below a folder, read while they train, and nothing outside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from snowmelt.errors import InputError
from snowmelt.images import save_png
from snowmelt.studio.below import files_below
from snowmelt.studio.place import Place
from snowmelt.studio.reports import evaluations, find_reports, frame
from snowmelt.studio.runs import colours, curves, find_runs, lines, overview
from snowmelt.studio.seen import described, look, sources
from snowmelt.studio.seen import lines as data_lines
from snowmelt.studio.tables import table
from snowmelt.training import DiffusionLogger


def train(folder: Path, epochs: int = 2) -> DiffusionLogger:
    """Leave what a run leaves."""
    logger = DiffusionLogger(folder / "logs", folder / "samples", tensorboard=False)
    for epoch in range(1, epochs + 1):
        metrics = {"train_loss": 1 / epoch, "val_loss": 1.5 / epoch, "learning_rate": 0.1}
        logger.log_metrics(metrics, step=10 * epoch, epoch=epoch)
        logger.log_images(torch.zeros(4, 1, 8, 8), "samples", 10 * epoch)
    return logger


def later(path: Path) -> None:
    """Make a file one that changed later: the clock of the disk is too coarse for a test."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_a_run_is_found_by_its_folder_and_read_again_when_it_has_changed(tmp_path):
    logger = train(tmp_path / "a" / "first")
    train(tmp_path / "second")
    later(tmp_path / "second" / "logs" / "metrics.csv")
    runs = find_runs(tmp_path)
    assert list(runs) == ["second", "a/first"]
    run = runs["a/first"]
    assert [row["step"] for row in run.rows] == [10, 20]
    assert list(run.pictures("samples")) == [10, 20]
    assert run.pictures("how they came about") == {}

    before = run.stamp
    logger.log_metrics({"train_loss": 0.1}, step=30, epoch=3)
    later(run.metrics)
    assert run.stamp != before
    assert [row["step"] for row in run.rows] == [10, 20, 30]


def test_a_folder_is_listed_again_when_something_came(tmp_path):
    assert find_runs(tmp_path) == {}
    train(tmp_path / "new")
    later(tmp_path)
    assert list(find_runs(tmp_path)) == ["new"]


def test_a_half_written_line_is_left_out_and_left_alone(tmp_path):
    train(tmp_path / "run")
    metrics = tmp_path / "run" / "logs" / "metrics.csv"
    text = metrics.read_text() + "30,3,0."
    metrics.write_text(text)
    later(metrics)
    assert [row["step"] for row in find_runs(tmp_path)["run"].rows] == [10, 20]
    assert metrics.read_text() == text


@pytest.mark.parametrize("text", ["", "name,age\nada,36\n", "\x00\x01", "step,epoch,train_loss\n10,1,many\n"])
def test_somebody_elses_table_is_no_run_or_one_without_rows(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    runs = find_runs(tmp_path)
    assert all(run.rows == [] for run in runs.values())
    assert len(runs) == text.startswith("step")


def test_the_configuration_says_where_the_pictures_are_but_not_outside(tmp_path):
    for name, samples in (("inside", "pictures/small"), ("outside", "../../elsewhere")):
        logger = DiffusionLogger(tmp_path / "place" / name / "log/files", tensorboard=False)
        logger.log_metrics({"train_loss": 1.0}, step=1)
        folders = f"{{logs: log/files, samples: {samples}}}"
        config = f"data: {{paths: {{train: digits}}}}\noutput: {{subdirs: {folders}}}"
        (logger.log_dir / "config.yaml").write_text(config)
    for folder in ("place/inside/pictures/small", "elsewhere"):
        save_png(torch.zeros(1, 8, 8), tmp_path / folder / "samples_0000001.png")
    runs = find_runs(tmp_path / "place")
    assert {name: len(run.pictures("samples")) for name, run in runs.items()} == {"inside": 1, "outside": 0}


def test_links_are_not_followed(tmp_path):
    train(tmp_path / "elsewhere")
    place = tmp_path / "place"
    place.mkdir()
    (place / "folder").symlink_to(tmp_path / "elsewhere")
    (place / "metrics.csv").symlink_to(tmp_path / "elsewhere" / "logs" / "metrics.csv")
    assert list(files_below(place, "metrics.csv")) == []


def test_the_overview_and_the_curves_show_every_run_and_metric(tmp_path):
    train(tmp_path / "a")
    train(tmp_path / "b", 1)
    runs = find_runs(tmp_path)
    header, *rows = overview(runs)
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert found["a"]["steps"] == "20"
    assert found["a"]["the least"] == "0.75"
    pictures = curves({name: run.rows for name, run in runs.items()}, "epoch")
    assert [what for what, _ in pictures] == ["train_loss, val_loss over epochs", "learning_rate over epochs"]
    assert all(svg.startswith(b"<?xml") for _, svg in pictures)
    assert len({*colours(runs).values()}) == 2


def test_the_lines_draw_the_curves(tmp_path, monkeypatch):
    train(tmp_path / "outputs" / "a")
    monkeypatch.chdir(tmp_path)
    exec(lines({"a": Path("outputs/a/logs/metrics.csv")}, "step"), {})
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_reports_are_found_with_their_titles_and_shown_where_they_can_do_nothing(tmp_path):
    report = tmp_path / "evaluation" / "report.html"
    report.parent.mkdir()
    report.write_text('<title>A &amp; B</title><script>alert("x")</script>')
    assert find_reports(tmp_path) == {"evaluation/report.html": "A & B"}
    shown = frame(report)
    assert " sandbox " in shown
    assert "<script>" not in shown


def test_evaluations_stand_in_one_table(tmp_path):
    def write(folder: str, contents: object) -> None:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.json").write_text(json.dumps(contents))

    write("one", {"overall": {"kid": {"value": 0.5, "low": 0.25, "high": 0.75}}})
    write("other", ["somebody else's"])
    assert evaluations(tmp_path) == [["evaluation", "kid"], ["one", "0.5 (0.25 to 0.75)"]]


def test_a_table_escapes_what_it_shows():
    assert "<script>" not in table([["<script>"], ["<script>"]], "<script>")


# -- what a network sees --------------------------------------------------------------------------------


def classes(folder: Path) -> Path:
    for name in ("cat", "dog"):
        for number in range(3):
            save_png(torch.rand(1, 8, 8) * 2 - 1, folder / name / f"{number}.png")
    return folder


def test_a_folder_below_is_looked_at_as_the_lines_do(tmp_path, monkeypatch, capsys):
    classes(tmp_path / "outputs" / "images")
    monkeypatch.chdir(tmp_path)
    place = Place("outputs")
    source = described(place, "images")
    assert source == "outputs/images"
    news: list = []
    found = look(place, source, news.append)
    assert found.parts["train"] == [3, 3]
    assert news[-1] == (6, 6)
    exec(data_lines(source), {})
    assert str(found) in capsys.readouterr().out


def test_the_images_of_a_run_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "outputs" / "run")
    config = Path("outputs/run/logs/config.yaml")
    config.write_text(
        "data: {paths: {train: 'digits:test'}}\nmodel: {architecture: {image_size: 8, in_channels: 1}}"
    )
    place = Place("outputs")
    assert sources(place)[0] == ("images of run", "run/logs/config.yaml")
    assert described(place, "run/logs/config.yaml") == str(config)
    assert sum(look(place, str(config), lambda news: None).parts["train"]) == 360


@pytest.mark.parametrize(
    "source", ["../secret", "secret", "list.csv", "list.csv:train", "split.json", "config.yaml", ""]
)
def test_nothing_outside_is_looked_at(tmp_path, source):
    secret = classes(tmp_path / "secret")
    root = tmp_path / "place"
    root.mkdir()
    (root / "secret").symlink_to(secret)
    (root / "list.csv").write_text("file,split\n../secret/cat/0.png,train\n")
    division = {"data": str(secret), "classes": True, "shares": {}, "images": {"cat/0.png": "train"}}
    (root / "split.json").write_text(json.dumps(division))
    (root / "config.yaml").write_text(f"data: {{paths: {{train: '{secret}'}}}}")
    place = Place(root)
    with pytest.raises(InputError, match=r"outside|choose a run"):
        look(place, described(place, source), lambda news: None)


def test_what_is_told_may_stop_the_look(tmp_path):
    def stop(news: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(Place(classes(tmp_path)), str(tmp_path), stop)
