"""Data, training and functional tests of the detectors that ship as plain arrays."""
