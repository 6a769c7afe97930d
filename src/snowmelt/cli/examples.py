"""Examples of every command, which end its ``--help``."""

from __future__ import annotations

__all__ = ["EXAMPLES", "epilog"]

LATEST = "outputs/digits/checkpoints/latest.pth"

# By command: each line runs as it stands, where its files are
EXAMPLES: dict[str, list[str]] = {
    "data": ["snowmelt data photos --out seen.png", "snowmelt data configs/diffusion/digits.yaml --json"],
    "train": [
        "snowmelt train photos --budget 30m",
        "snowmelt train configs/diffusion/digits.yaml training.epochs=50 --dry-run",
    ],
    "generate": [
        "snowmelt generate configs/diffusion/digits_generate.yaml --dry-run",
        "snowmelt generate configs/diffusion/digits_generate.yaml generation.sampling.num_samples=200",
    ],
    "sample": [
        f"snowmelt sample {LATEST} --num 16 --class 3",
        f"snowmelt sample {LATEST} --method ddim:20 --guidance 2 --out grid.png",
    ],
    "run": ["snowmelt run configs/diffusion/digits.yaml --overwrite"],
    "distill": [f"snowmelt distill {LATEST} --steps 1 2 4 --guidance 2 --budget 30m"],
    "tune": [f"snowmelt tune {LATEST} --nfe 4,6,8 --guidance 2 --features imagenet"],
    "evaluate": [
        "snowmelt evaluate outputs/digits/generated --real digits:test --train digits:train --out report",
        f"snowmelt evaluate {LATEST} --real digits:test --num-samples 500 --json",
    ],
    "compare": ["snowmelt compare configs/diffusion/digits_compare.yaml compare.num_samples=500"],
    "augment": [
        "snowmelt augment photos --out outputs/augment --budget 2h",
        "snowmelt augment photos --out outputs/augment --dry-run",
    ],
    "studio": ["snowmelt studio outputs", f"snowmelt studio {LATEST} --port 0"],
    "check": [f"snowmelt check {LATEST} --images digits:test"],
    "import": ["snowmelt import a_diffusers_folder --out imported.safetensors"],
    "export": [f"snowmelt export {LATEST} outputs/digits/diffusers --to diffusers"],
    "ema": ["snowmelt ema outputs/digits --width 0.1"],
    "inspect": [
        "snowmelt inspect outputs/digits/generated/sample_0000.png",
        "snowmelt inspect outputs/digits/generated --json",
    ],
    "doctor": ["snowmelt doctor", "snowmelt doctor --json"],
    "edit interpolate": [
        f"snowmelt edit interpolate {LATEST} --seeds 1,2,3 --out path.png",
        f"snowmelt edit interpolate {LATEST} --seeds 5,5 --class 3,8 --out path.png",
    ],
    "edit variations": [
        f"snowmelt edit variations {LATEST} --seed 5 --strength 0.1,0.3 --out variations.png"
    ],
    "edit image-to-image": [
        f"snowmelt edit image-to-image {LATEST} three.png --strength 0.3,0.5 --class 8 --out eight.png"
    ],
    "edit invert": [f"snowmelt edit invert {LATEST} three.png --class 3 --out noise.npy"],
    "edit swap-class": [f"snowmelt edit swap-class {LATEST} three.png --from 3 --to 5,8 --out swapped.png"],
    "edit inpaint": [f"snowmelt edit inpaint {LATEST} three.png --mask mask.png --num 4 --out painted.png"],
    "edit film": [
        f"snowmelt edit film {LATEST} --seeds 1,2 --out film.png",
        f"snowmelt edit film {LATEST} --seeds 1,2 --seconds 3 --out film.gif",
    ],
    "plan list": ["snowmelt plan list"],
    "plan show": [
        "snowmelt plan show dpmpp_2m --steps 8",
        "snowmelt plan show ddim eta=0.5 --steps 8 --out plan.json --plot plan.png",
    ],
}


def epilog(command: str) -> str:
    """Return what stands below the options of a command, one line a paragraph.

    >>> epilog("run").split()[:3]
    ['Examples:', 'snowmelt', 'run']
    """
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
