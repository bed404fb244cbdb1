"""What can be learnt: one objective a file, the file name is its id (``ml.training.objective.CATALOG``)."""
