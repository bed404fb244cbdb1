"""What looks for signs: one detector a file, the file name is its id (`ml.detectors.base`)."""
