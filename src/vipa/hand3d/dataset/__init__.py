"""Records, tables, mixing, reading, statistics and the card of a Hand3D data set."""
