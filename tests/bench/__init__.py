"""How fast Keyferry is, as ratios: see `tests.bench.__main__`."""
