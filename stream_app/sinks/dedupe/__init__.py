"""How silver leaves out repeats."""
