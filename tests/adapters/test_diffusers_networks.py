"""Networks of diffusers as they are, in our sampler, against diffusers' pipelines and schedulers."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)

from snowmelt import DiffusionSampler
from snowmelt.adapters import decoder, from_dit, from_unet2d, from_unet2d_condition
from snowmelt.core import DiscreteSchedule, make_betas

SMALL = {"sample_size": 8, "block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}
SCHEDULE = DiscreteSchedule(make_betas("linear"))
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def lively(network):
    """Make a fresh network say something that depends on all that it is told."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.07 * torch.randn_like(parameter)
    return network.eval()


def unet(**options):
    return lively(
        UNet2DModel(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
            **SMALL,
            **options,
        )
    )


def sampled(model, steps, x, labels=None, scale=0.0, threshold=None):
    sampler = DiffusionSampler(model, solver="ddim", steps=steps, grid="leading", threshold=threshold)
    *_, state = sampler.run(sampler.plan, x, labels, scale, padded=False)
    return state.x_t


@pytest.mark.parametrize("name", PREDICTIONS)
def test_unet2d_samples_as_its_pipeline(name):
    network = unet()
    scheduler = DDIMScheduler(prediction_type=PREDICTIONS[name])
    pipeline = DDIMPipeline(network, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        3,
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=10,
        use_clipped_model_output=True,
        output_type="np",
    ).images
    expected = 2 * torch.from_numpy(images).permute(0, 3, 1, 2) - 1
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    samples = sampled(from_unet2d(network, SCHEDULE, name), 10, x, threshold="clip")
    assert (samples.abs() < 0.99).float().mean() > 0.1  # clipping has not eaten what there is to compare
    torch.testing.assert_close(samples.clamp(-1, 1), expected, rtol=1e-4, atol=1e-4)


def test_unet2d_with_labels_and_a_null_class():
    network = unet(num_class_embeds=4)
    x, labels = torch.randn(2, 1, 8, 8), torch.tensor([2, 0])
    model = from_unet2d(network, SCHEDULE, null_class=3)
    assert (model.num_classes, model.null_class, model.image_shape) == (3, 3, (1, 8, 8))
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(5)
    expected = x
    with torch.no_grad():
        for time in scheduler.timesteps:
            conditional = network(expected, time, class_labels=labels).sample
            unconditional = network(expected, time, class_labels=torch.tensor([3, 3])).sample
            eps = unconditional + 2.0 * (conditional - unconditional)
            expected = scheduler.step(eps, time, expected).prev_sample
    torch.testing.assert_close(sampled(model, 5, x, labels, 2.0), expected, rtol=1e-4, atol=1e-4)

    model = from_unet2d(network, SCHEDULE)
    assert (model.num_classes, model.null_class) == (4, None)


@pytest.mark.parametrize("null_class", [0, 3, 5, -1])
def test_a_null_class_is_the_last_of_the_table(null_class):
    with pytest.raises(ValueError, match=f"the last of the network's 5 class embeddings, got {null_class}"):
        from_unet2d(unet(num_class_embeds=5), SCHEDULE, null_class=null_class)
    with pytest.raises(ValueError, match="the last of the network's None class embeddings"):
        from_unet2d(unet(), SCHEDULE, null_class=4)


def test_other_class_embeddings_than_a_table_are_refused():
    with pytest.raises(ValueError, match="classes are of type 'timestep'"):
        from_unet2d(unet(class_embed_type="timestep"), SCHEDULE)


@pytest.mark.parametrize("size", [None, (8,), (8, 8, 8)])
def test_a_network_without_a_size_needs_one(size):
    network = unet()
    network.register_to_config(sample_size=size)
    with pytest.raises(ValueError, match="which says nothing of the images: give image_size"):
        from_unet2d(network, SCHEDULE)
    assert from_unet2d(network, SCHEDULE, image_size=(8, 12)).image_shape == (1, 8, 12)


def test_fourier_times_need_a_time_above_0():
    network = unet(time_embedding_type="fourier")
    with pytest.raises(ValueError, match="reads log"):
        from_unet2d(network, SCHEDULE)
    model = from_unet2d(network, SCHEDULE, time="1000t")
    assert model(torch.randn(1, 1, 8, 8), SCHEDULE(SCHEDULE.t_min)).isfinite().all()


def test_the_network_keeps_its_dtype():
    network = unet().bfloat16()
    x = torch.randn(2, 1, 8, 8)
    model = from_unet2d(network, SCHEDULE)
    result = model(x, SCHEDULE(0.5))
    assert result.dtype == torch.float32
    full = from_unet2d(network.float(), SCHEDULE)(x, SCHEDULE(0.5))
    torch.testing.assert_close(result, full, rtol=0.1, atol=0.3)


def condition_unet(**options):
    return lively(
        UNet2DConditionModel(
            in_channels=2,
            out_channels=2,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=6,
            attention_head_dim=2,
            **SMALL,
            **options,
        )
    )


def guided_loop(network, x, conditional, unconditional, scale):
    """DDIM under classifier-free guidance, as a pipeline of diffusers has it."""
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(5)
    with torch.no_grad():
        for time in scheduler.timesteps:
            eps_c = network(x, time, **conditional).sample
            eps_u = network(x, time, **unconditional).sample
            x = scheduler.step(eps_u + scale * (eps_c - eps_u), time, x).prev_sample
    return x


def test_a_prompt_is_a_class():
    network = condition_unet()
    prompts = torch.randn(4, 5, 6)  # three and the null prompt
    model = from_unet2d_condition(network, SCHEDULE, last_is_null=True, encoder_hidden_states=prompts)
    assert (model.num_classes, model.null_class, model.image_shape) == (3, 3, (2, 8, 8))
    x, labels = torch.randn(2, 2, 8, 8), [2, 0]
    expected = guided_loop(
        network,
        x,
        {"encoder_hidden_states": prompts[labels]},
        {"encoder_hidden_states": prompts[[3, 3]]},
        4.0,
    )
    torch.testing.assert_close(sampled(model, 5, x, labels, 4.0), expected, rtol=1e-4, atol=1e-4)


def test_further_inputs_follow_the_label_or_are_the_same_for_all():
    network = condition_unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=7 + 6 * 4,
    )
    prompts, pooled, sizes = torch.randn(3, 5, 6), torch.randn(3, 7), torch.rand(1, 6)
    added = {"text_embeds": pooled, "time_ids": sizes}
    model = from_unet2d_condition(
        network, SCHEDULE, encoder_hidden_states=prompts, added_cond_kwargs=added, attention_mask=None
    )
    x, labels = torch.randn(2, 2, 8, 8), [2, 0]
    given = {
        "encoder_hidden_states": prompts[labels],
        "added_cond_kwargs": {"text_embeds": pooled[labels], "time_ids": sizes.repeat(2, 1)},
    }
    expected = guided_loop(network, x, given, given, 0.0)
    torch.testing.assert_close(sampled(model, 5, x, labels), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"or one for all; got \[2, 3\] rows"):
        from_unet2d_condition(network, SCHEDULE, encoder_hidden_states=prompts, attention_mask=prompts[:2])


def test_classes_of_a_conditioned_network_come_as_rows():
    network, prompts = condition_unet(num_class_embeds=3), torch.randn(2, 5, 6)
    with pytest.raises(ValueError, match="the network has class embeddings: give class_labels"):
        from_unet2d_condition(network, SCHEDULE, encoder_hidden_states=prompts)
    with pytest.raises(ValueError, match=r"class_labels must lie in 0\.\.2, .* got \[2, 3\]"):
        from_unet2d_condition(
            network, SCHEDULE, encoder_hidden_states=prompts, class_labels=torch.tensor([2, 3])
        )
    labels = torch.tensor([2, 0])
    model = from_unet2d_condition(network, SCHEDULE, encoder_hidden_states=prompts, class_labels=labels)
    x = torch.randn(2, 2, 8, 8)
    given = {"encoder_hidden_states": prompts, "class_labels": labels}
    expected = guided_loop(network, x, given, given, 0.0)
    torch.testing.assert_close(sampled(model, 5, x, [0, 1]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("learned_variance", [True, False])
def test_dit_and_its_autoencoder_sample_as_their_pipeline(learned_variance):
    transformer = lively(
        DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=4,
            out_channels=8 if learned_variance else 4,
            num_layers=1,
            sample_size=4,
            num_embeds_ada_norm=1000,  # the pipeline's null class is 1000, whatever the network's
            norm_num_groups=4,
        )
    )
    autoencoder = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, scaling_factor=0.5)
    pipeline = DiTPipeline(transformer, autoencoder, DDIMScheduler(clip_sample=False))
    pipeline.set_progress_bar_config(disable=True)
    labels = [7, 200]
    images = pipeline(
        labels,
        guidance_scale=2.0,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images
    expected = 2 * torch.from_numpy(images).permute(0, 3, 1, 2) - 1

    model = from_dit(transformer, SCHEDULE).with_decoder(decoder(autoencoder))
    assert (model.num_classes, model.null_class, model.image_shape) == (1000, 1000, (4, 4, 4))
    sampler = DiffusionSampler(model, solver="ddim", steps=5, grid="leading", threshold=None)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(5))
    *_, state = sampler.run(sampler.plan, x, labels, 2.0)
    samples = sampler.images(state.x_t)
    assert (samples.abs() < 0.99).float().mean() > 0.1
    torch.testing.assert_close(samples, expected, rtol=1e-4, atol=1e-4)
