"""Whether a flow may go on from where it was: an inspection that changes nothing, then its repairs."""
