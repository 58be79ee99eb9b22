"""The border of an engine: encoded frames in, encoded frames out. One port, several engines, chosen by name."""
