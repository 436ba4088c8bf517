"""Geometry: calibration, positions, visibility, relations, motions."""
