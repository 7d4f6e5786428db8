"""From plans to results: each video's tasks one after another, many videos at once, on whatever executor there is.

When a task is done the video's next one is submitted; one that failed is submitted again, as often as `retries` says,
with more memory or with options that take less where memory was short. Where and when it runs, and what becomes of it
when a machine goes, is the executor's.
"""

from dataclasses import dataclass, replace

from pipeline import status
from pipeline.plan import VideoPlan, left
from pipeline.resources import Need


@dataclass(frozen=True)
class Task:
    """Some stages of a video, `step`-th of its tasks. tries: earlier ones that failed."""

    plan: VideoPlan
    names: tuple
    need: Need
    step: int
    frugal: bool = False
    tries: int = 0


def next_task(plan, after=-1):
    """The first task after step `after` that has anything left to do, or None."""
    todo = set(left(plan))
    for step, (names, need) in enumerate(plan.tasks()):
        if step > after and todo & set(names):
            return Task(plan, names, need, step)
    return None


def once_more(task, outcome, retries):
    """The task to submit in place of one that failed, or None: it would fail again, or did too often."""
    if outcome.kind == "input" or task.tries >= retries:
        return None
    if outcome.kind == "memory":
        return replace(task, tries=task.tries + 1, need=task.need.more(), frugal=True)
    return replace(task, tries=task.tries + 1)


def carry_out_all(plans, executor, retries, settled):
    """Do all that is left of the plans. settled(name, reason) is called for each: reason None, or why it failed."""
    waiting = 0
    for plan in plans:
        task = next_task(plan)
        if task is None:
            settled(plan.name, None)
        else:
            status.begin(plan.folder, name=plan.name, source=plan.video.source, state="waiting", reason=None)
            executor.submit(task)
            waiting += 1
    while waiting:
        for task, outcome in executor.finished():
            ok = outcome.kind == "ok"
            following = next_task(task.plan, task.step) if ok else once_more(task, outcome, retries)
            if following is not None:
                executor.submit(following)
                continue
            waiting -= 1
            if not ok:
                status.begin(task.plan.folder, state="failed", reason=outcome.reason, since=None)
            settled(task.plan.name, outcome.reason if not ok else None)
