"""From two frames to flow: estimators, candidates and their fusion, motions, keypoints, appearance, file formats."""

import os

# Threads that wait actively for one another slow RAFT tenfold on a machine that also does other work. OpenMP reads this
# when torch is imported, so it stands before anything that imports it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
