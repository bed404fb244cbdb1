"""What only trains or measures the weights that ship. Not in the wheel, imported by nobody; it may import ml."""
