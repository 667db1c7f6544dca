"""ZeroGPU, the free GPU hardware of Hugging Face Spaces: a GPU for seconds at a time, in a forked process.

Training runs there in slices, see `host.py`; the requested times and the meaning of refusals are in `quota.py`.
Everything else, including predictions, stays on the Space's CPU, which is faster than requesting a GPU.
"""
