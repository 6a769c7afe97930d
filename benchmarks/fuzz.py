"""Damaged input, in numbers: ``python benchmarks/fuzz.py configs|checkpoints|plans 1000``.

Each case changes a valid file at random, gives it to the command that reads it, in this process, and looks
for what no input may cause:

- an exception that is not an error of the input, which the command shows as a traceback;
- a message of more than 4,000 characters, or more seconds than the limit;
- a damaged file that is read as if it were whole, or files that a refused command leaves behind.

Case i depends on i alone: ``--first 17`` with the count 1 shows case 17 again, with its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import yaml
from typer.main import get_command
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_checkpoints

from snowmelt.cli import app
from snowmelt.config.schema import known_keys
from snowmelt.plans import Method, Plan

__all__ = ["KINDS", "Finding", "fuzz"]

COMMAND = get_command(app)
LIMIT = 10.0  # seconds a case
LONGEST = 4000  # characters of a message
GIBIBYTES = 6  # that the process may take beyond what it holds

VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 7, 16, 10**6, 10**9, 2**31, 2**63, 2**64, 10**400, -(10**400)),
    *(0.5, -0.5, 1.5, 1e-300, 1e308, float("nan"), float("inf"), "", " ", "x", "1", "none", "auto", "all"),
    *("é☃", "\0", "a" * 10_000, "../x", "x.json", "nowhere.pth", [], [[]], {}, [None], [1], [1, 2], ["x"]),
    *([True, False], [10**9] * 3, [1] * 1000, list(range(100)), {"x": 1}, {"type": "ddim"}, {1: 2}, {"": {}}),
    *({"3": 5}, {0: 10**9}, [{"a": [{}]}], "${oc.env:HOME}", "${experiment}", "${nothing}", "???", "digits"),
    *("${data}", "${.x}", "${..}", "${oc.decode:'[1]'}", "${", "${a", "$", "1e", "._", "0x", "2024-13-45"),
]
NUMBERS = [*range(1, 65), 100, 255, 1000, 10**4, 10**5, 10**6, 10**7, 0.1, 0.3, 0.9, 0.999, 1e-12, 1e12]


@dataclass(frozen=True)
class Finding:
    """What one case shows: its number, what was changed, and what went wrong."""

    case: int
    change: str
    problem: str
    details: str = ""


class _TimeUp(BaseException):
    pass


# -- the commands ------------------------------------------------------------------------------------------


def command(*arguments: str) -> tuple[str, str]:
    """Run a command; return what is wrong with how it ended (or nothing), and what it printed or raised."""
    with patch("typer.testing._get_command", lambda app: COMMAND):  # made once, which takes long
        result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        error = result.exception
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "snowmelt" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        return f"{type(error).__name__} in {place}", "".join(traceback.format_exception(error))[-6000:]
    if result.exit_code not in (0, 2):
        return f"exit code {result.exit_code}", result.output
    if len(result.output) > LONGEST:
        return f"a message of {len(result.output):,} characters", result.output[:1000]
    if result.exit_code == 2 and not result.output.strip():
        return "no message", ""
    return "", f"exit {result.exit_code}\n{result.output}"


@contextmanager
def before_any_work() -> Iterator[None]:
    """Let the commands check everything, and leave the work itself out."""
    with (
        patch("snowmelt.training.run.TrainingRun.run", lambda self: None),
        patch("snowmelt.generation.Job.run", lambda self: None),
    ):
        yield


def prepare(folder: Path) -> None:
    """Make the valid files: a checkpoint in each format, pictures, configurations, plans."""
    from PIL import Image

    fuzz_checkpoints.prepare(folder)
    for label, shade in (("a", 0), ("b", 255)):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (8, 8), shade).save(folder / "images" / label / f"{number}.png")
    for name, words in (("ddim", "ddim:3"), ("ancestral", "ddpm:3"), ("corrected", "unipc:4")):
        schedule = fuzz_checkpoints.model().schedule
        (folder / f"{name}.json").write_text(Method.parse(words).plan(schedule).to_json())


# -- configurations ----------------------------------------------------------------------------------------

TRAIN = {
    "experiment": "fuzz",
    "model": {"architecture": fuzz_checkpoints.ARCHITECTURE, "diffusion": {"num_timesteps": 20}},
    "data": {"paths": {"train": "images"}, "loading": {"batch_size": 2}},
    "training": {"epochs": 1, "scheduler": {"type": "cosine"}, "visualization": {"num_samples": 1}},
}
GENERATE = {
    "mode": "generate",
    "generation": {
        "checkpoint": "whole.pth",
        "sampling": {"num_samples": 2, "sampler": {"type": "ddim", "steps": 2}},
        "output": {"save_grid": True},
    },
}
# What YAML can say beyond values
SNIPPETS = [
    *(
        "&a ",
        "*a",
        "&a [*a]",
        "!!float x",
        "!!int ''",
        "!!timestamp x",
        "!!binary x",
        "!!python/name:os.x ",
        "<<: ",
    ),
    *(
        "? ",
        "- ",
        "[" * 3000,
        "{a: " * 500,
        "\t",
        "\x85",
        "%YAML 9.9\n",
        "---\n",
        "...\n",
        "|\n",
        "'",
        '"',
        ": ",
    ),
    *(
        "${training}",
        "${experiment}${experiment}",
        "${oc.env:PATH}",
        "${oc.create:{a: 1}}",
        "${",
        "}",
        "1_",
        ".e",
    ),
    *(
        "&b [1,2,3,4,5,6,7,8,9]",
        "*b",
        "!!set {a}",
        "!!omap [a: 1]",
        "!x ",
        "!!null x",
        "!!bool x",
        "\\",
        "#",
        "\0",
    ),
]
BOMB = "x0: &x0 [1, 1]\n" + "".join(f"x{i}: &x{i} [*x{i - 1}, *x{i - 1}]\n" for i in range(1, 40))


def configuration(rng: random.Random, folder: Path) -> tuple[str, str, str]:
    """Change values, keys or the text of a configuration, and run it up to the work."""
    tree = json.loads(json.dumps(rng.choice((TRAIN, GENERATE))))
    changes, overrides = [], []
    keys = [key for key, _ in known_keys()]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        key, value = rng.choice(keys), rng.choice(VALUES if rng.random() < 0.5 else NUMBERS)
        if rng.random() < 0.2:
            key = rng.choice((f"{key}.{rng.choice(('x', 'type', '0', ''))}", key.rpartition(".")[2], "7"))
        changes.append(f"{key} = {str(value)[:60]}")
        if rng.random() < 0.3:
            text = rng.choice(SNIPPETS) if rng.random() < 0.2 else yaml.safe_dump(value, width=10**6)
            overrides.append(f"{key}={text.removesuffix(chr(10)).removesuffix('...').strip()}")
        else:
            _set(tree, key.split("."), value)
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
    for _ in range(0 if changes and rng.random() < 0.7 else rng.choice((1, 1, 2, 4))):
        text, change = _changed_text(rng, text)
        changes.append(change)
    path = folder / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with before_any_work():
        problem, details = command("run", str(path), *overrides)
    return "; ".join(changes), problem, details


def _set(tree: dict[Any, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        inside = tree.get(name)
        tree[name] = inside if isinstance(inside, dict) else {}
        tree = tree[name]
    tree[last] = value


def _changed_text(rng: random.Random, text: str) -> tuple[str, str]:
    """Return the text with a change, and what the change is."""
    text = text or "a: 1\n"
    place = rng.randrange(len(text))
    values = [match.end() for match in re.finditer(r"(: |- )(?=\S)", text)] or [0]
    match rng.randrange(7):
        case 0:
            place, snippet = rng.choice(values), rng.choice(SNIPPETS)
            return text[:place] + snippet + text[place:], f"{snippet[:20]!r} before a value"
        case 1:
            place, snippet = rng.choice(values), rng.choice(SNIPPETS)
            return text[:place] + snippet + "\n" + text[
                text.find("\n", place) + 1 :
            ], f"{snippet[:20]!r} as a value"
        case 2:
            lines = text.splitlines(keepends=True)
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            return "".join(lines), "a line twice"
        case 3:
            end = place + rng.choice((1, 1, 5, 40))
            return text[:place] + text[end:], f"characters {place}-{end} removed"
        case 4:
            return text[:place] + rng.choice(SNIPPETS) + text[place:], "a snippet anywhere"
        case 5:
            return BOMB + text if rng.random() < 0.1 else text[:place], "a bomb, or cut"
        case _:
            letter = chr(
                rng.choice((0, 9, 10, 32, 0x7F, 0x85, 0x2028, 0xD800, 0xFEFF, 0x1F600, *range(33, 127)))
            )
            return text[:place] + letter + text[place + 1 :], f"{letter!r} at {place}"


# -- plans -------------------------------------------------------------------------------------------------


def plan(rng: random.Random, folder: Path) -> tuple[str, str, str]:
    """Change values or the text of a plan, sample with it, and compare what is read with its text."""
    text = rng.choice(sorted(folder.glob("*.json"))).read_text()
    changes = []
    if rng.random() < 0.8:
        tree = json.loads(text)
        for _ in range(rng.choice((1, 1, 2))):
            holder, key = rng.choice(list(fuzz_checkpoints.places(tree)))
            changes.append(_change_plan(rng, holder, key))
        text = json.dumps(tree)
    else:
        text, change = _changed_text(rng, text)
        changes.append(change)
    path = folder / "fuzz" / "plan.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    out = folder / "fuzz" / "samples.png"
    problem, details = command("sample", "whole.pth", "--method", str(path), "--num", "1", "--out", str(out))
    if not problem and details.startswith("exit 2") and out.exists():
        problem = "a file left behind"
    if not problem and details.startswith("exit 0"):
        stated = json.loads(text)
        read = json.loads(Plan.from_json(text).to_json())
        if any(not _same(stated.get(key), value) for key, value in read.items()):
            problem = "read as another plan"
    out.unlink(missing_ok=True)
    return "; ".join(changes), problem, details


def _change_plan(rng: random.Random, holder: Any, key: Any) -> str:
    action = rng.randrange(6)
    if action == 0 and isinstance(holder, dict):
        del holder[key]
        return f"{key} removed"
    if action == 1 and isinstance(holder, list):
        times = rng.choice((2, 3, 10, 300_000)) if len(json.dumps(holder[key])) > 50 else 2
        holder[key : key + 1] = [holder[key]] * times
        return f"item {key} {times} times"
    holder[key] = rng.choice(VALUES) if action < 5 else _nested(rng.choice((3, 3000)))
    return f"{key} = {str(holder[key])[:60]}"


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth if depth < 500 else 500):
        value = [value]
    return value


def _same(stated: Any, read: Any) -> bool:
    if isinstance(stated, dict) and isinstance(read, dict):
        return all(_same(stated.get(key), value) for key, value in read.items())
    if isinstance(stated, list) and isinstance(read, list):
        return len(stated) == len(read) and all(map(_same, stated, read))
    return type(stated) in (type(read), int) and not isinstance(stated, bool) and stated == read


# -- running -----------------------------------------------------------------------------------------------


def checkpoint(rng: random.Random, folder: Path) -> tuple[str, str, str]:
    """Damage a checkpoint, and generate from it or resume from it."""
    return fuzz_checkpoints.damaged(rng, folder, VALUES, command, before_any_work)


KINDS: dict[str, Callable[[random.Random, Path], tuple[str, str, str]]] = {
    "configs": configuration,
    "checkpoints": checkpoint,
    "plans": plan,
}


def fuzz(kind: str, count: int, first: int = 0, limit: float = LIMIT) -> Iterator[Finding | None]:
    """Yield what each case shows, None for nothing. The current folder is a temporary one meanwhile."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name).resolve()
        os.chdir(folder)
        try:
            prepare(folder)
            for case in range(first, first + count):
                yield _one(kind, case, folder, limit)
        finally:
            os.chdir(home)


def _one(kind: str, case: int, folder: Path, limit: float) -> Finding | None:
    def stop(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 3 * limit)
    start = time.perf_counter()
    try:
        change, problem, details = KINDS[kind](random.Random(f"{kind} {case}"), folder)
    except _TimeUp:
        change, problem, details = "", "no end", traceback.format_exc()[-4000:]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if (seconds := time.perf_counter() - start) > limit and not problem:
        problem = f"slow: {seconds:.0f} s"
    return Finding(case, change, problem, details) if problem else None


def main() -> None:
    """Run the cases and list what they show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one case")
    options = parser.parse_args()
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + GIBIBYTES * 2**30, resource.RLIM_INFINITY))
    start, done, seen, examples = time.perf_counter(), 0, Counter[str](), {}
    with suppress(KeyboardInterrupt):  # shows what was found until then
        for finding in fuzz(options.kind, options.count, options.first, options.limit):
            done += 1
            if finding is not None:
                seen[finding.problem] += 1
                examples.setdefault(finding.problem, finding)
    for problem, times in seen.most_common():
        print(
            f"{times:6}  {problem}; first in case {examples[problem].case}: {examples[problem].change[:200]}"
        )
        if options.count == 1:
            print(examples[problem].details)
    minutes = (time.perf_counter() - start) / 60
    print(f"{done:,} {options.kind} in {minutes:.1f} minutes: {sum(seen.values())} findings")
    sys.exit(bool(seen))


if __name__ == "__main__":
    main()
