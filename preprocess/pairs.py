"""Which ordered pairs of frames (i, j) get optical flow.

Short clips: all of them. Longer ones: those that are one of SPACED distances apart, since of two distances that are
nearly the same one says little more than the other. The number of pairs is then linear in the number of frames: at most
26 a frame, as many for each.
"""

ALL_PAIRS_UP_TO = 32  # frames
# Frames apart. From one to the next is one of them, too: chains hop from partner to partner (preprocess/chain.py).
SPACED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
REACH = 24  # times max_interval: no further than this
DEFAULT_MAX_INTERVAL = 4  # frames: all up to here are among the spaced ones
ALL_PAIRS = "all pairs"  # the rule in words, of short clips


def choose_pairs(num_frames, max_interval=None):
    """Partners of every frame: a list of N rising lists of frame numbers.

    max_interval: all pairs up to so many frames apart, and spaced ones up to REACH times as far; None: the default.
    """
    if max_interval is None:
        max_interval = num_frames - 1 if num_frames <= ALL_PAIRS_UP_TO else DEFAULT_MAX_INTERVAL
    spaced = {distance for distance in SPACED if distance <= REACH * max_interval}

    def paired(i, j):
        return i != j and (abs(i - j) <= max_interval or abs(i - j) in spaced)

    reach = max(max_interval, *spaced)
    return [
        [j for j in range(max(0, i - reach), min(num_frames, i + reach + 1)) if paired(i, j)] for i in range(num_frames)
    ]


def describe_rule(num_frames, max_interval=None):
    """The rule in words, for the terminal."""
    if max_interval is None and num_frames > ALL_PAIRS_UP_TO:
        max_interval = DEFAULT_MAX_INTERVAL
    if max_interval is None or max_interval >= num_frames - 1:
        return ALL_PAIRS
    return f"up to {max_interval} frames apart, spaced ones up to {min(REACH * max_interval, SPACED[-1])}"
