"""The weights of one model as the start of another, which may differ in classes, channels, size and more.

What has the same name and shape is taken as it is. A few layers have a rule, and each rule keeps the function
where both models say the same thing:

- a class is a row of the class embedding, which moves with its name;
- gray images are colour images of three equal channels: the first layer's kernels are divided among the
  three, or added up, and the last layer's are repeated, or averaged;
- a condition that is new adds zero.

Everything else starts as in a new network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.models.checkpoint import Checkpoint
from snowmelt.models.model import DiffusionModel
from snowmelt.models.spec import ModelSpec
from snowmelt.models.transfer_classes import Classes
from snowmelt.models.weights import unwrapped
from snowmelt.text import some

__all__ = ["averaged_weights", "transfer"]

LEAST = 0.5  # of a network's weights: a start from less is none
MOST = 5  # names in a message
_CLASSES = "network.class_embedding.weight"
_CHANGES = "network.augment_embedding.weight"
_TIME = "network.time_embedding.linear_2.bias"  # what both embeddings are added to
_FIRST = ("network.conv_in.weight", "network.patch_in.weight")
_LAST = tuple(f"network.{layer}.{kind}" for layer in ("conv_out", "patch_out") for kind in ("weight", "bias"))


def averaged_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights that a checkpoint is sampled with: the averaged ones, where it has some."""
    shadow = checkpoint.ema["shadow"] if checkpoint.ema is not None else {}
    return {**checkpoint.weights, **unwrapped(shadow)}


def transfer(
    checkpoint: Checkpoint,
    model: DiffusionModel,
    class_names: Sequence[str] = (),
    classes: Mapping[str, str | int] | None = None,
) -> list[str]:
    """Load what fits of a checkpoint into a model, adapted, and return a line for each thing that was done.

    Args:
        checkpoint: of any model; its averaged weights are taken, where it has some.
        model: built by `create_model` or from a spec; keeps its device.
        class_names: of the model's classes; a class without a name is called by its label.
        classes: for a class of the model, that of the checkpoint which it starts as, by name or label. Others
            start as the one of their name or, where there is none, as the null class.

    Raises:
        InputError: less than half of the model's weights come from the checkpoint, or a class is unknown.

    >>> from snowmelt.models import create_ddpm
    >>> gray = create_ddpm(8, 1, 32, (1,), num_classes=2)
    >>> colour = create_ddpm(8, 3, 32, (1,), num_classes=2)
    >>> for line in transfer(Checkpoint.of(gray), colour, ["cat", "dog"], {"cat": 1}):
    ...     print(line)
    Starts from the checkpoint in memory: 97 of 97 tensors fit
    Classes: 1 mapped (cat from 1); 1 new, as the file's null class (dog); 1 class of the file left out
    Channels: 1 there, 3 now: gray images in colour give the same result
    """
    there, here = checkpoint.spec or model.spec, model.spec
    if there is None or here is None:
        raise InputError("only models that snowmelt builds can start from others")
    given, own = averaged_weights(checkpoint), model.state_dict()
    names = Classes.matched(
        _named(class_names, model.num_classes),
        _named(checkpoint.class_names, checkpoint.num_classes),
        classes or {},
        null_there=there.has_null_class and checkpoint.num_classes is not None,
        null=model.null_class is not None,
    )
    taken, new = {}, []
    for name, fresh in own.items():
        value = _adapted(name, fresh, given, there, here, names)
        if value is None or value.shape != fresh.shape:
            new.append(name)
        else:
            taken[name] = value.to(fresh)
    _check_share(checkpoint, own, list(taken))
    model.load_state_dict({**own, **taken})
    source = checkpoint.source or "the checkpoint in memory"
    averaged = " (its averaged weights)" if checkpoint.ema is not None else ""
    fit = f"Starts from {source}{averaged}: {len(taken)} of {len(own)} tensors fit"
    lines = [fit + (f"; new are {some(new, MOST)}" if new else "")]
    return [*lines, *names.lines(), *_changes(there, here)]


def _adapted(
    name: str, fresh: Tensor, given: Mapping[str, Tensor], there: ModelSpec, here: ModelSpec, classes: Classes
) -> Tensor | None:
    """Return what a tensor of the model starts as; None or another shape where nothing of the file fits."""
    value = given.get(name)
    if name == _CLASSES:
        # A network without classes adds nothing
        return torch.zeros_like(fresh) if value is None else classes.rows(value)
    if name == _CHANGES and (value is None or value.shape != fresh.shape):
        return torch.zeros_like(fresh)
    if value is None:
        return None
    if name == _TIME and _CLASSES in given and not classes.names:
        return value + classes.unknown(given[_CLASSES])
    if name in _FIRST:
        return _of_channels(value, 1, there.in_channels, here.in_channels, shared=True)
    if name in _LAST:
        parts = 1 + there.learned_variance, 1 + here.learned_variance
        return _outputs(value, parts, there.in_channels, here.in_channels)
    return value


def _outputs(value: Tensor, parts: tuple[int, int], there: int, here: int) -> Tensor:
    """Return the last layer's tensor for other channels, with or without those of the variance."""
    halves = [_of_channels(half, 0, there, here, shared=False) for half in value.chunk(parts[0])]
    # v = 0 is halfway between both bounds of the variance
    halves = halves[: parts[1]] + [torch.zeros_like(halves[0])] * (parts[1] - len(halves))
    return torch.cat(halves)


def _of_channels(value: Tensor, axis: int, there: int, here: int, *, shared: bool) -> Tensor:
    """Return a tensor whose axis goes over channels, and squares of pixels within each, for other channels.

    Args:
        value: of a layer.
        axis: the channels' one.
        there: channels before.
        here: channels now.
        shared: whether the layer adds its channels up.
    """
    if there == here or value.shape[axis] % there:
        return value
    channels = value.unflatten(axis, (there, -1))
    if there == 1:
        spread = channels.repeat_interleave(here, axis) / (here if shared else 1)
    elif here == 1:
        spread = channels.sum(axis, keepdim=True) / (1 if shared else there)
    else:  # opacity, for one, is a channel more or less
        more = [0, 0] * (value.ndim - axis) + [0, max(0, here - there)]
        spread = torch.nn.functional.pad(channels.narrow(axis, 0, min(there, here)), more)
    flat: Tensor = spread.flatten(axis, axis + 1)
    return flat


def _check_share(checkpoint: Checkpoint, own: Mapping[str, Tensor], taken: Sequence[str]) -> None:
    """Refuse a checkpoint that has less than half of a network's weights."""
    labels = (_CLASSES, _CHANGES)  # rules of their own make these
    sizes = {name: value.numel() for name, value in own.items() if name not in labels}
    fitting = [name for name in sizes if name in taken]
    share = sum(sizes[name] for name in fitting) / sum(sizes.values())
    if share >= LEAST:
        return
    there = averaged_weights(checkpoint)
    shapes = {name: tuple(there[name].shape) if name in there else "nothing" for name in sizes}
    other = [
        f"{name} (file {shape}, model {tuple(own[name].shape)})"
        for name, shape in shapes.items()
        if name not in taken
    ]
    raise InputError(
        f"{checkpoint.source or 'the checkpoint'} has {share:.0%} of this network's weights, and a start "
        f"needs {LEAST:.0%}. Leave the keys of model.architecture out, so that they are those of the file, "
        f"or take another file:\n  fits: {some(fitting, MOST) or 'nothing'}\n"
        f"  does not fit: {some(other, MOST)}"
    )


def _changes(there: ModelSpec, here: ModelSpec) -> list[str]:
    """Return a line for each change of what the network works on and what it says."""
    lines = []
    if there.image_size != here.image_size:
        how = "a convolution takes any size" if here.network == "unet" else "positions follow from the size"
        lines.append(f"Image size: {_size(there)} there, {_size(here)} now: {how}")
    pair = there.in_channels, here.in_channels
    if pair[0] != pair[1]:
        how = "gray images in colour give the same result" if 1 in pair else "what is new starts at 0"
        lines.append(f"Channels: {pair[0]} there, {pair[1]} now: {how}")
    if there.learned_variance != here.learned_variance:
        how = "starts in the middle of its range" if here.learned_variance else "is left out"
        lines.append(f"Variance: learned {'now' if here.learned_variance else 'there'} only, and {how}")
    if there.parameterization != here.parameterization:
        lines.append(
            f"Prediction: {there.parameterization} there, {here.parameterization} now: the network must "
            "learn anew what to say; a short run is better off with that of the file"
        )
    if (there.schedule, there.schedule_options) != (here.schedule, here.schedule_options):
        lines.append(
            f"Schedule: {there.make_schedule()!r} there, {here.make_schedule()!r} now: the network must "
            "learn anew how much noise each time means"
        )
    return lines


def _named(names: Sequence[str] | None, count: int | None) -> list[str]:
    """Return the names of so many classes; one without a name is called by its label."""
    given = list(names or ())
    return given + [str(label) for label in range(len(given), count or 0)] if count else []


def _size(spec: ModelSpec) -> str:
    return " x ".join(map(str, spec.image_size))
