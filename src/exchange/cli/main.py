"""`clob`: one command, a module per subcommand. Every subcommand has --json."""

import click

from exchange.cli.audit import audit
from exchange.cli.book import book
from exchange.cli.config import config
from exchange.cli.demo import demo
from exchange.cli.deposit import deposit
from exchange.cli.doctor import doctor
from exchange.cli.flow import flow
from exchange.cli.loadtest import loadtest
from exchange.cli.market import market
from exchange.cli.order import order
from exchange.cli.play import play
from exchange.cli.replay import replay
from exchange.cli.shard import process, shard
from exchange.cli.sign import sign
from exchange.cli.token import token
from exchange.cli.up import up
from exchange.cli.user import account, key, user
from exchange.cli.verify_vectors import verify_vectors
from exchange.cli.withdrawal import transfer, withdrawal


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run, replay and check a central limit order book."""


main.add_command(up)
main.add_command(play)
main.add_command(replay)
main.add_command(flow)
main.add_command(demo)
main.add_command(loadtest)
main.add_command(verify_vectors)
main.add_command(order)
main.add_command(sign)
main.add_command(account)
main.add_command(key)
main.add_command(user)
main.add_command(market)
main.add_command(deposit)
main.add_command(transfer)
main.add_command(withdrawal)
main.add_command(book)
main.add_command(process)
main.add_command(shard)
main.add_command(audit)
main.add_command(doctor)
main.add_command(config)
main.add_command(token)
