"""Float activations brought onto grids, by calibration."""
