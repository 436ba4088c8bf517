"""Hand3D for other eyes and tools: gallery, Rerun, clouds, conversations, LeRobot."""
