"""Whether a flow may go on from where it was, asked before it starts."""
