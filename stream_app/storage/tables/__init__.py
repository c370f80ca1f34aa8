"""Tables whose log says which files hold their rows. A format is one file of this folder."""
