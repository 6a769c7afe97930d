"""A network that starts from another one says the same, where both can say it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snowmelt import EMA, Checkpoint, create_ddpm, create_model
from snowmelt.errors import InputError
from snowmelt.models import transfer

SMALL = {"model_channels": 4, "channel_multipliers": (1,), "layers_per_block": 1, "norm_groups": 2}
SMALL |= {"attention_head_dim": 4}
NETWORKS = {
    "unet": SMALL,
    "patches": {**SMALL, "patch_size": 2},
    "dit": {"network": "dit", "model_channels": 8, "depth": 1, "attention_head_dim": 4},
}


def create(in_channels=1, num_classes=3, image_size=8, network="unet", **options):
    options = {**NETWORKS[network], "schedule": "ddpm-linear", **options}
    model = create_model(image_size, in_channels, num_classes=num_classes, **options)
    for parameter in model.parameters():  # a new network is the zero function
        nn.init.normal_(parameter, std=0.3)
    return model


def started(source, model, class_names=(), classes=None, source_names=None):
    checkpoint = Checkpoint.of(source, class_names=source_names)
    return transfer(checkpoint, model, class_names, classes)


@torch.no_grad()
def said(model, labels=(0, 1, 2), channels=1, size=8):
    x = torch.randn(len(labels), 1, size, size, generator=torch.Generator().manual_seed(0))
    x = x.expand(-1, channels, -1, -1)
    classes = torch.tensor(labels) if model.num_classes else None
    return model.network(x, torch.full((len(labels),), 7.0), classes)


def same(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_gray_becomes_colour_and_back(network):
    gray, colour = create(1, network=network), create(3, network=network)
    lines = started(gray, colour)
    same(said(colour, channels=3), said(gray).expand(-1, 3, -1, -1))
    assert any("Channels: 1 there, 3 now" in line for line in lines)
    colour, gray = create(3, network=network), create(1, network=network)
    started(colour, gray)
    same(said(gray), said(colour, channels=3).mean(1, keepdim=True))


def test_a_channel_more_counts_for_nothing():
    colour, transparent = create(3), create(4)
    started(colour, transparent)
    y = said(transparent, channels=4)
    same(y[:, :3], said(colour, channels=3))
    assert not y[:, 3].any()


@pytest.mark.parametrize("network", NETWORKS)
def test_another_size_takes_all(network):
    source, model = create(network=network), create(network=network, image_size=12)
    lines = started(source, model)
    same(said(model, size=12), said(source, size=12))
    assert any("Image size: 8 x 8 there, 12 x 12 now" in line for line in lines)


def test_averaged_weights_are_the_start():
    source, model = create(), create()
    ema = EMA(source, decay=0.0)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    transfer(Checkpoint.of(source, ema), model)
    with ema.applied():
        same(said(model), said(source))


# -- classes -------------------------------------------------------------------------------------------


def test_classes_move_with_their_names():
    source, model = create(num_classes=3), create(num_classes=4)
    names, before = ["bird", "cat", "dog", "pony"], ["cat", "dog", "horse"]
    lines = started(source, model, names, {"pony": "horse"}, before)
    # cat, dog and pony, then what is not known, and the null class
    same(said(model, (1, 2, 3, 0, 4)), said(source, (0, 1, 2, 3, 3)))
    assert lines[1] == (
        "Classes: 2 kept by name (cat, dog); 1 mapped (pony from horse); "
        "1 new, as the file's null class (bird)"
    )


def test_a_class_may_be_named_by_its_label():
    source, model = create(num_classes=3), create(num_classes=2)
    lines = started(source, model, ["cat", "1"], {"cat": 2})
    same(said(model, (0, 1)), said(source, (2, 1)))
    assert "1 class of the file left out" in lines[1]


def test_a_null_class_is_the_mean():
    source, model = create(has_null_class=False, class_dropout_prob=0.0), create()
    lines = started(source, model)
    table, before = (m.network.class_embedding.weight for m in (model, source))
    same(table[:3], before)
    same(table[3], before.mean(0))
    assert any("A null class is added" in line for line in lines)


def test_classes_come_and_go():
    source, model = create(num_classes=None), create(num_classes=3)
    started(source, model)
    same(said(model, (0, 1, 3)), said(source, (0, 1, 3)))
    source, model = create(num_classes=3), create(num_classes=None)
    started(source, model)
    same(said(model), said(source, (3, 3, 3)))


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ({"kat": 0}, "the data has no class kat; expected one such as cat"),
        ({"cat": "dig"}, "file has no class"),
    ],
)
def test_an_unknown_class_is_refused(classes, problem):
    with pytest.raises(InputError, match=problem):
        started(create(), create(), ["cat", "dog", "cow"], classes, ["cat", "dog", "cow"])


# -- what else changes ---------------------------------------------------------------------------------


def test_a_variance_begins_in_its_middle():
    source, model = create(3), create(3, learned_variance=True)
    started(source, model)
    y, v = model.split(said(model, channels=3))
    same(y, said(source, channels=3))
    assert not v.any()
    back = create(3)
    started(model, back)
    same(said(back, channels=3), said(source, channels=3))


def test_changes_of_augmentation_begin_as_none():
    source, model = create(), create(augment_channels=2)
    started(source, model)
    assert not model.network.augment_embedding.weight.any()
    same(said(model), said(source))


def test_what_must_be_learned_anew_is_said():
    lines = started(create(), create(parameterization="v", schedule="flow"))
    assert any("Prediction: eps there, v now" in line for line in lines)
    assert any("Schedule: DiscreteSchedule" in line and "RectifiedFlow() now" in line for line in lines)


def test_less_than_half_is_refused_with_the_list():
    model = create_ddpm(8, 1, 8, (1, 2), layers_per_block=1, norm_groups=2, attention_head_dim=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        InputError, match=r"(?s)has \d+% of this network.*fits: .*does not fit: .*\(file "
    ) as error:
        started(create(num_classes=None), model)
    assert "model.architecture" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
