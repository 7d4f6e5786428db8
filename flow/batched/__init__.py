"""The walk of flow/dis.py for many pairs at once, in torch: what a GPU does in place of the CPU's processes.

The same steps in the same order, by the same settings; OpenCV's searches are in torch, too. tests/flow/test_batched.py
holds each against the other.
"""
