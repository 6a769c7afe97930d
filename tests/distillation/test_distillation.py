"""Few-step students: what their loss is zero at, what a run does, and what is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from snowmelt import Checkpoint, DiffusionModel, DiffusionSampler, DiffusionTrainer, create_model
from snowmelt.core import RectifiedFlow
from snowmelt.distillation import Distillation, Pairs, Teacher, make_student, student_rows
from snowmelt.distillation.critic import Critic, Judgement
from snowmelt.distillation.loss import TIMES, PairLoss
from snowmelt.distillation.student import student_method
from snowmelt.errors import InputError
from snowmelt.plans import last_state
from snowmelt.training.draws import Draws
from snowmelt.training.length import Length

IMAGES = 320  # more than five epochs


def make_teacher(method="ddim:4", scale=4.0, **options) -> Teacher:
    torch.manual_seed(0)
    model = create_model(8, 1, 8, (1,), 3, schedule="flow", layers_per_block=1, norm_groups=4, **options)
    for parameter in model.parameters():  # a new network answers 0
        torch.nn.init.normal_(parameter, std=0.4)
    return Teacher(Checkpoint.of(model, class_names=["a", "b", "c"]), scale, method)


def distil(folder, images, teacher=None, **options):
    values = {"steps": [1, 2], "length": Length.of(images=images), "pairs": 64, "batch_size": 16}
    return Distillation(teacher or make_teacher(), folder, **{**values, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a run; read it, don't change it."""
    folder = tmp_path_factory.mktemp("finished")
    distil(folder, IMAGES).run()
    return folder


# -- the loss ------------------------------------------------------------------------------------------


class Straight(torch.nn.Module):
    """The student of a teacher that maps noise z to the image mean + std z, exact at every level.

    There x_t = alpha x0 + sigma z, with x0 = mean + std z, has one image, that is known in closed form.
    """

    def __init__(self, schedule, error: float = 0.0) -> None:
        super().__init__()
        self.schedule, self.error = schedule, torch.nn.Parameter(torch.tensor(error))

    def forward(self, x, time, class_labels):
        t = (time.double() / 1000).view(-1, 1, 1, 1)
        _, alpha, sigma = self.schedule(t)
        z = (x - alpha * MEAN) / (alpha * STD + sigma)
        return (z - (MEAN + STD * z) + self.error).to(x)  # the flow's velocity, eps - x0


MEAN, STD = 0.3, 0.5


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_the_loss_is_zero_at_the_teachers_map_and_nowhere_else(error):
    """Of a Gaussian, noise and image lie on a straight way: v = z - x0, and errors of v are all there is."""
    schedule = RectifiedFlow()
    model = DiffusionModel(Straight(schedule, error), schedule, "flow", image_shape=(1, 2, 2))
    noise = torch.randn(60, 1, 2, 2)
    loss = loss_of(model, noise, MEAN + STD * noise, student_rows(schedule, [1, 2, 4]))
    assert loss.item() == pytest.approx(error**2, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_where_the_loss_is_zero_any_number_of_steps_makes_the_teachers_image(steps):
    schedule = RectifiedFlow()
    model = DiffusionModel(Straight(schedule), schedule, "flow", image_shape=(1, 2, 2))
    sampler = DiffusionSampler(model, method=student_method(steps), threshold=None)
    noise = torch.randn(5, 1, 2, 2)
    image = last_state(sampler.run(sampler.plan, noise))
    torch.testing.assert_close(image, MEAN + STD * noise)


def test_noise_of_other_images_costs():
    """Only that noise of which the teacher made the image leads to it: of other noise the mean is best."""
    schedule = RectifiedFlow()
    model = DiffusionModel(Straight(schedule), schedule, "flow", image_shape=(1, 2, 2))
    noise = torch.randn(2000, 1, 2, 2)
    loss = loss_of(model, noise, MEAN + STD * noise.flip(0), student_rows(schedule, [1]))
    assert loss.item() == pytest.approx(2 * STD**2, rel=0.2)  # of the difference of two independent images


def loss_of(model, noise, images, rows, judgement=None, *, learns=True) -> torch.Tensor:
    pairs = Pairs(noise, images, torch.zeros(len(noise), dtype=torch.int64))
    trainer = DiffusionTrainer(model, pairs, torch.optim.SGD(model.parameters()), use_ema=False)
    share = torch.arange(1, len(noise) + 1, dtype=torch.float64) / len(noise)
    draws = Draws(share, torch.zeros(len(noise), dtype=torch.bool), [0] * len(noise))
    loss = PairLoss(rows, judgement)
    return loss(trainer, images, torch.zeros(len(noise)), noise, draws=draws, learns=learns)


def test_training_leads_to_the_teachers_images_of_noise_that_it_has_not_seen():
    schedule, (seen, unseen) = RectifiedFlow(), torch.randn(2, 256, 1, 2, 2)
    model = DiffusionModel(Straight(schedule, error=0.5), schedule, "flow", image_shape=(1, 2, 2))
    pairs = Pairs(seen, MEAN + STD * seen, torch.zeros(256, dtype=torch.int64))
    loss = PairLoss(student_rows(schedule, [1, 2]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    trainer = DiffusionTrainer(model, pairs, optimizer, use_ema=False, loss=loss, times=TIMES)
    sampler = DiffusionSampler(model, method=student_method(2), threshold=None)

    def distance() -> float:
        images = last_state(sampler.run(sampler.plan, unseen))
        return (images - (MEAN + STD * unseen)).abs().mean().item()

    before = distance()
    metrics = trainer.train(num_epochs=1)  # four steps, each of which halves the error
    assert distance() == pytest.approx(before / 2**4, rel=0.01)  # which is linear in the error
    assert 0 < metrics["val_loss"] < metrics["train_loss"]


def test_every_evaluation_of_every_number_of_steps_counts_alike():
    rows = student_rows(RectifiedFlow(), [1, 2, 4])
    t = PairLoss(rows).times(torch.arange(1, 701, dtype=torch.float64) / 700)
    assert {time: (t == time).sum().item() for time in set(rows)} == {
        1.0: 300,
        0.75: 100,
        0.5: 200,
        0.25: 100,
    }


# -- the critic ----------------------------------------------------------------------------------------


def test_a_critic_drives_averages_apart():
    """Black and white images, and a student that makes them gray: nearer to gray is dearer."""
    torch.manual_seed(0)
    judgement = Judgement(Critic(1, 2), weight=0.5)
    for _ in range(40):
        images = torch.randint(0, 2, (32, 1, 8, 8)) * 2.0 - 1
        gray = (0.3 * images).requires_grad_()
        cost = judgement(gray, images, torch.arange(32) % 2)
    (gradient,) = torch.autograd.grad(cost.sum(), gray)
    assert cost.shape == (32,)
    assert ((gray - 0.1 * gradient.sign()).abs().mean() > gray.abs().mean() + 0.05).item()
    assert not any(p.grad is None for p in judgement.critic.parameters())  # of its own step


def test_nobody_judges_what_is_validated():
    schedule, noise = RectifiedFlow(), torch.randn(8, 1, 4, 4)
    model = DiffusionModel(Straight(schedule, 0.1), schedule, "flow", image_shape=(1, 4, 4))
    judged = [Judgement(Critic(1, None), weight=1.0), None]
    validated = [
        loss_of(model, noise, MEAN + STD * noise, [1.0], judgement, learns=False) for judgement in judged
    ]
    assert validated[0] == validated[1]
    assert loss_of(model, noise, MEAN + STD * noise, [1.0], judged[0]) != validated[0]


def test_a_critic_changes_what_a_student_learns(finished, tmp_path):
    distil(tmp_path, IMAGES, critic=0.0).run()
    without, with_critic = (Checkpoint.read(each / "latest.pth") for each in (tmp_path, finished))
    assert "loss_state_dict" in with_critic.training
    assert not without.training["loss_state_dict"]
    assert without.weights.keys() == with_critic.weights.keys()
    assert any(not torch.equal(without.weights[key], with_critic.weights[key]) for key in without.weights)


# -- the teacher ---------------------------------------------------------------------------------------


def test_an_image_follows_from_its_noise_and_class():
    """Whatever else is made with it; and it is the one that a sampler makes of that noise."""
    teacher = make_teacher()
    together, alone = teacher.images(range(5)), teacher.images(range(3, 4))
    assert torch.equal(together[3:4], alone)
    run = teacher.sampler.run(teacher.sampler.plan, teacher.noise(range(5)), teacher.labels(range(5)), 4.0)
    torch.testing.assert_close(last_state(run).clamp(-1, 1), together)


def test_the_student_begins_as_its_teacher():
    teacher = make_teacher(scale=1.0, method="ddim:2")
    student = DiffusionSampler(make_student(teacher.checkpoint), method="ddim:2")
    made = last_state(student.run(student.plan, teacher.noise(range(4)), teacher.labels(range(4))))
    torch.testing.assert_close(made.clamp(-1, 1), teacher.images(range(4)))


# -- a run ---------------------------------------------------------------------------------------------


def test_the_student_is_a_checkpoint_with_a_method_of_its_own(finished):
    checkpoint = Checkpoint.read(finished / "latest.pth")
    sampler = DiffusionSampler.from_pretrained(checkpoint)
    assert (sampler.plan.nfe, str(checkpoint.method), checkpoint.class_names) == (
        2,
        "ddim:2",
        ["a", "b", "c"],
    )
    about = checkpoint.config["distillation"]
    assert about["teacher"]["checkpoint"] == make_teacher().checkpoint.digest
    assert (about["teacher"]["guidance_scale"], about["steps"]) == (4.0, [1, 2])
    assert (finished / "students.png").exists()


def test_a_student_cannot_be_guided_again(finished):
    sampler = DiffusionSampler.from_pretrained(finished / "latest.pth")
    assert sampler.sample(2, [0, 2]).shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="null class"):
        sampler.sample(1, [0], guidance_scale=4.0)


def test_a_run_that_is_stopped_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    """Stopped within its second epoch, by a signal as the trainer sees it."""
    steps = DiffusionTrainer.steps

    def stopped(trainer):
        for images in steps(trainer):
            yield images
            if trainer.global_step == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionTrainer, "steps", stopped)
        with pytest.raises(KeyboardInterrupt):
            distil(tmp_path, IMAGES).run()
    distil(tmp_path, IMAGES).run()
    assert Checkpoint.read(tmp_path / "latest.pth") == Checkpoint.read(finished / "latest.pth")


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ("from 1 to 16, such as 1 2 4; got 0, 2", {"steps": [0, 2]}),
        ("from 1 to 16, such as 1 2 4; got none", {"steps": []}),
        ("are 2 to 65,536, got 1", {"pairs": 1}),
        ("the number of pairs must be given", {"pairs": None}),
        ("the weight of the critic is 0 or more, got nan", {"critic": float("nan")}),
    ],
)
def test_what_makes_no_sense_is_refused(message, wrong, tmp_path):
    with pytest.raises(InputError, match=message):
        distil(tmp_path, 100, **wrong)


def test_a_teacher_that_draws_noise_is_refused():
    with pytest.raises(InputError, match="draws noise on its way"):
        make_teacher("ddpm:4")


def test_a_teacher_that_cannot_be_guided_is_refused():
    with pytest.raises(ValueError, match="null class"):
        make_teacher(has_null_class=False)


def test_another_teacher_does_not_go_on_in_the_folder(finished):
    with pytest.raises(InputError, match=r"guidance_scale: 4.0 there, 3.0 now"):
        distil(finished, IMAGES, make_teacher(scale=3.0))


def test_a_run_of_another_kind_is_not_mixed_with(tmp_path):
    make_teacher().checkpoint.write(tmp_path / "latest.pth")
    with pytest.raises(InputError, match="take another folder"):
        distil(tmp_path, 100)
    distil(tmp_path, 100, overwrite=True)
    assert not (tmp_path / "latest.pth").exists()
