"""The 21-joint hand skeleton, MANO, mirroring, and hand estimators for raw video."""
