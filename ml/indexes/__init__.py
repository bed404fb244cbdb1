"""Vector indexes, one a file: the file name is the id. The contract is ``base.Index``."""
