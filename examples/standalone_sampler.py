"""A sampler on its own: a model, a device, and nothing else.

The model here is untrained, so its samples are noise; `inference_from_checkpoint.py` uses a trained one.
"""

from __future__ import annotations

from snowmelt import DiffusionSampler, create_ddpm


def main() -> None:
    """Sample with and without classes, repeat a seed, and print the plan."""
    model = create_ddpm(image_size=8, in_channels=1, model_channels=32, num_classes=3)
    sampler = DiffusionSampler(model, device="cpu", method="ddim:10")

    samples = sampler.sample(num_samples=4)
    print("without classes:", tuple(samples.shape), f"in [{samples.min():.2f}, {samples.max():.2f}]")

    samples, class_labels = sampler.sample_by_class(samples_per_class=2, num_classes=3, guidance_scale=3.0)
    print("by class:", class_labels)

    # The same seed gives the same image in every batch
    one = sampler.sample(num_samples=1, class_labels=[2], seeds=[42])
    many = sampler.sample(num_samples=3, class_labels=[0, 2, 1], seeds=[7, 42, 8])
    print("seed 42 twice:", bool((one[0] == many[1]).all()))

    # The sampler runs a table of numbers
    print(sampler.plan)


if __name__ == "__main__":
    main()
