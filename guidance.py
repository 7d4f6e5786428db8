"""Estimate the flow again while training: the model shows the estimator where to look.

Flow between two frames is often wrong far apart, after fast motion and behind what hides an object; the model, which
reconciles all pairs, is right there to a pixel or two. So training pauses `flow_rounds` times, dense inverse search
corrects the model's flow for every pair (preprocess/guided.py), the result is filtered and chained as the first flow
was, and training goes on with it. A round's flow is a data directory of the run's own, OUT/flow_<round>.
"""

import copy
import shutil
import time

import numpy as np
from tqdm import tqdm

import checkpoints
from loaders.correspondences import CorrespondencePool
from loaders.data_dir import DataDir
from networks import query
from preprocess.driver import build_again
from preprocess.guided import GuidedFlow
from util import UserError

FIRST_PATIENCE, PATIENCE = 0.75, 0.5  # of the time left may go to the first round, which gains most; to a later one
OVERHEAD = 1.3  # of a round against its flow alone: filtering and chaining
TRIAL = 2  # frames apart is the pair that is timed


class Rounds:
    """Which flow a run trains with: .data, a DataDir, of round .current (0: what the run was given)."""

    def __init__(self, data, out_dir, config, current=0):
        """UserError when the flow of the round that a run resumes in is gone."""
        self.out_dir, self.config, self.current, self.tried, self.data = out_dir, config, current, current, data
        if current:
            try:
                self.data = DataDir.open(checkpoints.flow_dir(out_dir, current))
            except UserError as error:
                reason = f"the run's own flow is not there any more ({error})"
                raise UserError(f"--resume: {reason}; start a new run") from None

    def due(self, progress):
        """Whether, at a progress in [0, 1], another round should begin: R rounds at 1/(R+2), 2/(R+2) ... R/(R+2)."""
        rounds = self.config.flow_rounds
        return min(int(progress * (rounds + 2)), rounds) > self.tried

    def advance(self, parts, step, seconds_left, stop, quiet=False):
        """Estimate the flow again, and train with it from now on -> whether that was done, as there was time for it.

        seconds_left: of the run, or None. KeyboardInterrupt as soon as `stop` has received a signal: the round is
        continued when the run resumes at the same step.
        """
        self.tried += 1
        flow = GuidedFlow(model_flow(parts, stop), self.data, f"the model at step {step}")
        if seconds_left is not None:
            seconds = seconds_of_round(flow, self.data)
            if seconds > (PATIENCE if self.current else FIRST_PATIENCE) * seconds_left:
                tqdm.write(f"flow not estimated again: it takes about {seconds:.0f} s, {seconds_left:.0f} s are left")
                return False
        folder, device = checkpoints.flow_dir(self.out_dir, self.tried), next(parts.model.parameters()).device
        self.data = build_again(self.data, folder, flow, device, quiet)
        storage_device, parts.sampler.pool = parts.sampler.pool.device, None  # so that only one is in memory
        parts.sampler.pool = CorrespondencePool(self.data, storage_device, self.config.storage)
        self.current = self.tried
        return True

    def forget_earlier(self):
        """Delete the flow of the run's earlier rounds; only once a checkpoint of this round is saved."""
        for number in range(1, self.current):
            shutil.rmtree(checkpoints.flow_dir(self.out_dir, number), ignore_errors=True)


def model_flow(parts, stop):
    """flow(i, partners) -> float32 (P, H, W, 2) of the model as queries would see it."""
    model = copy.deepcopy(parts.model).eval()
    model.load_state_dict(parts.average.state_dict(parts.model) or parts.model.state_dict())

    def flow(i, partners):
        if stop.received is not None:
            raise KeyboardInterrupt
        return query.dense_flows(model, i, partners)[0].cpu().numpy()

    return flow


def seconds_of_round(flow, data):
    """What a round would take, from one pair of frames near the middle and the adjacent flow between them."""
    middle = data.num_frames // 2
    partner = min(data.partners(middle), key=lambda j: abs(abs(j - middle) - TRIAL))
    times = [time.monotonic()]
    for _ in range(2):  # adjacent flow is needed once
        flow.flow_from(middle, [partner])
        times.append(time.monotonic())
    first, again = np.diff(times)
    adjacent = (first - again) / abs(partner - middle)  # there and back between two frames
    intervals, pairs = data.num_frames - 1, sum(map(len, data.manifest["partners"]))
    return OVERHEAD * (adjacent * intervals + again * (pairs - 2 * intervals))
