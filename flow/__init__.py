"""From two frames to flow: estimators, candidates and their fusion, motions, matches, appearance, file formats."""

import os

# Threads that wait actively for one another slow RAFT tenfold on a machine that also does other work. OpenMP reads this
# when torch is imported, so it stands before anything that imports it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# numpy's products here are of a few thousand numbers: handing them to other threads takes longer than they do.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
