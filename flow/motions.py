"""Flow put in order by a few affine motions.

Most of what moves between two frames moves in a few ways: the camera, and each rigid thing or part of one. An
estimator that looks through small windows does not know that, and goes wrong where a window shows too little: on thin
things, at rims, where there is no texture. So the affine motions that explain most of a flow are found and registered
on the frames themselves; then each pixel chooses between them and its own flow: by colour, and as its neighbours of
like colour do. The same colour is found in many places, and limbs bend as no affine motion does: so a motion is there
only for what is near to pixels that follow it; the nearer, the less of the flow motions explain at all.

Conventions: flow float32 (H, W, 2), (x, y) in pixels, flattened to (n, 2) inside; a motion (3, 2) is the flow
(x, y, 1) @ motion, x and y running from -1 to 1 over the frame; luminance float32 (H, W), 0 to 255.
"""

import cv2
import numpy as np

from flow.images import resize, sample, shrink

ROUNDS = 3  # the flow that has been put in order shows the motions better, and leads them on
MOTIONS, LEAST, TRIES = 8, 40, 2  # at most so many, of so many pixels, looked for so often
GUESSES, NEIGHBOURS, ALIKE_PX = 150, 12, 2.0  # fits to random pixels and some around them that move alike
RADII = (1 / 32, 1 / 16, 1 / 8)  # of what is around them, in long sides
TESTED, INLIER_PX, TAKEN_PX = 1500, 0.75, 1.1  # pixels that guesses are tested on; those that a motion explains
REGISTERED, STEPS, ROBUST, DAMPING = 3000, 4, 10.0, 0.02  # pixels, Gauss-Newton steps, levels, of a registration
AROUND_PX, BETTER = 4, 0.9  # what is around a matched point; share of the own flow's error there that is believed
OWN, AWAY, AWAY_PX = 3.0, 0.5, 4.0  # levels that the own flow costs, and a pixel's distance from it, up to so many
FOLLOWS_PX, FAR, FAR_PX = 2.0, 6.0, 15  # flow so near follows a motion; levels a pixel from there, up to so far
CERTAINTY, LEAST_NOISE = 0.4, 1.0  # cost of an error of the usual size, and levels that it has at least
COUPLING, CONTRAST, SWEEPS = 1.0, 12.0, 5  # of the mean field: per neighbour that is alike; levels; steps
CELLS = 320  # on the long side, at most about: of larger frames, cells of pixels are what has neighbours
REACH = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y] + [(2, 0), (-2, 0), (0, 2), (0, -2)]


class Motions:
    """Finds and assigns the motions between two frames of size (H, W). seed: of the random guesses."""

    def __init__(self, first, second, seed=0):
        """first, second: luminance of the frames, at equal exposure."""
        self.first, self.second, self.size, self.rng = first, second, first.shape, np.random.default_rng(seed)
        self.slopes = [cv2.Sobel(second, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))]
        x, y = (np.linspace(-1, 1, side, dtype=np.float32) for side in (self.size[1], self.size[0]))
        self.basis = np.stack([*np.meshgrid(x, y), np.ones(self.size, np.float32)], axis=-1).reshape(-1, 3)

    def order(self, flow, error_of, guide, matches=()):
        """Flow (H, W, 2) -> the same in order.

        error_of: a flow -> how badly it explains each pixel, (H, W) in levels; guide (H, W, C): colours.
        matches: groups of points of one motion each that may be missing in the flow, see flow.keypoints.
        """
        ordered, cell = flow, max(1, round(max(self.size) / CELLS))
        alike = likeness(in_cells(np.float32(guide), cell))
        own_error = error_of(flow)
        missing = [of for group in matches if (of := self.from_matches(own_error, error_of, *group)) is not None]
        missing_flows, missing_errors = zip(*missing) if missing else ((), ())
        for _ in range(ROUNDS):
            found = [self.flow(motion) for motion in self.find(ordered)]
            choices = np.stack([flow, *found, *missing_flows])
            errors = np.stack([own_error, *map(error_of, found), *missing_errors])
            noise = max(np.median(errors.min(0)), LEAST_NOISE)
            away = np.sqrt(squared_norm(choices - flow))
            costs = errors + AWAY * away.clip(max=AWAY_PX)
            costs[0] += OWN
            follow = np.minimum(away, np.sqrt(squared_norm(choices - ordered))) <= FOLLOWS_PX
            unexplained = (away[1 : len(found) + 1] > INLIER_PX).all(0).mean()
            for cost, followers in zip(costs[1:], follow[1 : len(found) + 1]):
                cost += FAR * unexplained * distance_to(followers).clip(max=FAR_PX)
            costs *= CERTAINTY / noise
            chosen = choose(costs, alike, cell)
            ordered = np.take_along_axis(choices, chosen[None, ..., None], axis=0)[0]
        return ordered

    def flow(self, motion):
        """A motion's flow (H, W, 2)."""
        return (self.basis @ motion).reshape(*self.size, 2)

    def find(self, flow):
        """The motions that explain most of a flow (H, W, 2), registered on the frames."""
        flow, found = flow.reshape(-1, 2), []
        left = np.ones(len(flow), bool)
        for _ in range(TRIES):
            if left.sum() < LEAST:
                break
            for motion in self.guess(flow, np.flatnonzero(left), MOTIONS - len(found)):
                followers = self.followers(motion, flow, left)
                if len(followers) >= LEAST:
                    motion = fit(self.basis[followers], flow[followers])
                    followers = self.followers(motion, flow, left)
                if len(followers) >= LEAST:
                    left[self.followers(motion, flow, left, TAKEN_PX)] = False
                    found.append(self.register(motion, followers))
        return found

    def followers(self, motion, flow, left, within=INLIER_PX):
        """Which of the pixels that are `left` (n,) have flow (n, 2) so near to a motion."""
        return np.flatnonzero(left & (squared_norm(self.basis @ motion - flow) <= within**2))

    def guess(self, flow, pixels, count):
        """At most `count` motions, fitted around random ones of `pixels`, that together explain most of them."""
        height, width = self.size
        seeds = self.rng.choice(pixels, GUESSES)
        radius = self.rng.choice(RADII, (GUESSES, 1)) * max(self.size)
        down, across = self.rng.uniform(-1, 1, (2, GUESSES, NEIGHBOURS)) * radius
        y = (seeds[:, None] // width + down).astype(int).clip(0, height - 1)
        x = (seeds[:, None] % width + across).astype(int).clip(0, width - 1)
        around = y * width + x
        used = squared_norm(flow[around] - flow[seeds][:, None]) < ALIKE_PX**2
        motions = fit(self.basis[around] * used[..., None], flow[around] * used[..., None])[used.sum(1) >= 4]
        tested = self.rng.choice(pixels, min(len(pixels), TESTED), replace=False)
        missed = sum(np.square(motions[..., c] @ self.basis[tested].T - flow[tested, c]) for c in (0, 1))
        explains, unexplained = (missed < INLIER_PX**2).astype(np.float32), np.ones(len(tested), np.float32)
        for _ in range(count):
            gained = explains @ unexplained
            if not gained.any():
                return
            best = gained.argmax()
            unexplained *= 1 - explains[best]
            yield motions[best]

    def from_matches(self, own_error, error_of, position, motion):
        """Flow of the matched points' motion, registered on what is around them, and its error: (H, W, 2), (H, W).

        position, motion (m, 2): of the points. None where it does not explain what is around them better than the own
        flow, whose error is given, does: most groups of few points are chance.
        """
        height, width = self.size
        x, y = position.round().astype(int).clip(0, (width - 1, height - 1)).T
        around = np.zeros(self.size, np.uint8)
        around[y, x] = 1
        around = cv2.dilate(around, np.ones((2 * AROUND_PX + 1,) * 2, np.uint8))
        flow = self.flow(self.register(fit(self.basis[y * width + x], motion), np.flatnonzero(around)))
        error = error_of(flow)
        return (flow, error) if error[around > 0].mean() < BETTER * own_error[around > 0].mean() else None

    def register(self, motion, pixels):
        """A motion made exact by Gauss-Newton steps on the luminance of the pixels that follow it."""
        if len(pixels) > REGISTERED:
            pixels = self.rng.choice(pixels, REGISTERED, replace=False)
        y, x = np.divmod(pixels, self.size[1])
        basis, wanted, start = self.basis[pixels], self.first[y, x], np.stack([x, y], axis=-1)
        lowest, best = np.inf, motion
        for step in range(STEPS + 1):
            arrived = (start + basis @ motion).astype(np.float32)[None]
            seen, dx, dy = (sample(image, arrived)[0] for image in (self.second, *self.slopes))
            error = seen - wanted
            weight = 1 / (1 + np.square(error / ROBUST))
            cost = -np.log(weight).mean()
            if cost < lowest:
                lowest, best = cost, motion
            if step < STEPS:
                slope = np.concatenate([basis * dx[:, None], basis * dy[:, None]], axis=1)
                weighted = slope * weight[:, None]
                normal = weighted.T @ slope + np.float32(DAMPING * len(pixels)) * np.eye(6, dtype=np.float32)
                motion = motion - np.linalg.solve(normal, weighted.T @ error).reshape(2, 3).T
        return best


def fit(basis, flow):
    """Least squares: basis (..., n, 3), flow (..., n, 2) -> motions (..., 3, 2); linear parts lean to zero."""
    transposed = np.swapaxes(basis, -1, -2)
    lean = np.diag(np.float32([1e-3, 1e-3, 1e-6]))
    return np.linalg.solve(transposed @ basis + lean, transposed @ flow)


def distance_to(mask):
    """float32 (H, W): pixels from the nearest one in mask (H, W); far where there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)


def squared_norm(vectors):
    """(..., 2) -> (...)."""
    return np.square(vectors[..., 0]) + np.square(vectors[..., 1])


def windows(height, width):
    """For each neighbour in reach: slices of the pixels that have it, and of the neighbours."""
    for x, y in REACH:
        yield (np.s_[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)],
               np.s_[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)])  # fmt: skip


def likeness(guide):
    """How alike each pixel of guide (H, W, C) is to its neighbours in colour, in (0, 1]: a list of arrays."""
    guide = np.moveaxis(guide.astype(np.float32), -1, 0)
    return [np.exp(-sum(np.abs(c[here] - c[there]) for c in guide) / (CONTRAST * len(guide)))
            for here, there in windows(*guide.shape[1:])]  # fmt: skip


def mean_field(costs, alike):
    """Shares (F, H, W) of labels of these costs (F, H, W) when neighbours that are alike favour the same label.

    Krähenbühl and Koltun, "Efficient inference in fully connected CRFs" (NIPS 2011), with a few neighbours.
    """
    own = -np.float32(costs)
    shares = softmax(own)
    for _ in range(SWEEPS):
        energy = own.copy()
        for weight, (here, there) in zip(alike, windows(*costs.shape[1:])):
            energy[(..., *here)] += COUPLING * weight * shares[(..., *there)]
        shares = softmax(energy)
    return shares


def choose(costs, alike, cell):
    """The label (H, W) of each pixel by a mean field over cells of so many pixels, then by its own costs (F, H, W)."""
    if cell == 1:
        return mean_field(costs, alike).argmax(0)
    shares = mean_field(np.stack([in_cells(cost, cell) for cost in costs]), alike)
    shares = [resize(share, costs.shape[1:])[..., 0] for share in shares]
    return np.argmax([np.log(share + 1e-6) - cost for share, cost in zip(shares, costs)], axis=0)


def in_cells(values, cell):
    """(H, W) or (H, W, C) -> the same of cells of so many pixels, averaged."""
    height, width = values.shape[:2]
    if cell == 1:
        return values
    return shrink(values, (-(-height // cell), -(-width // cell)))


def softmax(values):
    shares = np.exp(values - values.max(0))
    return shares / shares.sum(0)
