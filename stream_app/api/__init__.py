"""The face for machines and browsers: a REST API, live events and the dashboard page, in a process of its own.

It calls stream_app/ops and never the service: it needs the outputs' folder, and neither Spark nor a running service.
"""
