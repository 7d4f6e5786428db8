"""Tracks in the files of other programs, and back: a module for each program, `formats` lists them."""
