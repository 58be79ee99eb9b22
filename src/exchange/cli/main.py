"""`clob`: one command, a module per subcommand. Every subcommand has --json."""

import click

from exchange.cli.demo import demo
from exchange.cli.flow import flow
from exchange.cli.play import play
from exchange.cli.replay import replay
from exchange.cli.verify_vectors import verify_vectors


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run, replay and check a central limit order book."""


main.add_command(play)
main.add_command(replay)
main.add_command(flow)
main.add_command(demo)
main.add_command(verify_vectors)
