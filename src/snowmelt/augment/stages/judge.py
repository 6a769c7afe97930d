"""Judge: whether they help a classifier. Validation images choose. The test images are touched here, once."""

from __future__ import annotations

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.report import answer, write_report
from snowmelt.augment.stage import Stage
from snowmelt.evaluation.answers.usefulness import usefulness
from snowmelt.files import user_cache
from snowmelt.report import check_report_libraries
from snowmelt.text import counted

__all__ = ["JUDGE"]


def _run(job: AugmentJob, anew: bool) -> str:
    check_report_libraries("a report")
    selected = job.read("select")
    result = usefulness(
        job.generated,
        job.part("train"),
        job.part("test"),
        extractor=job.extractor,
        validation=job.part("val"),
        additions=selected["sets"],
        seeds=range(job.config.judge.seeds),
        steps=job.config.judge.steps,
        device=job.device,
        cache=user_cache(),
        show_progress=not job.quiet,
    )
    job.write("judge", {**result.to_dict(), "indices": selected["sets"][result.added]})
    write_report(job, result)
    return "\n".join(answer(result))


def _forecast(job: AugmentJob) -> str:
    return (
        f"every set of images, two classifiers, four recipes; the strongest without images and with them by "
        f"{counted(job.config.judge.seeds, 'seed')}"
    )


JUDGE = Stage(
    "judge",
    "whether they help a classifier",
    decided_by=lambda job: (job.config.judge.model_dump(), job.config.extractor),
    forecast=_forecast,
    run=_run,
    command=lambda job: (
        f"snowmelt evaluate {job.folder / 'generated'} --real {job.split_file}:train "
        f"--held-out {job.split_file}:test --useful"
    ),
)
