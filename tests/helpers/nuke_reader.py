"""A reader of Nuke's scripts by Tcl's lists and The Foundry's grammar of curves."""

import re


def words(text):
    """A Tcl list as nested Python lists: braces nest, quotes hold a word."""
    stack = [[]]
    for opens, closes, quoted, word in re.findall(r'(\{)|(\})|"([^"]*)"|([^\s{}"]+)', text):
        if opens:
            stack.append([])
        elif closes:
            inner = stack.pop()
            stack[-1].append(inner)
        else:
            stack[-1].append(quoted or word)
    (top,) = stack
    return top


def keys_of(curve):
    """{frame: value} of a curve: a key's frame is x<frame>, or one step on from the last two where it has none."""
    assert curve[0] == "curve"
    keys, frame, step = {}, None, 1
    for word in curve[1:]:
        if word in "KLSRC":
            continue
        if word.startswith("x"):
            following = int(word[1:])
            step = following - frame if frame is not None else 1
            frame, named = following, True
        else:
            if not named:
                frame = frame + step
            keys[frame], named = float(word), False
    return keys


def rows_of(text):
    tree = words(text)
    knobs = tree[tree.index("Tracker4") + 1]
    (header, columns, rows), = [knobs[knobs.index("tracks") + 1]]
    assert header[0] == "1" and int(header[1]) == len(columns) == 31 and int(header[2]) == len(rows)
    assert all(len(row) == 31 for row in rows)
    return rows
