"""`clob`: one command, a module per subcommand. Every subcommand has --json."""

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run, replay and check a central limit order book."""
