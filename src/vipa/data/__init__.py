"""What training reads: one component per kind of data, the mixture, cached encoder tokens."""
