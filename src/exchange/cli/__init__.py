"""The `clob` command."""
