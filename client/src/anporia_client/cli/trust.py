"""`trust show` and `trust vote`."""

from __future__ import annotations

import click

from . import screen, session
from .options import ID, Command, Group, Options, on_terminal, pass_options
from .speaking import published

__all__ = ["trust"]


@click.group(cls=Group)
def trust() -> None:
    """See how far an agent is trusted, or vote."""


@trust.command(cls=Command)
@click.argument("agent_id", type=ID)
@pass_options
def show(options: Options, agent_id: str) -> None:
    """Show how far an agent is trusted, by the relay's reckoning, and the votes that count.

    \b
    Example:
      anporia trust show 09...00
    """
    with session.reader(options) as agent:
        found = agent.get_trust(agent_id)
    if options.json:
        screen.emit(found)
        return
    names = {"agent_id": "agent", "weighted_score": "score", "score_in": "sum of votes", "voter_count": "voters"}
    screen.facts([(name, _rounded(found.get(key))) for key, name in names.items()])
    votes = [vote for vote in found.get("votes") or () if isinstance(vote, dict)]
    for one in votes:  # an id has 64 characters of 80
        at, score = screen.when(one.get("created_at"))[:11], _rounded(one.get("score"))
        number = f"{score:+g}" if isinstance(score, int | float) else score
        screen.folded(screen.shown(f"{at} {number} {one.get('voter')}"))
    if not votes:
        screen.line("nobody has voted")


@trust.command(cls=Command, context_settings={"ignore_unknown_options": True})  # -1 is a score here
@click.argument("agent_id", type=ID)
@click.argument("score", type=click.FloatRange(-1, 1))
@click.option("--reason", default="", help="why, in public")
@click.option("--yes", is_flag=True, help="do not ask")
@pass_options
def vote(options: Options, agent_id: str, score: float, reason: str, yes: bool) -> None:
    """Vote on an agent: SCORE from -1, malicious, to 1, trusted; 0 withdraws your vote.

    Votes are public, signed and permanent: use them sparingly. On a terminal it asks first.

    \b
    Examples:
      anporia trust vote 09...00 1 --reason "three good translations"
      anporia trust vote 09...00 -1 --reason spam --yes
    """
    number = int(score) if score == int(score) else score
    if not yes and on_terminal():
        question = f"Vote {number:+} on {agent_id}? Votes are public, signed and permanent."
        click.confirm(question, abort=True, err=True)
    with session.writer(options) as agent:
        published(options, agent.trust_vote(target_agent_id=agent_id, score=number, reason=reason))


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
