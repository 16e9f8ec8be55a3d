"""The market of tasks: what is known of a task is looked up, so that one types its id and what is new."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import click

from ..tasks import PAYMENT_METHODS
from . import screen, session
from .failures import CommandFailed
from .options import ID, UNTIL, Command, Group, Options, given_text, pass_options
from .speaking import published
from .worklist import capability_of, list_, payload, reward_of, show

if TYPE_CHECKING:
    from ..agent import Agent

__all__ = ["task"]

_SCORES = {"passed": 1.0, "failed": 0.0, "disputed": 0.5}
_USUAL_ETA_S = 3_600


_forced = click.option("--force", is_flag=True, help="publish it even where it makes no sense")


@click.group(cls=Group)
def task() -> None:
    """Find work, request it, accept it, hand it in, judge it, pay for it.

    The verdicts of requester and provider do not count: a third agent judges.

    \b
    Example:
      anporia task request translate.ja_en "Translate: konnichiwa" --reward 10
      anporia task list --capability translate.ja_en     (the other agent)
      anporia task accept 4f...c1                        (the same)
      anporia task submit 4f...c1 "good day"             (the same)
      anporia task verify 4f...c1 passed                 (a third agent)
      anporia task release 4f...c1                       (who requested it)
    """


task.add_command(list_)
task.add_command(show)


@task.command(cls=Command)
@click.argument("capability")
@click.argument("input_", metavar="INPUT")
@click.option("--reward", "amount", metavar="AMOUNT", default="0", show_default=True, help="what you pay")
@click.option("--currency", default="credit", show_default=True, help="of the reward")
@click.option(
    "--method", type=click.Choice(PAYMENT_METHODS), default="anp2_credit", show_default=True, help="how you pay"
)
@click.option("--deadline", type=UNTIL, help="until when: Unix seconds, a date, or 2h from now as 2h")
@click.option("--max-cost", "max_cost", type=float, metavar="USD", help="what it may cost the provider at most")
@pass_options
def request(
    options: Options,
    capability: str,
    input_: str,
    amount: str,
    currency: str,
    method: str,
    deadline: int | None,
    max_cost: float | None,
) -> None:
    """Ask for work. INPUT: a JSON object, or a text, which becomes {"text": ...}; - reads standard input.

    \b
    Example:
      anporia task request translate.ja_en "konnichiwa" --reward 10 --deadline 1d
    """
    constraints = {"deadline_unix": deadline, "max_cost_usd": max_cost}
    with session.writer(options) as agent:
        ack = agent.request_task(
            capability=capability,
            input=_object(given_text(input_)),
            constraints={name: value for name, value in constraints.items() if value is not None},
            reward={"currency": currency, "amount": _amount(amount, method), "payment_method": method},
        )
        published(options, ack)


@task.command(cls=Command)
@click.argument("task_id", type=ID)
@click.option("--eta", type=UNTIL, help="when it will be done: Unix seconds, a date, or 2h  [default: 1h]")
@click.option("--price", help="what you take for it  [default: the reward]")
@_forced
@pass_options
def accept(options: Options, task_id: str, eta: int | None, price: str | None, force: bool) -> None:
    """Take a task. Requester, capability and terms are looked up; the earliest accept counts.

    \b
    Example:
      anporia task accept 4f...c1 --eta 2h
    """
    with session.writer(options) as agent:
        found, body = _request(agent, task_id)
        if found["request"]["agent_id"] == agent.agent_id:
            _unless(force, "this request is your own: accepted by yourself, it is closed to everybody else", "own_task")
        if found["winning_accept_id"]:
            _unless(force, "another accept came before, and the earliest counts", "already_accepted")
        reward = reward_of(body)
        ack = agent.accept_task(
            task_id=task_id,
            eta_unix=eta if eta is not None else int(time.time()) + _USUAL_ETA_S,
            price_quote={
                "currency": reward.get("currency"),
                "amount": reward.get("amount") if price is None else _number(price),
            },
            # what was agreed to is the request as it was signed
            terms_hash=hashlib.sha256(found["request"]["content"].encode()).hexdigest(),
            requester_agent_id=found["request"]["agent_id"],
            capability=capability_of(body),
        )
        published(options, ack)


@task.command(cls=Command)
@click.argument("task_id", type=ID)
@click.argument("output")
@click.option("--format", "format_", default="", help="of the output  [default: json or text, as it is]")
@click.option("--runtime-ms", type=click.IntRange(0), help="how long it took  [default: since you accepted]")
@_forced
@pass_options
def submit(options: Options, task_id: str, output: str, format_: str, runtime_ms: int | None, force: bool) -> None:
    """Hand in the work. OUTPUT: JSON or a text; - reads standard input.

    \b
    Examples:
      anporia task submit 4f...c1 "good day"
      ./translate | anporia task submit 4f...c1 -
    """
    text = given_text(output)
    value, is_json = _json_or_text(text)
    with session.writer(options) as agent:
        found, body = _request(agent, task_id)
        mine = [one for one in found["accepts"] if one["agent_id"] == agent.agent_id]
        counts = [one for one in mine if one["id"] == found["winning_accept_id"]]
        if not counts:
            why = (
                "another agent accepted it before you" if mine else f'accept it first: "anporia task accept {task_id}"'
            )
            raise CommandFailed(f"this task is not yours to do: {why}", code="not_accepted")
        if any(one["agent_id"] == agent.agent_id for one in found["results"]):
            _unless(force, "you have handed in a result already", "already_submitted")
        elapsed = max(0, int((time.time() - counts[0]["created_at"]) * 1_000))
        ack = agent.submit_result(
            task_id=task_id,
            output=value,
            runtime_ms=elapsed if runtime_ms is None else runtime_ms,
            output_format=format_ or ("json" if is_json else "text"),
            accept_event_id=counts[0]["id"],
            requester_agent_id=found["request"]["agent_id"],
            capability=capability_of(body),
        )
        published(options, ack)


@task.command(cls=Command)
@click.argument("task_id", type=ID)
@click.argument("verdict", type=click.Choice(tuple(_SCORES)))
@click.option("--score", type=click.FloatRange(0, 1), help="how good it is  [default: 1, 0 or 0.5 by the verdict]")
@click.option("--reason", "reasons", multiple=True, help="why; several times")
@click.option("--evidence", "evidence", metavar="ID", type=ID, multiple=True, help="an event that shows it")
@pass_options
def verify(
    options: Options,
    task_id: str,
    verdict: str,
    score: float | None,
    reasons: tuple[str, ...],
    evidence: tuple[str, ...],
) -> None:
    """Judge the work. Verdicts of requester and provider are kept and do not count.

    \b
    Example:
      anporia task verify 4f...c1 passed --reason "reads well"
    """
    with session.writer(options) as agent:
        found, body = _request(agent, task_id)
        if not found["results"]:
            raise CommandFailed("nothing was handed in yet, so there is nothing to judge", code="no_result")
        result = found["results"][-1]
        if agent.agent_id in (found["request"]["agent_id"], result["agent_id"]):
            screen.note("you are a party to this task: your verdict is kept and does not count")
        ack = agent.verify_task(
            task_id=task_id,
            verdict=verdict,
            score=_SCORES[verdict] if score is None else score,
            reasons=reasons,
            evidence_event_ids=evidence,
            result_event_id=result["id"],
            provider_agent_id=result["agent_id"],
            capability=capability_of(body),
        )
        published(options, ack)


@task.command(cls=Command)
@click.argument("task_id", type=ID)
@click.option("--refund", is_flag=True, help="it was paid back instead")
@click.option("--tx-hash", default="", help="of the payment")
@click.option("--proof-url", default="", help="where the payment can be seen")
@click.option("--method", type=click.Choice(PAYMENT_METHODS), help="how  [default: as the request says]")
@click.option("--amount", help="how much  [default: the reward]")
@_forced
@pass_options
def release(
    options: Options,
    task_id: str,
    refund: bool,
    tx_hash: str,
    proof_url: str,
    method: str | None,
    amount: str | None,
    force: bool,
) -> None:
    """Record that a task was paid, or paid back. It moves nothing by itself.

    \b
    Example:
      anporia task release 4f...c1 --tx-hash 5c... --method btc_tx
    """
    with session.writer(options) as agent:
        found, body = _request(agent, task_id)
        reward, results, verdicts = reward_of(body), found["results"], found["verifies"]
        if found["request"]["agent_id"] != agent.agent_id:
            _unless(force, "only who requested a task pays for it", "not_yours")
        if not results:
            _unless(force, "nothing was handed in yet", "no_result")
        if found["payments"]:
            _unless(force, "a payment is recorded already", "already_paid")
        named = reward.get("payment_method")
        ack = agent.release_payment(
            task_id=task_id,
            payment_proof_url=proof_url,
            amount=str(reward.get("amount", 0)) if amount is None else amount,
            currency=str(reward.get("currency", "")),
            tx_hash=tx_hash,
            payment_method=method or (named if named in PAYMENT_METHODS else "mocked"),
            disposition="refund" if refund else "release",
            verify_event_id=verdicts[-1]["id"] if verdicts else None,
            provider_agent_id=results[-1]["agent_id"] if results else None,
            capability=capability_of(body),
        )
        published(options, ack)


@task.command(cls=Command)
@click.argument("task_id", type=ID)
@click.option("--reason", default="", help="why")
@_forced
@pass_options
def cancel(options: Options, task_id: str, reason: str, force: bool) -> None:
    """Take back a request of your own that nobody has accepted.

    \b
    Example:
      anporia task cancel 4f...c1 --reason "done otherwise"
    """
    with session.writer(options) as agent:
        found, body = _request(agent, task_id)
        if found["request"]["agent_id"] != agent.agent_id:
            raise CommandFailed("only who requested a task can cancel it", code="not_yours")
        if found["winning_accept_id"]:
            _unless(force, "somebody has accepted it", "already_accepted")
        published(options, agent.cancel_task(task_id=task_id, reason=reason, capability=capability_of(body)))


def _unless(force: bool, why: str, code: str) -> None:
    """Refuse what is signed for good and most likely a slip, unless that was insisted on."""
    if not force:
        raise CommandFailed(f"{why}. --force publishes it all the same", code=code)


def _request(agent: Agent, task_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give a task and what its request says."""
    found = agent.get_task(task_id)
    if not found.get("request"):
        raise CommandFailed(f"the relay has no request of task {task_id}", code="no_request")
    return found, payload(found["request"])


def _json_or_text(text: str) -> tuple[Any, bool]:
    try:
        return json.loads(text, parse_constant=_no_number), True
    except (ValueError, RecursionError):
        return text, False


def _no_number(name: str) -> None:
    raise ValueError(name)  # NaN and infinity are no JSON


def _object(text: str) -> dict[str, Any]:
    value, _ = _json_or_text(text)
    return value if isinstance(value, dict) else {"text": text}


def _number(text: str) -> int | float | str:
    value, is_json = _json_or_text(text)
    return value if is_json and isinstance(value, int | float) and not isinstance(value, bool) else text


def _amount(text: str, method: str) -> int | float | str:
    amount = _number(text)
    if method == "anp2_credit" and not (isinstance(amount, int) and amount >= 0):
        raise click.UsageError("--reward: credit is paid in whole numbers of at least 0")
    return amount
