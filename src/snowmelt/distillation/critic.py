"""What tells a student that its images are too smooth: a critic, which learns beside it.

What a student cannot tell from the noise, the squared error makes it average, and averages are blurred. A
critic c is a small network that learns to tell the student's images from the teacher's. The student learns to
please it, too:

    critic:   E max(0, 1 - c(x0)) + E max(0, 1 + c(x))
    student:  E |x - x0|^2 - weight * E c(x)

Source: Goodfellow et al. 2014 (Generative Adversarial Nets); Lim & Ye 2017 (Geometric GAN), section 3, for
this hinge; Miyato & Koyama 2018 (cGANs with Projection Discriminator), eq. 6, for the classes; Isola et al.
2017 (Image-to-Image Translation), section 3.2.2, for a critic of patches. Kang et al. 2024 (Distilling
Diffusion Models into Conditional GANs) have a critic beside a teacher's pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Critic", "Judgement"]

WIDTH = 24  # channels of the first layer; twice as many in those that follow
RATE, BETAS = 1e-3, (0.0, 0.99)  # without momentum, as its opponent moves


class Critic(nn.Module):
    """Scores every patch of 9 x 9 pixels: high for the teacher's images, low for the student's.

    Args:
        channels: of the images.
        num_classes: that are told to it; None for images without classes.

    >>> critic = Critic(channels=3, num_classes=10)
    >>> critic(torch.zeros(2, 3, 8, 8), torch.tensor([0, 9])).shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self, channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Conv2d(2 * WIDTH, 1, 1)
        self.of_class = nn.Embedding(num_classes, 2 * WIDTH) if num_classes else None
        if self.of_class is not None:
            nn.init.zeros_(self.of_class.weight)

    def forward(self, x: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Map images (B, C, H, W) and their labels (B,) to scores (B, 1, H / 2, W / 2), rounded up."""
        seen = self.layers(x)
        scores: Tensor = self.score(seen)
        if self.of_class is not None:
            scores = scores + (seen * self.of_class(class_labels)[..., None, None]).sum(1, keepdim=True)
        return scores


class Judgement:
    """A critic and its optimizer, which take a step whenever they are asked.

    Args:
        critic: on the device of the images.
        weight: of what the student learns from it, beside the squared error; > 0.
    """

    def __init__(self, critic: Critic, weight: float) -> None:
        self.critic, self.weight = critic, weight
        self.optimizer = torch.optim.Adam(critic.parameters(), RATE, BETAS)

    def __call__(self, x: Tensor, x0: Tensor, class_labels: Tensor | None) -> Tensor:
        """Let the critic learn from a batch, and return what the student's images cost.

        Args:
            x: of the student (B, C, H, W).
            x0: of the teacher, alike in shape.
            class_labels: (B,), or None.

        Returns:
            (B,), to be added to the error of each image.
        """
        with torch.autocast(x.device.type, enabled=False):
            x, x0 = x.float(), x0.float()
            theirs, ours = self.critic(x0, class_labels), self.critic(x.detach(), class_labels)
            self.optimizer.zero_grad(set_to_none=True)
            (F.relu(1 - theirs).mean() + F.relu(1 + ours).mean()).backward()
            self.optimizer.step()
            self.critic.requires_grad_(False)  # the student's gradient is none of the critic's
            cost: Tensor = -self.weight * self.critic(x, class_labels).flatten(1).mean(1)
            self.critic.requires_grad_(True)
        return cost

    def state_dict(self) -> dict[str, Any]:
        """Return what has been learned."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
