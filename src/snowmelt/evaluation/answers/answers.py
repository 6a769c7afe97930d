"""All answers about a set of generated images, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from snowmelt.evaluation.answers.novelty import Novelty, novelty_chapter
from snowmelt.evaluation.answers.scores import Scores
from snowmelt.evaluation.answers.selection import Selection
from snowmelt.evaluation.answers.summary import summary
from snowmelt.evaluation.answers.usefulness import Usefulness, usefulness_chapter
from snowmelt.evaluation.drawing import draw_closest_pairs, draw_scores, draw_side_by_side
from snowmelt.evaluation.ladder import Ladder
from snowmelt.evaluation.ladder.drawing import draw_ladder
from snowmelt.formats import ImageSource
from snowmelt.json_files import Json, write_json
from snowmelt.notebook import html_list
from snowmelt.report import Block, Chapter, Picture, write_html_report
from snowmelt.text import text_table

__all__ = ["Answers"]


@dataclass(frozen=True)
class Answers:
    """What is known about a set of generated images.

    Attributes:
        about: what was compared with what.
        scores: are they good.
        ladder: what the same metrics read of real images and of spoilt ones.
        novelty: are they new, by the name of the space whose distances count.
        usefulness: are they useful.
        selection: the images that were kept.
    """

    about: Mapping[str, str]
    scores: Scores
    ladder: Ladder | None = None
    novelty: Mapping[str, Novelty] | None = None
    usefulness: Usefulness | None = None
    selection: Selection | None = None

    def __str__(self) -> str:
        """Return all answers, with tables."""
        parts = [text_table(list(self.about.items()), left=2), "\n".join(self.summary()), str(self.scores)]
        if self.ladder is not None:
            table = self.ladder.table()
            parts.append("\n".join([table.caption, str(table), *table.notes]))
        for space, found in (self.novelty or {}).items():
            copies, held_out, duplicates = found.copy_rate, found.held_out_rate, found.duplicate_rate
            parts.append(
                f"In the space of {space}, {copies.value:.1%} of the generated images are copies of training "
                f"images\n({copies.low:.1%} to {copies.high:.1%}), against {held_out.value:.1%} of held-out "
                f"real images. {duplicates.value:.1%} of the\ngenerated images are duplicates of each other."
            )
        if self.usefulness is not None:
            parts.append(f"Are they useful? {self.usefulness.answer()}")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """Return the sentences and the tables, for a notebook."""
        ladder = self.ladder.table()._repr_html_() if self.ladder is not None else ""
        return html_list(self.summary()) + self.scores._repr_html_() + ladder

    def summary(self) -> list[str]:
        """Return the answers in a sentence each: how good, how new, how useful, how sure."""
        return summary(self.scores, self.ladder, self.novelty, self.usefulness)

    def to_dict(self) -> Json:
        """Return all answers as plain values that JSON knows."""
        found: Json = {**self.about, "summary": self.summary(), **self.scores.to_dict()}
        if self.ladder is not None:
            found["ladder"] = self.ladder.to_dict()
        if self.novelty is not None:
            found["novelty"] = {space: each.to_dict() for space, each in self.novelty.items()}
        if self.usefulness is not None:
            found["usefulness"] = self.usefulness.to_dict()
        if self.selection is not None:
            found["selection"] = self.selection.to_dict()
        return found

    def write(
        self,
        folder: Path,
        generated: ImageSource,
        real: ImageSource | None = None,
        training: ImageSource | None = None,
    ) -> None:
        """Write ``metrics.json``, the pictures, and ``report.html`` with all of it.

        Args:
            folder: where to write; existing files are replaced.
            generated, real, training: the images; None where they are not known.
        """
        chapters = [Chapter("In short", self.summary())]
        if self.ladder is not None:
            draw_ladder(self.ladder, folder / "ladder.png")
            text = "Generated images among real and spoilt ones. The band is that of real images."
            picture = Picture.read(folder / "ladder.png", text)
            chapters.append(Chapter("On a ladder of spoilt images", [picture, self.ladder.table()]))
        good = self.scores.chapter()
        pictures: list[Block] = []
        if self.scores.per_class or (self.scores.overall and self.ladder is None):
            draw_scores(self.scores, folder / "metrics.png")
            text = "Every metric: a band for all images, a point for each class."
            pictures.append(Picture.read(folder / "metrics.png", text))
        if real is not None and generated.take([0]).shape == real.take([0]).shape:
            draw_side_by_side(generated, real, folder / "side_by_side.png")
            text = "Generated images to the left, real ones to the right."
            pictures.append(Picture.read(folder / "side_by_side.png", text))
        chapters.append(Chapter(good.title, [*pictures, *good.blocks]))
        if self.novelty is not None and training is not None:
            path = folder / "closest_pairs.png"
            draw_closest_pairs(self.novelty["pixels"], generated, training, path)
            chapters.append(novelty_chapter(self.novelty, path))
        if self.usefulness is not None:
            chapters.append(usefulness_chapter(self.usefulness))
        write_html_report(folder / "report.html", "Evaluation", chapters, self.about)
        write_json(folder / "metrics.json", self.to_dict())
