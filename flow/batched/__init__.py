"""The walk of flow/dis.py for many pairs at once, in torch: what a GPU does in place of the CPU's processes.

The same steps in the same order, by the same settings, but for the search, which is one of torch's own (search.py).
tests/flow/test_batched.py holds each against the other.
"""
