"""Hand3D: from clips to questions about space and to wrist motions (section 3.2.1)."""
