"""The model card: the README.md of a folder on the Hub."""

from __future__ import annotations

from snowmelt._version import __version__
from snowmelt.models.checkpoint import Checkpoint
from snowmelt.models.ddpm import DDPMModel
from snowmelt.text import counted

__all__ = ["model_card"]

_PIPELINE = """\
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("{here}")
image = pipeline(batch_size=1, num_inference_steps={num_timesteps}).images[0]
image.save("sample.png")
"""

# DDPMPipeline hands no labels to its network
_CONDITIONAL = """\
import torch
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("{here}")
unet, scheduler = pipeline.unet, pipeline.scheduler
class_labels = torch.tensor([0])
image = torch.randn(1, {shape})
scheduler.set_timesteps({num_timesteps})
for t in pipeline.progress_bar(scheduler.timesteps):
    with torch.no_grad():
        prediction = unet(image, t, class_labels).sample
    image = scheduler.step(prediction, t, image).prev_sample
pipeline.numpy_to_pil((image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy())[0].save("sample.png")
"""

_SNOWMELT = """\
from snowmelt import DiffusionSampler

sampler = DiffusionSampler.from_pretrained("{here}", preset="balanced")
samples = sampler.sample(num_samples=16{labels})  # (16, {shape}) in [-1, 1]
"""


def model_card(model: DDPMModel, checkpoint: Checkpoint, *, averaged: bool, license: str) -> str:
    """Return the README.md of an exported model.

    Args:
        model: what is exported.
        checkpoint: where it comes from; what it tells of the training is passed on.
        averaged: the weights are the EMA's.
        license: as the Hub names it.
    """
    kind = "conditional" if model.num_classes else "unconditional"
    words = {
        "here": "PATH/OF/THIS/FOLDER",
        "shape": ", ".join(map(str, model.image_shape)),
        "num_timesteps": model.schedule.num_timesteps,
        "labels": ", class_labels=[0] * 16" if model.num_classes else "",
    }
    pipeline = (_CONDITIONAL if model.num_classes else _PIPELINE).format(**words)
    front = {
        "license": license,
        "library_name": "diffusers",
        **({} if model.num_classes else {"pipeline_tag": "unconditional-image-generation"}),
    }
    tags = ["diffusion", "ddpm", f"{kind}-image-generation", "snowmelt"]
    lines = [
        "---",
        *(f"{name}: {value}" for name, value in front.items()),
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
        f"# {kind.capitalize()} image generation, {_size(model)}",
        "",
        "A diffusion model in the format of diffusers, exported by snowmelt.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in _facts(model, checkpoint, averaged).items()),
        "",
        "## Use",
        "",
        "```python",
        pipeline.rstrip(),
        "```",
        "",
        "With snowmelt, in fewer steps:",
        "",
        "```python",
        _SNOWMELT.format(**words).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _facts(model: DDPMModel, checkpoint: Checkpoint, averaged: bool) -> dict[str, object]:
    """Return what is known of the model and its training, by name."""
    betas = "a list" if model.config["betas"] else model.config["beta_schedule"]
    ending = ", zero terminal SNR" if model.config["zero_terminal_snr"] else ""
    facts: dict[str, object] = {
        "images": f"{_size(model)}, in [-1, 1]",
        "parameters": f"{model.num_parameters:,}",
        "prediction": model.parameterization.name,
        "noise schedule": f"{counted(model.schedule.num_timesteps, 'step')}, betas: {betas}{ending}",
    }
    if model.num_classes:
        null = f"; label {model.null_class} stands for no class" if model.null_class is not None else ""
        facts["classes"] = f"{model.num_classes}{null}"
    if names := checkpoint.class_names:
        facts["class names"] = ", ".join(map(str, names))
    if averaged and checkpoint.ema is not None:
        width, decay = checkpoint.ema.get("width"), checkpoint.ema.get("decay")
        profile = f"decay {decay}" if width is None else f"width {width} of the run"
        facts["weights"] = f"moving average, {profile}"
    facts |= {
        words: f"{checkpoint.training[key]:,}"
        for key, words in (("epoch", "epochs trained"), ("global_step", "optimizer steps"))
        if key in checkpoint.training
    }
    return {**facts, "snowmelt": __version__}


def _size(model: DDPMModel) -> str:
    channels, height, width = model.image_shape
    return f"{height} x {width} pixels, {counted(channels, 'channel')}"
