"""The panel about one picture of a grid: its seed, its file, its film, and more like it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from snowmelt.errors import InputError
from snowmelt.studio.follow import follow, shown
from snowmelt.studio.made import Made, class_caption
from snowmelt.studio.pictures import code, data_uri, download, grid, png, tiles
from snowmelt.studio.work import Changes, Work
from snowmelt.text import counted

__all__ = ["OnePicture"]

VARIATIONS = 8
MOST_FRAMES = 60  # of a film
FILM_SIDE = 128  # pixels of an image in it, at least
FILM = "above the noisy state, below the image that the model predicts from it"


class OnePicture:
    """The panel, which shows the picture that is chosen in a grid.

    Args:
        pictures: the grid.
        made: the state that holds what the grid shows, a `Made` or None.
    """

    def __init__(self, pictures: gr.HTML, made: gr.State) -> None:
        self.number = gr.State(0)
        with gr.Column(visible=False, elem_classes="one") as self.panel:
            self.about = gr.HTML()
            with gr.Row():
                with gr.Column(min_width=280):
                    filming = Work("Film")
                    self.film = gr.HTML()
                with gr.Column(min_width=280):
                    strength = gr.Slider(0.05, 1, 0.3, step=0.05, label="How different")
                    varying = Work("More like this")
                    self.similar = grid(choose=False)
                    self.similar_same = gr.HTML()
        pictures.select(
            self.choose,
            made,
            [self.number, self.panel, self.about, self.film, self.similar, self.similar_same],
            show_progress="hidden",
            api_visibility="private",
        )
        filming.does(lambda *values: self.filmed(filming, *values), [made, self.number], [self.film])
        varying.does(
            lambda *values: self.varied(varying, *values),
            [made, self.number, strength],
            [self.similar, self.similar_same],
        )

    def hidden(self) -> Changes:
        """Return the change that hides the panel."""
        return {self.panel: gr.Column(visible=False)}

    def choose(self, made: Made | None, event: gr.EventData) -> Changes:
        """Show the picture that was chosen."""
        if made is None:  # it is still being made
            return self.hidden()
        number: int = event.index
        return {
            self.number: number,
            self.panel: gr.Column(visible=True),
            self.about: about(made, number),
            self.film: "",
            self.similar: [],
            self.similar_same: "",
        }

    def filmed(self, work: Work, made: Made | None, number: int) -> Iterator[Changes]:
        """Film how a picture came about."""
        from snowmelt.editing.film import each_frame, save_animation

        made = _there(made)
        wanted, label = made.wanted, made.label(number)
        sampler = made.model.sampler(wanted.chosen.method, wanted.guidance_scale)
        labels = None if label is None else [label]
        states = sampler.trajectory(1, labels, wanted.guidance_scale, seeds=[made.seeds[number]])
        total = min(sampler.plan.nfe, MOST_FRAMES)
        frames = []
        for frame in each_frame(states, sampler.plan.nfe, MOST_FRAMES):
            frames.append(frame)
            yield work.at(len(frames), total, f"frame {len(frames)} of {total}")
        scale = -(-FILM_SIDE // made.images.shape[-1])
        with TemporaryDirectory() as folder:
            path = Path(folder) / "film.webp"
            save_animation(frames, path, scale=scale)
            film = path.read_bytes()
        save = download(film, f"film_{made.seeds[number]}.webp", "Download the film", "image/webp")
        yield {
            self.film: f'<img class="film" src="{data_uri(film, "image/webp")}" alt="{FILM}"><p>{save}</p>'
            + code(made.film_command(number, MOST_FRAMES, scale)),
            **work.said(f"{counted(total, 'frame')}: {FILM}."),
        }

    def varied(self, work: Work, made: Made | None, number: int, strength: float) -> Iterator[Changes]:
        """Make more pictures like one."""
        from snowmelt.editing import variations

        made = _there(made)
        wanted = made.wanted
        sampler = made.model.sampler(wanted.chosen.method, wanted.guidance_scale)
        running = follow(
            sampler,
            lambda sampler: variations(
                sampler,
                made.seeds[number],
                VARIATIONS,
                strength=strength,
                class_label=made.label(number),
                guidance_scale=wanted.guidance_scale,
            ),
        )
        captions = [f"{index + 1}" for index in range(VARIATIONS)]
        images = yield from shown(
            running,
            lambda seen: {
                self.similar: tiles(sampler.images(seen.state.x0), captions),
                **work.at(seen.done, seen.total, f"evaluation {seen.done} of {seen.total}"),
            },
        )
        yield {
            self.similar: tiles(images, captions),
            self.similar_same: code(made.variations_command(number, VARIATIONS, strength)),
            **work.said(f"{VARIATIONS} variations."),
        }


def about(made: Made, number: int) -> str:
    """Return a picture in large, and what is known of it, as HTML."""
    from snowmelt.formats.writer import sample_name

    image, name = made.images[number], sample_name(number)
    caption = class_caption(made.model, made.label(number))
    facts = {"Class": caption, "Seed": str(made.seeds[number]), "Method": made.method}
    rows = "".join(f"<dt>{fact}</dt><dd>{escape(value)}</dd>" for fact, value in facts.items() if value)
    file = png(image, made.metadata(number))
    return (
        f'<div class="about"><img src="{data_uri(file)}" alt="{escape(caption or name)}">'
        f"<div><dl>{rows}</dl><p>{download(file, name, 'Download with metadata')}</p></div></div>"
    )


def _there(made: Made | None) -> Made:
    if made is None:
        raise InputError("the pictures are being made anew: choose one when they are finished")
    return made
