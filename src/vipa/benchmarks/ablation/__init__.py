"""Arms that differ in one thing, trained and measured alike: `vipa ablate`."""
