"""`generation.sampling.guidance`: what a configuration can say of guidance, and what it is told."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.cli import app
from snowmelt.denoisers.guidance.classifier import ScriptedClassifier
from snowmelt.images import to_uint8
from snowmelt.models.checkpoint_file import write_contents
from snowmelt.sampling import image_seeds

# A file format that torch still reads everywhere, and no longer recommends
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning"
)

LABELS = [0, 0, 1, 2]


def write_checkpoint(path: Path, seed: int, **options: object) -> Path:
    """Write a model with random weights, which says something else for each class."""
    torch.manual_seed(seed)
    settings = {"num_classes": 3, "norm_groups": 4, "parameterization": "v", **options}
    model = create_ddpm(8, 1, 8, (1, 2), **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    write_contents({"model_config": model.config, "model_state_dict": model.state_dict()}, path)
    return path


class TimedClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.layer(x_t.flatten(1)) * (1 - t)[:, None]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(5)
    torch.jit.script(TimedClassifier()).save(str(folder / "classifier.pt"))
    return {
        "model": write_checkpoint(folder / "model.pth", 0),
        "weak": write_checkpoint(folder / "weak.pth", 1),
        "other": write_checkpoint(folder / "other.pth", 2, num_classes=2),
        "unconditional": write_checkpoint(folder / "unconditional.pth", 3, num_classes=None),
        "classifier": folder / "classifier.pt",
    }


def generate(folder: Path, checkpoint: Path, *overrides: str):
    arguments = [
        f"generation.checkpoint={checkpoint}",
        "compute.device=cpu",
        f"output.base_dir={folder}",
        "generation.sampling.sampler={type: ddim, steps: 4}",
        "generation.sampling.use_ema=false",
        *overrides,
    ]
    return CliRunner().invoke(app, ["generate", "-", *arguments])


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.rglob("sample_*.png"))])


@pytest.mark.parametrize(
    "options",
    [
        {"type": "cfg", "interval": [0.3, 3.0], "rescale": 0.5},
        {"type": "apg", "eta": 0.2, "schedule": "linear"},
        {"type": "cfg++"},
        {"type": "autoguidance", "weak": "weak"},
        {"type": "classifier", "classifier": "classifier"},
    ],
    ids=lambda options: options["type"],
)
def test_a_configuration_guides_as_the_library_does(files, tmp_path, options):
    named = {key: str(files.get(value, value)) if key in files else value for key, value in options.items()}
    text = ", ".join(f"{key}: {value}" for key, value in named.items())
    result = generate(
        tmp_path,
        files["model"],
        "generation.sampling.num_samples=4",
        f"generation.sampling.guidance={{{text}, scale: 2.0}}",
    )
    assert result.exit_code == 0, result.output
    if "weak" in options:
        options = {**options, "weak": DiffusionSampler.from_pretrained(files["weak"], use_ema=False).model}
    if "classifier" in options:
        options = {**options, "classifier": ScriptedClassifier(torch.jit.load(str(files["classifier"])))}
    sampler = DiffusionSampler.from_pretrained(
        files["model"], use_ema=False, solver="ddim", steps=4, guidance=options
    )
    expected = sampler.sample(4, LABELS, 2.0, seeds=image_seeds(0, 4))
    np.testing.assert_array_equal(pixels(tmp_path), to_uint8(expected)[:, 0].numpy())
    plain = sampler.sample(4, LABELS, seeds=image_seeds(0, 4))
    assert not torch.equal(plain, expected)


def test_the_scale_may_stand_in_either_place(files, tmp_path):
    few = "generation.sampling.num_samples=3"
    outside = generate(tmp_path / "a", files["model"], few, "generation.sampling.guidance_scale=3.0")
    inside = generate(tmp_path / "b", files["model"], few, "generation.sampling.guidance.scale=3.0")
    assert outside.exit_code == inside.exit_code == 0
    np.testing.assert_array_equal(pixels(tmp_path / "a"), pixels(tmp_path / "b"))


def test_autoguidance_needs_no_classes(files, tmp_path):
    result = generate(
        tmp_path,
        files["unconditional"],
        f"generation.sampling.guidance={{type: autoguidance, weak: {files['unconditional']}, scale: 2.0}}",
    )
    assert result.exit_code == 0, result.output


def test_an_interval_saves_evaluations_and_the_estimate_says_so(files, tmp_path):
    # Evaluations at t = 1, 0.75, 0.5, 0.25, of which two lie in the interval
    runner = CliRunner()
    base = [
        "generate",
        "-",
        "--dry-run",
        f"generation.checkpoint={files['model']}",
        "compute.device=cpu",
        f"output.base_dir={tmp_path}",
        "generation.sampling.sampler={type: ddim, steps: 4, grid: uniform_t}",
        "generation.sampling.use_ema=false",
    ]
    for options, expected in (
        ("{scale: 3.0}", "4 an image, 8 with those of guidance"),
        ("{scale: 3.0, interval: [0.3, 0.8], interval_in: t}", "4 an image, 6 with those of guidance"),
        ("{scale: 1.0}", "4 an image\n"),
    ):
        result = runner.invoke(app, [*base, f"generation.sampling.guidance={options}"])
        assert result.exit_code == 0, result.output
        assert expected in result.output


def test_inspect_remembers_the_guidance(files, tmp_path):
    options = "{type: apg, scale: 4.0, eta: 0.1}"
    generate(
        tmp_path / "a",
        files["model"],
        "generation.sampling.num_samples=3",
        f"generation.sampling.guidance={options}",
    )
    path = tmp_path / "a" / "generated" / "sample_0001.png"
    shown = CliRunner().invoke(app, ["inspect", str(path)]).output
    command = shlex.split(shown.partition("snowmelt ")[2])
    again = CliRunner().invoke(app, [*command, f"output.base_dir={tmp_path / 'b'}"])
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(pixels(tmp_path / "b")[0], pixels(tmp_path / "a")[1])
    assert "apg, scale 4" in CliRunner().invoke(app, ["inspect", str(path.parent)]).output


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["guidance={type: cgf, scale: 2.0}"], "guidance must be one of cfg, cfg++, apg"),
        (["guidance={type: cfg, scale: 2.0, intervall: [1, 2]}"], "no option 'intervall'"),
        (["guidance={type: cfg, scale: 2.0, eta: 0.5}"], "cfg with this option is apg"),
        (["guidance={type: cfg, scale: 2.0}", "guidance_scale=3.0"], "guidance_scale is 3, but"),
        (["guidance={type: autoguidance, scale: 2.0}"], "needs weak"),
        (["guidance={type: autoguidance, scale: 2.0, weak: no.pth}"], "no.pth"),
        (["guidance={type: autoguidance, scale: 2.0, weak: OTHER}"], "both must be alike"),
        (["guidance={type: classifier, scale: 2.0, classifier: OTHER}"], "torch.jit.save"),
        (["guidance={type: cfg++, scale: 0.6}", "sampler={type: dpmpp_2m, steps: 4}"], "combines several"),
    ],
)
def test_nonsense_is_refused_before_any_work(files, tmp_path, overrides, message):
    words = [f"generation.sampling.{text.replace('OTHER', str(files['other']))}" for text in overrides]
    result = generate(tmp_path, files["model"], *words)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not list(tmp_path.rglob("*.png"))
