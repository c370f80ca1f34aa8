"""A feed's own examples: records in, and what each dataset has to hold then."""
