"""Make the pictures of docs/editing.md and docs/guidance.md from the demo's checkpoint: ``make pictures``.

The edits are the commands that the page shows. For guidance, a weaker model (the demo's after ten epochs) and
a classifier of noisy digits are trained first, in seconds.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt import DiffusionSampler
from snowmelt.cli import app
from snowmelt.core import Level, NoiseSchedule
from snowmelt.data import load_digits_split
from snowmelt.images import from_uint8, save_grid, save_png

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
OUTPUTS = ROOT / "outputs"
CHECKPOINT = OUTPUTS / "digits" / "checkpoints" / "latest.pth"
WEAK = OUTPUTS / "digits_weak" / "checkpoints" / "latest.pth"
EDITS = DOCS / "editing.md"

# One row a scale, one column a digit, the same seed in each column
GUIDED: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "cfg": ({"type": "cfg"}, (1.0, 2.0, 4.0, 8.0)),
    "cfg_interval": ({"type": "cfg", "interval": [0.3, 3.0]}, (1.0, 2.0, 4.0, 8.0)),
    "cfg_rescale": ({"type": "cfg", "rescale": 0.7}, (1.0, 2.0, 4.0, 8.0)),
    "cfg_linear": ({"type": "cfg", "schedule": "linear"}, (1.0, 2.0, 4.0, 8.0)),
    "apg": ({"type": "apg", "eta": 0.0, "norm_threshold": 2.0}, (1.0, 2.0, 4.0, 8.0)),
    "cfg_plus_plus": ({"type": "cfg++"}, (0.1, 0.3, 0.6, 1.0)),
    "autoguidance": ({"type": "autoguidance"}, (1.0, 1.5, 2.0, 4.0)),
    "classifier": ({"type": "classifier"}, (0.0, 1.0, 3.0, 10.0)),
}


def snowmelt(*arguments: str) -> None:
    """Run a command in this process."""
    app(list(arguments), standalone_mode=False)


class NoisyDigitClassifier(nn.Module):
    """Logits of a noisy digit, told its time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(65, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 10)
        )

    def forward(self, x_t: Tensor, level: Level[float]) -> Tensor:
        """Return (B, 10)."""
        return self.logits(x_t, x_t.new_full((len(x_t),), level.t))

    def logits(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return (B, 10) for times (B,)."""
        return self.layers(torch.cat([x_t.flatten(1), t[:, None]], dim=1))


def train_classifier(schedule: NoiseSchedule, steps: int = 2000) -> NoisyDigitClassifier:
    """Train on digits at random times of the schedule."""
    torch.manual_seed(0)
    classifier = NoisyDigitClassifier()
    images, labels = (torch.as_tensor(part) for part in load_digits_split("train"))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for _ in range(steps):
        chosen = torch.randint(len(images), (128,))
        level = schedule(torch.rand(128))
        alpha, sigma = (part.float()[:, None] for part in (level.alpha, level.sigma))
        x_t = alpha * images[chosen].float() + sigma * torch.randn(128, 64)
        loss = nn.functional.cross_entropy(classifier.logits(x_t, level.t.float()), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier


def guidance_pictures() -> None:
    """Draw one seed grid under each method and scale."""
    snowmelt(
        "train",
        str(ROOT / "configs" / "diffusion" / "digits.yaml"),
        "training.epochs=10",
        f"output.base_dir={WEAK.parents[1]}",
        "--overwrite",
    )
    loaded = DiffusionSampler.from_pretrained(CHECKPOINT, steps=1)
    weak = DiffusionSampler.from_pretrained(WEAK, steps=1).model
    networks = {
        "autoguidance": {"weak": weak},
        "classifier": {"classifier": train_classifier(loaded.model.schedule)},
    }
    for name, (options, scales) in GUIDED.items():
        guidance = {**options, **networks.get(name, {})}
        sampler = DiffusionSampler(
            loaded.model, ema=loaded.ema, solver="ddim", steps=30, grid="uniform_lam", guidance=guidance
        )
        rows = [sampler.sample(10, range(10), scale, seeds=range(10)) for scale in scales]
        captions = [f"{scale:g}" for scale in scales for _ in range(10)]
        save_grid(torch.cat(rows), DOCS / "images" / f"guidance_{name}.png", nrow=10, captions=captions)


def edit_pictures() -> None:
    """Run the page's own commands on two real digits that the model has never seen."""
    images, labels = (torch.as_tensor(part) for part in load_digits_split("test"))
    for digit in (3, 7):
        first = images[labels == digit][0].float().view(1, 8, 8)
        save_png(first, OUTPUTS / f"{digit}.png")
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[:, 4:] = 255
    save_png(from_uint8(mask), OUTPUTS / "mask.png")
    for line in EDITS.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("snowmelt edit"):
            snowmelt(*shlex.split(line)[1:])


if __name__ == "__main__":
    edit_pictures()
    guidance_pictures()
