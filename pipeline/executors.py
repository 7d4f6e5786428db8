"""Where tasks run: in this process, on Ray, or by submitit on SLURM.

An executor has submit(task); finished(), which gives the (task, Outcome) that have ended, and waits a while where none
has; and close(). `goes_on` says whether its tasks outlive this process.
"""

import math
import os
import shutil
import socket
import subprocess
import time
from collections import deque
from pathlib import Path

from pipeline import status
from pipeline.plan import ROOT
from pipeline.tasks import Outcome, carry_out
from preprocess.workers import available_memory, usable_cores
from util import UserError

RAY = (2, 40)  # the oldest that is known to work
PATIENCE = 5  # seconds for an address to answer
POLL = {"slurm": 5.0, "local": 0.2}  # seconds
ACTIVE = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "RESIZING", "SUSPENDED")
GIB = 2**30


class InProcess:
    """One task after the other, here; those of a video that was begun go first."""

    goes_on = False

    def __init__(self):
        self.queue = deque()

    def submit(self, task):
        if task.step or task.tries:
            self.queue.appendleft(task)
        else:
            self.queue.append(task)

    def finished(self):
        task = self.queue.popleft()
        yield task, carry_out(task.plan, task.names, frugal=task.frugal)

    def close(self):
        pass


# Ray


class OnRay:
    """On a Ray cluster: address 'local' (one of its own on this machine), 'auto' (the one this machine is part of), or
    HOST:PORT. What is lost with a worker or a machine Ray starts again, `retries` times."""

    goes_on = False

    def __init__(self, address, retries):
        self.ray = import_ray()
        connect(self.ray, address)
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        self.largest = [max(node.get(name, 0) for node in nodes) for name in ("CPU", "memory", "GPU")]
        self.remote, self.retries, self.tasks = self.ray.remote(carry_out), retries, {}

    def submit(self, task):
        need = task.need.within(*map(int, self.largest))
        remote = self.remote.options(num_cpus=need.cores, memory=need.memory, num_gpus=need.gpus, name=task.plan.name,
                                     max_retries=self.retries)
        self.tasks[remote.remote(task.plan, task.names, need.cores, task.frugal)] = task

    def finished(self):
        ready, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=5)
        for handle in ready:
            try:
                outcome = self.ray.get(handle)
            except self.ray.exceptions.OutOfMemoryError:
                outcome = Outcome("memory", "Ray ended it for want of memory")
            except self.ray.exceptions.RayError as error:
                outcome = Outcome("crash", f"lost on Ray ({type(error).__name__}: {first_line(error)})")
            yield self.tasks.pop(handle), outcome

    def close(self):
        self.ray.shutdown()


def import_ray():
    """The module. UserError: it is not there, or too old."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--ray needs the extra `ray` ({error}): pip install -r requirements-ray.txt") from None
    if tuple(map(int, ray.__version__.split(".")[:2])) < RAY:
        expected = ".".join(map(str, RAY))
        raise UserError(f"--ray: this is Ray {ray.__version__}, expected {expected} or newer: pip install -r "
                        "requirements-ray.txt")
    return ray


def connect(ray, address):
    """UserError when nothing answers there, or it is another version."""
    if address not in ("local", "auto"):
        check_reachable(address)
    own = {"num_cpus": usable_cores(), "include_dashboard": False} if address == "local" else {}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # its workers'
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "; start one by `ray start --head`, or give --ray local" if address == "auto" else ""
        raise UserError(f"--ray {address}: {first_line(error)}{hint}") from None


def check_reachable(address):
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536) or "/" in host:
        raise UserError(f"--ray {address}: expected local, auto or HOST:PORT (`ray start --head` says it)")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise UserError(f"--ray {address}: not reachable ({error.strerror or error})") from None


def first_line(error):
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())[:200]


# submitit


class Resubmitted:
    """carry_out as submitit asks for it: at a time limit, or when preempted, it is queued again as it was."""

    def __call__(self, *arguments):
        return carry_out(*arguments)

    def checkpoint(self, *arguments):
        return import_submitit().helpers.DelayedSubmission(self, *arguments)


def import_submitit():
    """The module. UserError: it is not there."""
    try:
        import submitit
    except ImportError as error:
        raise UserError(f"--slurm needs the extra `slurm` ({error}): pip install -r requirements-slurm.txt") from None
    return submitit


def check_slurm(partition):
    """Cores and bytes of the largest machine of the partition, or of any. UserError: no SLURM, or no such partition."""
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        raise UserError("--slurm: no sbatch and sinfo here: expected a machine that submits to SLURM (--slurm local "
                        "tries the same without one)")
    listed = subprocess.run(["sinfo", "-h", "-N", "-o", "%R %c %m"], capture_output=True, text=True)
    if listed.returncode:
        raise UserError(f"--slurm: {first_line(listed.stderr)}")
    accounting = subprocess.run(["sacct", "-n", "-X"], capture_output=True, text=True)
    if accounting.returncode:
        print(f"warning: jobs that SLURM ends cannot be told from slow ones: sacct: {first_line(accounting.stderr)}")
    nodes = [line.split() for line in listed.stdout.splitlines()]  # partition, cores, MiB
    partitions = sorted({name for name, _, _ in nodes})
    if partition is not None and partition not in partitions:
        raise UserError(f"--partition {partition}: unknown here; expected one of {', '.join(partitions)}")
    sizes = [(int(cores.rstrip("+")), int(memory.rstrip("+")) * 2**20) for name, cores, memory in nodes
             if partition in (None, name)]
    return tuple(map(max, zip(*sizes)))


class BySubmitit:
    """On SLURM, as arrays of jobs that ask for the same; cluster 'local': the same way, as processes here, to try it.

    Jobs go on when this process ends: the same command finds those that are still there (OUT/.jobs/NAME.json).
    """

    def __init__(self, out, cluster, partition=None, minutes=240, gpus=0):
        self.submitit = import_submitit()
        self.largest = check_slurm(partition) if cluster == "slurm" else (usable_cores(), available_memory())
        self.folder, self.cluster, self.goes_on = Path(out).resolve() / ".jobs", cluster, cluster == "slurm"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.executor = self.submitit.AutoExecutor(folder=self.folder / "%j", cluster=cluster)
        self.executor.update_parameters(timeout_min=minutes, name="omnimotion", slurm_partition=partition,
                                        slurm_array_parallelism=1000)
        self.gpus, self.queue, self.jobs = gpus, [], []
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

    def submit(self, task):
        job = self.begun_before(task)
        if job is None:
            self.queue.append(task)
        else:
            self.jobs.append((task, job))

    def begun_before(self, task):
        """The job of an earlier process that still does this task, or None."""
        path = self.folder / f"{task.plan.name}.json"
        if task.tries or not path.exists():
            return None
        entry = status.read_json(path)
        if entry.get("names") != list(task.names) or self.cluster == "local":
            return None
        job = self.submitit.SlurmJob(folder=self.folder / "%j", job_id=entry["job"])
        return job if job.state.split()[0] in ACTIVE else None

    def submit_queue(self):
        """Submit what waits, an array for each kind of Need."""
        count = len(self.queue) if self.cluster == "slurm" else max(0, usable_cores() - len(self.jobs))
        tasks, self.queue = self.queue[:count], self.queue[count:]
        kinds = {}
        for task in tasks:
            need = task.need.within(*self.largest, self.gpus)
            gigabytes = 2 ** max(0, math.ceil(math.log2(need.memory / GIB)))  # few sizes, so few arrays
            gigabytes = min(gigabytes, max(1, int(self.largest[1] // GIB)))
            kinds.setdefault((need.cores, gigabytes, math.ceil(need.gpus)), []).append(task)
        for (cores, gigabytes, gpus), alike in kinds.items():
            asked = {"slurm_gpus_per_node": gpus} if gpus else {}
            self.executor.update_parameters(cpus_per_task=cores, mem_gb=gigabytes, **asked)
            arguments = zip(*((task.plan, task.names, cores, task.frugal) for task in alike))
            for task, job in zip(alike, self.executor.map_array(Resubmitted(), *arguments)):
                status.write_json(self.folder / f"{task.plan.name}.json", {"names": task.names, "job": job.job_id})
                self.jobs.append((task, job))

    def finished(self):
        self.submit_queue()
        ended = [entry for entry in self.jobs if entry[1].done()]
        if not ended:
            time.sleep(POLL[self.cluster])
        for task, job in ended:
            self.jobs.remove((task, job))
            yield task, self.outcome(job)

    def outcome(self, job):
        try:
            return job.result()
        except self.submitit.core.utils.UncompletedJobError as error:
            state = job.state
            kind = "memory" if "OUT_OF_ME" in state else "crash"
            return Outcome(kind, f"job {job.job_id} ended as {state} ({first_line(error)})")
        except self.submitit.core.utils.FailedJobError as error:
            return Outcome("crash", f"job {job.job_id}: {first_line(error)}")

    def close(self):
        pass
