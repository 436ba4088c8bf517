"""The miniature: its foundation, recipe, demo, pictures and shipped weights; found by the name nano:STAGE."""
