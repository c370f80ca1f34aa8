"""The commands: each file is one, named as what is typed, with `_` for `-`, and has a Command as COMMAND.

A new command is a new file here, whose docstring is one line, and a target of the Makefile that names its options.
"""
