"""Pictures on the page: they travel in the page itself, so no file is written and none is served."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["code", "data_uri", "download", "grid", "png", "tiles"]

PICTURE = """<img src="{{this.src}}" alt="{{this.caption}}"><span>{{this.caption}}</span>"""
SHOWN = f"""
<div class="pictures">
{{{{#each value}}}}<div class="picture">{PICTURE}</div>{{{{/each}}}}
</div>
"""
CHOSEN = f"""
<div class="pictures" role="group">
{{{{#each value}}}}<button type="button" class="picture" data-index="{{{{@index}}}}">{PICTURE}</button>
{{{{/each}}}}
</div>
"""
CHOOSE = """
element.addEventListener('click', (event) => {
  const picture = event.target.closest('.picture');
  if (picture) trigger('select', {index: Number(picture.dataset.index)});
});
"""


def grid(*, choose: bool = True, **options: Any) -> gr.HTML:
    """Return a grid of pictures. Its value comes from `tiles`.

    Args:
        choose: one can be chosen, by mouse or keyboard: ``grid.select(f, ...)`` calls
            ``f(..., event: gr.EventData)``, and ``event.index`` is the number of the picture.
        options: of `gr.HTML`.
    """
    template, script = (CHOSEN, CHOOSE) if choose else (SHOWN, None)
    return gr.HTML([], html_template=template, js_on_load=script, apply_default_css=False, **options)


def tiles(images: Tensor, captions: Sequence[str]) -> list[dict[str, str]]:
    """Return images (N, C, H, W) in [-1, 1] as the value of a `grid`."""
    pairs = zip(images, captions, strict=True)
    return [{"src": data_uri(png(image)), "caption": caption} for image, caption in pairs]


def png(image: Tensor, metadata: dict[str, str] | None = None) -> bytes:
    """Return one image (C, H, W) in [-1, 1] as a PNG file."""
    from snowmelt.images import encode_png, to_uint8

    return encode_png(to_uint8(image.detach().cpu()), metadata)


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """Return a file as an address that holds all of it.

    >>> data_uri(b"abc", "text/plain")
    'data:text/plain;base64,YWJj'
    """
    return f"data:{kind};base64,{b64encode(data).decode()}"


def download(data: bytes, name: str, text: str, kind: str = "image/png") -> str:
    """Return a link, as HTML, that saves a file under a name."""
    return f'<a class="download" download="{escape(name)}" href="{data_uri(data, kind)}">{escape(text)}</a>'


def code(text: str, *, table: bool = False) -> str:
    """Return a command or lines as HTML; the lines of a table are not broken."""
    kind = "lines table" if table else "lines"
    return f'<pre class="{kind}" tabindex="0"><code>{escape(text)}</code></pre>'
