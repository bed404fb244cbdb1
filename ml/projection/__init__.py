"""Vectors as points in the plane: PCA at once, UMAP in a process of its own, two projections laid over each other."""
