"""Where a dataset goes: one file a kind of sink states the guarantee, the files beside it are what these share."""
