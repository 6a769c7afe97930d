"""Blocks that compute twice: the same bits, and less memory."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from snowmelt.networks import DiT, UNet
from snowmelt.networks.checkpointing import checkpoint_activations

NETWORKS = {
    "unet": lambda dropout: UNet(
        8, 3, model_channels=8, layers_per_block=1, norm_groups=4, use_attention=8, dropout=dropout
    ),
    "dit": lambda dropout: DiT(8, 3, model_channels=8, depth=2, attention_head_dim=4, dropout=dropout),
}


def gradients(network, x_t):
    torch.manual_seed(1)
    y = network(x_t, torch.tensor([3.0, 800.0]))
    y.square().sum().backward()
    return y, {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_the_same_to_the_bit(name, dropout):
    network = NETWORKS[name](dropout)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    other, x_t = deepcopy(network), torch.randn(2, 3, 8, 8)
    checkpoint_activations(other)
    assert other.state_dict().keys() == network.state_dict().keys()
    (y, expected), (y_again, found) = gradients(network, x_t), gradients(deepcopy(other), x_t)
    assert torch.equal(y, y_again)
    for key, gradient in expected.items():
        assert torch.equal(gradient, found[key]), key


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_kept_for_the_backward_is_less(name):
    def kept(network) -> int:
        sizes = {}
        own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

        def pack(x):
            storage = x.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            y = network(torch.randn(2, 3, 8, 8), torch.zeros(2))
        return sum(sizes.values()) * (y is not None)

    network = NETWORKS[name](0.1)
    before = kept(network)
    checkpoint_activations(network)
    assert kept(network) < 0.6 * before
