"""Where a file says, or proves, that it comes from: signed manifests, declarations in its metadata, own watermarks."""
