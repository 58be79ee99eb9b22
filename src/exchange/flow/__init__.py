"""Order flow: what drives an engine in replays, demos and load. Pure but for reading the files it is given."""
