"""A small MuJoCo tabletop that films human hands and runs robot episodes, with exact ground truth.

World frame: origin at the centre of the table's top, z up, x to the person's right, y away from the person.
Everything follows from a seed; `seeds` says which split a seed belongs to.
"""
