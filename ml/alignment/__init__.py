"""The joint space: text and pictures as unit vectors of 256 numbers under one inner product."""
