"""What a simulator's own Python runs: plain files that import nothing of vipa, for Python 3.8 and later.

harness_worker.py   one process of an evaluation through vla-eval, and a look at what is installed there
"""
