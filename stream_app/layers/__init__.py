"""The layers: pure functions from a DataFrame to a DataFrame, without a session, a path or an action."""
