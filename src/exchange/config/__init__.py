"""Settings: of the environment, which all processes share, and of each process, with where every value comes from."""
