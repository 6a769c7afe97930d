"""Which classes, and how many of each."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import InputError
from snowmelt.generation.labels import (
    balanced_counts,
    balanced_labels,
    choose_images,
    counts_to_balance,
    labels_of,
)
from snowmelt.images import save_png


def folder_with(root, **counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            save_png(torch.zeros(1, 8, 8), root / name / f"{index}.png")
    return root


@given(st.integers(1, 1000), st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True))
def test_balanced_counts_differ_by_one_at_most_and_the_first_have_more(number, classes):
    counts = balanced_counts(number, classes)
    assert list(counts) == classes
    assert sum(counts.values()) == number
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert max(counts.values()) - min(counts.values()) <= 1


@given(st.integers(1, 200), st.integers(1, 20))
def test_labels_come_class_by_class(number, classes):
    labels = balanced_labels(number, classes)
    assert labels == sorted(labels)
    assert labels == labels_of(balanced_counts(number, range(classes)))


def test_balancing_fills_each_class_up_to_the_largest(tmp_path):
    root = folder_with(tmp_path, cat=5, dog=2, owl=0)
    counts, names = counts_to_balance(root, 3)
    assert (counts, names) == ({1: 3, 2: 5}, ["cat", "dog", "owl"])


def test_names_that_the_model_knows_decide_the_labels(tmp_path):
    root = folder_with(tmp_path, dog=2, cat=5)
    counts, names = counts_to_balance(root, 3, ["dog", "cat", "owl"])
    assert (counts, names) == ({0: 3, 2: 5}, ["dog", "cat", "owl"])


@pytest.mark.parametrize(
    ("counts", "classes", "names", "message"),
    [
        ({"a": 2, "b": 1}, 3, None, r"has 2 classes \(a, b\), but the model has 3"),
        ({"a": 2, "b": 1}, 2, ["a", "c"], "has the classes b, which the model was not trained on"),
        ({"a": 2, "b": 2}, 2, None, "is balanced already: each class has 2 images"),
        ({}, 2, None, "holds no images in a known layout"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, counts, classes, names, message):
    with pytest.raises(InputError, match=message):
        counts_to_balance(folder_with(tmp_path, **counts), classes, names)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        counts_to_balance(tmp_path / "nowhere", 2)


def test_images_are_chosen_by_class_counts_or_by_their_seeds():
    labels, seeds, names = choose_images(3, 16, class_counts={2: 1, 0: 2}, class_names=["a", "b", "c"])
    assert (labels, names) == ([0, 0, 2], ["a", "b", "c"])
    assert len(set(seeds)) == 3
    assert choose_images(3, 16, seeds=[7, 5], class_selection=[2, 1])[:2] == ([1, 2], [7, 5])


def test_seeds_follow_from_the_base_seed_and_not_from_the_number():
    many = choose_images(None, 9, base_seed=3)[1]
    assert choose_images(None, 4, base_seed=3)[1] == many[:4]
    assert choose_images(None, 4, base_seed=4)[1] != many[:4]


def test_classes_that_the_training_data_did_not_have_get_a_name():
    labels, _, names = choose_images(4, 4, class_names=["cat", "dog"])
    assert (labels, names) == ([0, 1, 2, 3], ["cat", "dog", "class 2", "class 3"])


def test_an_unconditional_model_has_no_classes_whatever_its_data_had():
    assert choose_images(None, 2, class_names=["a", "b"], seeds=[1, 2]) == (None, [1, 2], None)


@pytest.mark.parametrize(
    ("num_classes", "choice", "message"),
    [
        (None, {"class_counts": {0: 1}}, "class_counts is given, but the model is unconditional"),
        (3, {"class_selection": [3]}, "class 3 is asked for, but the model has the classes 0..2"),
        (3, {"class_counts": {1: 4}, "exactly": True}, "num_samples is 5, .* make 4"),
        (3, {"class_counts": {1: 4}, "seeds": [1]}, "seeds has 1 entry for 4 images"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(num_classes, choice, message):
    with pytest.raises(InputError, match=message):
        choose_images(num_classes, 5, **choice)


def test_a_number_below_the_classes_is_said():
    with pytest.warns(UserWarning, match=r"num_samples \(2\) is below the number of classes \(3\)"):
        assert choose_images(3, 2)[0] == [0, 1]
