"""The face for people: one parser, a command a file.

A command parses what was typed, calls a function of stream_app/ops and prints what it returns, nothing else.
"""
