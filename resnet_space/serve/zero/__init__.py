"""ZeroGPU, the free GPU host of Hugging Face Spaces: a GPU for seconds at a time, in a forked process.

Training goes there in slices, see `host.py`; what may be asked for, and what refusals mean, is in `quota.py`. All else,
predictions too, stays on the Space's CPU: it takes less time than to ask for a GPU.
"""
