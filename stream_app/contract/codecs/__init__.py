"""How the bytes of a record are read, one file an encoding."""
