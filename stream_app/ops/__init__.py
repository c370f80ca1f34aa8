"""What commands do, as functions: each returns a value and prints nothing, and needs neither Spark nor a service."""
