"""What is said on the command line counts, in whatever way the file says it."""

from __future__ import annotations

import pytest

from snowmelt.config import load_config
from snowmelt.config.load import ConfigError

SAMPLING = {
    "sampler": "{type: ddim, steps: 5, eta: 0.5}",
    "preset": "fast",
    "plan": "plan.json",
    "class_selection": "[0, 1]",
    "class_counts": "{0: 3}",
    "balance_to": "images",
    "seeds": "[5, 6]",
    "guidance_scale": "2.0",
    "guidance": "{type: apg, scale: 4.0}",
}
GROUPS = [
    ["sampler", "preset", "plan"],
    ["class_selection", "class_counts", "balance_to"],
    ["guidance_scale", "guidance"],
]
PAIRS = [(one, other) for group in GROUPS for one in group for other in group if one != other]


@pytest.fixture
def sampling(tmp_path):
    def load(stated: str, *overrides: str):
        path = tmp_path / "c.yaml"
        path.write_text(
            "mode: generate\ngeneration:\n  checkpoint: a.pth\n  sampling:\n"
            f"    num_samples: 3\n    {stated}: {SAMPLING[stated]}\n"
        )
        return load_config(path, [f"generation.sampling.{text}" for text in overrides]).generation.sampling

    return load


@pytest.mark.parametrize(("stated", "later"), PAIRS)
def test_the_later_word_takes_the_place_of_the_files(sampling, stated, later):
    alone = sampling(later)
    both = sampling(stated, f"{later}={SAMPLING[later]}")
    assert (both.method, both.scale) == (alone.method, alone.scale)
    assert [getattr(both, name) for name in GROUPS[1]] == [getattr(alone, name) for name in GROUPS[1]]


@pytest.mark.parametrize("later", ["class_counts", "balance_to", "seeds", "class_selection", "preset"])
def test_what_decides_the_number_takes_the_place_of_the_files_number(sampling, later):
    decides = later in ("class_counts", "balance_to", "seeds")
    changed = sampling("plan", f"{later}={SAMPLING[later]}")
    assert ("num_samples" in changed.model_fields_set) != decides
    both = sampling("plan", f"{later}={SAMPLING[later]}", "num_samples=4")
    assert both.num_samples == 4
    assert "num_samples" in both.model_fields_set
    assert sampling(later).num_samples == 3  # one file that says both is not changed
    assert sampling("plan", f"{later}=null").num_samples == 3


def test_a_part_of_what_the_file_says_is_changed_alone(sampling):
    assert sampling("sampler", "sampler.steps=9").method == {"type": "ddim", "steps": 9, "eta": 0.5}
    assert sampling("preset", "sampler.steps=9").method == {"steps": 9}
    kept = sampling("guidance", "guidance_scale=2.0").guidance
    assert (kept.type, kept.scale) == ("apg", None)


def test_nothing_is_said_by_null(sampling):
    assert sampling("sampler", "preset=null").method == {"type": "ddim", "steps": 5, "eta": 0.5}


def test_two_words_on_one_command_line_still_contradict_each_other(sampling):
    with pytest.raises(ConfigError, match="one of sampler, preset, plan"):
        sampling("plan", "preset=fast", "sampler.steps=3")
