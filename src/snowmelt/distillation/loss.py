"""What a student learns: to see the teacher's image in noise that is on its way to become it.

Teacher and noise decide the image, so that every noise z has its image x0. On the way between both,

    x_t = alpha_t x0 + sigma_t z,

the student learns x0 by the ordinary loss; only the noise is no longer drawn beside the image but belongs to
it. This is a rectified flow's second round, on any schedule (Liu, Gong and Liu 2023, Flow Straight and Fast,
https://arxiv.org/abs/2209.03003, algorithm 1): two ways hardly cross, so that x_t tells x0, and a step that
holds x0 fixed may be long. At pure noise one step is all there is, and the student learns the teacher's map
itself (Luhman and Luhman 2021, https://arxiv.org/abs/2101.02388).

Only those levels are learned at which a student is asked, each as often as it is. Beside the squared error, a
critic may say how far the student's images look like the teacher's (`snowmelt.distillation.critic`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snowmelt.distillation.critic import Judgement
from snowmelt.precision import autocast
from snowmelt.training.draws import Draws
from snowmelt.training.loss import denoising_loss
from snowmelt.training.precision import settle_precision
from snowmelt.training.times import Times

if TYPE_CHECKING:
    from snowmelt.training import DiffusionTrainer

__all__ = ["TIMES", "PairLoss"]

TIMES = Times("uniform", stratified=True)  # of a trainer with this loss: they choose the rows


class PairLoss:
    """The loss of a batch of pairs, for `snowmelt.DiffusionTrainer`.

    Args:
        rows: the times at which the student is asked, as `student_rows` returns them.
        judgement: says what else the student's images cost; None for nothing.
    """

    def __init__(self, rows: Sequence[float], judgement: Judgement | None = None) -> None:
        self.rows = torch.tensor(rows, dtype=torch.float64)
        self.judgement = judgement

    def __call__(
        self,
        trainer: DiffusionTrainer,
        x0: Tensor,
        class_labels: Tensor,
        noise: Tensor,
        *,
        draws: Draws,
        learns: bool = True,
    ) -> Tensor:
        """Return the mean squared error, a scalar, on the device and in the precision of the run.

        Args:
            trainer: whose student it is.
            x0: images of the teacher (B, C, H, W).
            class_labels: (B,).
            noise: what the teacher made them of, like `x0`.
            draws: of the step: its times choose a row for each image.
            learns: False for validation, where nobody judges.
        """
        device, model = trainer.accelerator.device, trainer.model
        x0, class_labels, noise = (each.to(device, non_blocking=True) for each in (x0, class_labels, noise))
        t, labels = self.times(draws.times), class_labels if model.num_classes else None

        def judged(x: Tensor) -> Tensor:
            assert self.judgement is not None
            return self.judgement(x.clamp(-1, 1) if model.bounded else x, x0, labels)

        with autocast(device, settle_precision(trainer).precision):
            return denoising_loss(
                model,
                x0,
                labels,
                t=t,
                eps=noise,
                network=trainer.forward,
                weighting=trainer.objective["weighting"],
                judged=judged if learns and self.judgement is not None else None,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what is learned beside the student; empty without a critic."""
        return self.judgement.state_dict() if self.judgement is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; a critic that is not in there begins anew."""
        if self.judgement is not None and state:
            self.judgement.load_state_dict(state)

    def times(self, uniform: Tensor) -> Tensor:
        """Return the row of each image, chosen by numbers (B,) that are uniform in (0, 1]."""
        index = (uniform * len(self.rows)).ceil().long() - 1
        return self.rows[index.clamp(min=0)]
