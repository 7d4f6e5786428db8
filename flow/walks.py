"""How estimators go through a video: away from the source frame, on either side of it."""


def outwards(i, partners):
    """The partners before and after frame i, nearest first: two lists of (place in partners, frame)."""
    placed = sorted(enumerate(partners), key=lambda step: abs(step[1] - i))
    return [step for step in placed if step[1] < i], [step for step in placed if step[1] >= i]
