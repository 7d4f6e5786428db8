"""What people do with tracks of every pixel: masks carried, edits painted on, videos held still, things removed, frames
in between, small changes of view. Pure functions over frames, flow and visibility; edit.py is their command.
"""
