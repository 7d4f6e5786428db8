"""What preprocessing will take, told before it starts: disk, which has to be there, and time on a CPU."""

import shutil

from flow.estimators import duration, seconds_per_pair
from preprocess.report import gigabytes
from preprocess.workers import one_thread
from util import UserError

LARGE = 10**9  # bytes of disk that are told before
LONG = 50 * 10**6  # pixels of all pairs, a few minutes of one core: from here on the time is measured and told
AFTER_FLOW = 0.4  # of the time of walked flow, that filter and chain take


def check_free_disk(data, todo, keep_direct, bar):
    """UserError when the files still to be written will not fit on the disk."""
    pixels, all_pairs = data.height * data.width, sum(map(len, data.manifest["partners"]))
    pairs = {stage: sum(len(data.partners(i)) for i in frames) for stage, frames in todo.items()}
    chained = pairs["chain"] if keep_direct else min(pairs["chain"], max(map(len, data.manifest["partners"])))
    masks, counts = (pairs["filter"] + pairs["chain"]) / 4, 2 * data.num_frames
    needed = pixels * (4 * (pairs["flow"] + chained) + masks + counts)
    free = shutil.disk_usage(data.path).free
    if needed > LARGE:
        bar.write(f"disk: up to {gigabytes(needed)} more, {gigabytes(free)} are free")
    if needed > free:
        raise UserError(
            f"--data_dir {data.path}: {all_pairs} pairs need {gigabytes(needed)} more, {gigabytes(free)} are free; "
            "lower --max_side or --max_interval, or use another disk"
        )


def tell_time(data, estimator, todo, workers, device, bar):
    """Say how long flow from the frames `todo`, filter and chain may take; measured on the first frames."""
    pairs = sum(len(data.partners(i)) for i in todo)
    if device.type != "cpu" or data.num_frames < 3 or data.height * data.width * pairs < LONG:
        return
    with one_thread():  # as the stages work
        pair = seconds_per_pair(estimator, [data.frame(i) for i in range(3)])
    seconds = pairs * pair * (1 + AFTER_FLOW if estimator.walks else 1) / workers
    bar.write(f"time: about {duration(seconds)} for {pairs} pairs, as {pair:.2g} s each, by {workers} workers")
