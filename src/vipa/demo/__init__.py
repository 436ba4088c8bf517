"""The demo: the whole path in minutes, and its report."""
