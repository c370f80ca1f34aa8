"""A first feed file from a sample of a topic: what the records have, what that may mean, and how a file says it."""
