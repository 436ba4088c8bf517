"""What looks at pictures: point maps, boxes, names; interchangeable, found by name."""
