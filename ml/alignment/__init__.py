"""The joint space: text and pictures as unit vectors under one inner product."""
