"""A feed's contract in the forms that others know: the Open Data Contract Standard, and JSON Schema."""
