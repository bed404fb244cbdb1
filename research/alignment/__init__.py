"""The shipped joint space and gate: how they are made, and spaces after published recipes."""
