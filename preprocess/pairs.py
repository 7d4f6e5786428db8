"""Which ordered pairs of frames (i, j) get optical flow.

Short clips: all of them. Longer ones: every pair up to `max_interval` frames apart, and, so that far-apart frames
still see each other, every pair of keyframes (one frame in max_interval // 2) up to 8 * max_interval apart. The number
of pairs is then linear in the number of frames: about 2 * max_interval + 64 / max_interval a frame (29 by default).
"""

ALL_PAIRS_UP_TO = 32  # frames
DEFAULT_MAX_INTERVAL = 12  # frames
KEYFRAME_REACH = 8  # times max_interval


def choose_pairs(num_frames, max_interval=None):
    """Partners of every frame: a list of N rising lists of frame numbers. `max_interval` None: the default rule."""
    if max_interval is None:
        max_interval = num_frames - 1 if num_frames <= ALL_PAIRS_UP_TO else DEFAULT_MAX_INTERVAL
    spacing = max(max_interval // 2, 2)  # not 1: keyframes are to stay sparse
    reach = KEYFRAME_REACH * max_interval

    def paired(i, j):
        both_keyframes = i % spacing == 0 and j % spacing == 0
        return i != j and abs(i - j) <= (reach if both_keyframes else max_interval)

    return [
        [j for j in range(max(0, i - reach), min(num_frames, i + reach + 1)) if paired(i, j)] for i in range(num_frames)
    ]


def describe_rule(num_frames, max_interval=None):
    """The rule in words, for the terminal."""
    if max_interval is None and num_frames > ALL_PAIRS_UP_TO:
        max_interval = DEFAULT_MAX_INTERVAL
    if max_interval is None or max_interval >= num_frames - 1:
        return "all pairs"
    return f"up to {max_interval} frames apart, keyframes up to {KEYFRAME_REACH * max_interval}"
