"""The tab Compare: grids and experiments."""
