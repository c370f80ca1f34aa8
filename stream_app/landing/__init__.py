"""The landing zone: what a bounded run took from a topic, in files that say by their names which offsets they hold."""
