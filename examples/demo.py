"""``make demo``: train on real handwritten digits, generate a hundred in a second process, judge them.

Training, generation and evaluation are three runs of the command line, as a user would start them. Generation
never loads training code. Evaluation compares the hundred digits with held-out ones and writes a report. Then
two figures decide whether the digits are good:

- A support-vector classifier, trained on the real digits, recognises at least 99 of the hundred.
- The median distance to the nearest training image is at least 0.9 of that of held-out digits. Copies would
  be much nearer.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from snowmelt.data import load_digits_split

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "diffusion"
OUTPUTS = Path("outputs") / "digits"  # below the root, where the commands run
PICTURES, EVALUATION = ROOT / OUTPUTS / "generated", ROOT / OUTPUTS / "evaluation"


def snowmelt(*arguments: str) -> float:
    """Run the command line in a process of its own and return the seconds it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "snowmelt", *arguments], cwd=ROOT, check=True)
    return time.perf_counter() - start


def generated() -> tuple[np.ndarray, np.ndarray]:
    """Return the generated images (N, 64) in [-1, 1] and the classes that were asked for."""
    with (PICTURES / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    images = np.stack([np.asarray(Image.open(PICTURES / row["file"])).ravel() for row in rows])
    return images / 127.5 - 1, np.array([int(row["class"]) for row in rows])


def main() -> int:
    """Train, generate, judge; return 0 if the digits are good."""
    training = snowmelt("train", str(CONFIGS / "digits.yaml"), "--overwrite")
    generation = snowmelt("generate", str(CONFIGS / "digits_generate.yaml"), "--overwrite")
    beside = ("--real", "digits:test", "--train", "digits:train", "--held-out", "digits:test")
    options = ("--metrics", "c2st,kid,precision,recall", "--no-classes", "--quiet")
    places = ("--out", str(OUTPUTS / "evaluation"), "--cache", str(OUTPUTS / "evaluation" / "cache"))
    evaluation = snowmelt("evaluate", str(OUTPUTS / "generated"), *beside, *options, *places)

    images, asked = generated()
    train_images, train_labels = load_digits_split("train")
    held_out_images, held_out_labels = load_digits_split("test")
    real = np.concatenate([train_images, held_out_images])
    judge = SVC(gamma="scale", C=10.0).fit(real, np.concatenate([train_labels, held_out_labels]))
    recognised = int((judge.predict(images) == asked).sum())

    neighbours = NearestNeighbors(n_neighbors=1).fit(train_images)
    distance, held_out_distance = (
        float(np.median(neighbours.kneighbors(x)[0])) for x in (images, held_out_images)
    )
    novelty = distance / held_out_distance
    good = recognised >= 0.99 * len(images) and novelty >= 0.9

    print(f"""
Training took {training:.0f} s, generation {generation:.0f} s, evaluation {evaluation:.0f} s (with start-up).
Recognised as the digit asked for:           {recognised} of {len(images)} (wanted: 99 of 100)
Median distance to the nearest training image: {distance:.2f}, that is {novelty:.2f} of the
                                             held-out digits' {held_out_distance:.2f} (wanted: at least 0.90)
{"The digits are good." if good else "The digits are NOT good enough."}
Look at them: {PICTURES / "generated_samples.png"}
The report:   {EVALUATION / "report.html"}""")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
