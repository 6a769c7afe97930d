"""Look: what the images are, what to beware of, and what a network can learn of them in the time."""

from __future__ import annotations

import torch

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.config import load_config
from snowmelt.data.survey import survey
from snowmelt.files import atomic_write
from snowmelt.images import save_grid
from snowmelt.training.data import training_data
from snowmelt.training.proposal import Proposal

__all__ = ["LOOK"]


def _run(job: AugmentJob, anew: bool) -> str:
    path = job.train_file
    if anew or not path.exists():  # a proposal is measured once
        proposal = _proposal(job)
        load_config("-", proposal.words())  # a wrong key is refused before it stands in a file
        with atomic_write(path, "w") as file:
            file.write(proposal.text())
    found = survey(training_data(job.train_config, torch.device("cpu")))
    save_grid(
        found.pictures,
        job.folder / "data.png",
        nrow=8,
        captions=[found.classes[label] for label in found.labels],
    )
    job.write("look", found.as_json())
    comments, _, _ = path.read_text(encoding="utf-8").partition("\n\n")
    return "\n".join([comments.replace("# ", ""), *found.warnings])


def _proposal(job: AugmentJob) -> Proposal:
    """Return the proposal with the changes of `config.train`, in the folder of the job, where it goes on."""
    own = {
        "output": {"base_dir": str(job.folder / "model")},
        "compute": {"seed": job.config.seed, "device": job.config.compute.device},
        "training": {"resume": {"enabled": True}},
    }
    return job.proposal.changed(own).changed(job.config.train)


LOOK = Stage(
    "look",
    "what the images are, and what can be learned of them in the time",
    decided_by=lambda job: (job.config.train, job.config.budget, job.config.compute.device, job.config.seed),
    forecast=lambda job: "\n".join(job.proposal.reasons),
    run=_run,
    command=lambda job: f"snowmelt data {job.split_file}:train",
)
