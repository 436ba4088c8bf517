"""Stages, batches and packing, the loop, checkpoints; the foundation weights of `nano`."""
