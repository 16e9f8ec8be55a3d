"""GET /agents/{id}/credit: what tasks paid in credit leave in whose account."""

from __future__ import annotations

from ..check import Area, Body
from ..probe import Probe, equal, has
from .tasks import Story, Thread

AREA = Area("credit")

_AMOUNT = 105  # of it a tenth, rounded down, is the treasury's: 10

Account = tuple[int, int, int]


def _account(probe: Probe, agent_id: str) -> Account:
    answer = probe.value(f"/agents/{agent_id}/credit")
    return answer["balance"], answer["locked"], answer["verified_provider_tasks"]


def _accounts(probe: Probe, task: Thread) -> tuple[Account, Account]:
    return _account(probe, task.requester.agent_id), _account(probe, task.provider.agent_id)


def _settled(task: Thread) -> None:
    task.accept()
    task.result()
    task.verdict("passed")


def _judged(*verdicts: str) -> Story:
    def story(task: Thread) -> None:
        task.accept()
        task.result()
        for verdict in verdicts:
            task.verdict(verdict)

    return story


def _judged_by_parties(task: Thread) -> None:
    task.accept()
    task.result()
    task.verdict("passed", task.requester)
    task.verdict("passed", task.provider)


def _nothing(_: Thread) -> None:
    pass


# name, claim, story, (balance, locked, verified tasks) of requester and provider, past its deadline
_MOVED = ((-_AMOUNT, 0, 0), (95, 0, 1))
_LOCKED, _FREE = ((0, _AMOUNT, 0), (0, 0, 0)), ((0, 0, 0), (0, 0, 0))


def _story(tell: Story, wanted: tuple[Account, Account], amount: object, late: bool) -> Body:
    def body(probe: Probe) -> None:
        task = Thread(probe, amount=amount, **({"deadline_unix": probe.now() - 100} if late else {}))
        tell(task)
        equal(_accounts(probe, task), wanted, "(balance, locked, verified tasks) of requester and provider")

    return body


_STORIES: list[tuple[str, str, str, Story, tuple[Account, Account], object, bool]] = [
    ("request-locks", "core", "An open request locks its amount.", _nothing, _LOCKED, _AMOUNT, False),
    ("result-keeps-the-lock", "core", "Until a verdict the amount stays locked.", _judged(), _LOCKED, _AMOUNT, False),
    ("passed-settles", "core", "Passed moves the amount, less a tenth rounded down.", _settled, _MOVED, _AMOUNT, False),
    ("failed-frees", "core", "Failed frees the lock and moves nothing.", _judged("failed"), _FREE, _AMOUNT, False),
    (
        "disputed-frees",
        "core",
        "Passed and failed both: nothing moves, the lock is freed.",
        _judged("passed", "failed"),
        _FREE,
        _AMOUNT,
        False,
    ),
    (
        "parties-do-not-judge",
        "core",
        "Verdicts of requester and provider settle nothing.",
        _judged_by_parties,
        _LOCKED,
        _AMOUNT,
        False,
    ),
    ("cancel-frees", "core", "A cancel without any accept frees the lock.", Thread.cancel, _FREE, _AMOUNT, False),
    ("deadline-frees", "core", "Past the deadline without a result the lock is freed.", _nothing, _FREE, _AMOUNT, True),
    (
        "deadline-spares-a-result",
        "core",
        "A result before the verdict stays locked past the deadline.",
        _judged(),
        _LOCKED,
        _AMOUNT,
        True,
    ),
    ("amount-may-be-a-text", "spec", "An amount in a numeric string counts.", _settled, _MOVED, str(_AMOUNT), False),
    ("amount-of-nothing", "spec", "An amount of 0 moves nothing and makes no standing.", _settled, _FREE, 0, False),
    (
        "small-amounts-pay-no-fee",
        "spec",
        "Nine have no tenth: the provider gets all.",
        _settled,
        ((-9, 0, 0), (9, 0, 1)),
        9,
        False,
    ),
    (
        "other-payments-move-nothing",
        "core",
        "A task not paid in credit touches no account.",
        _settled,
        _FREE,
        None,
        False,
    ),
]

for _name, _level, _claim, _tell, _wanted, _given, _late in _STORIES:
    AREA.add(_name, _level, "12", _claim, _story(_tell, _wanted, _given, _late))


@AREA.core("12")
def has_its_shape(probe: Probe) -> None:
    """The answer is {agent_id, balance, locked, available, verified_provider_tasks}."""
    key = probe.key()
    answer = probe.value(f"/agents/{key.agent_id}/credit")
    has(answer, ("agent_id", "balance", "locked", "available", "verified_provider_tasks"), "credit")
    equal(answer["agent_id"], key.agent_id, "agent_id")


@AREA.core("12")
def stranger_has_nothing(probe: Probe) -> None:
    """An unknown agent has zeros; that is no error."""
    equal(_account(probe, probe.unused_id()), (0, 0, 0), "balance, locked, verified tasks")


@AREA.core("12")
def available_is_what_is_not_locked(probe: Probe) -> None:
    """`available` is balance less locked, and may be below zero."""
    task = Thread(probe, amount=_AMOUNT)
    equal(probe.value(f"/agents/{task.requester.agent_id}/credit")["available"], -_AMOUNT, "available")


@AREA.core("12")
def no_id_is_400(probe: Probe) -> None:
    """What is no id is 400."""
    probe.refused("/agents/abc/credit", 400)


@AREA.core("12")
def agent_says_its_balance(probe: Probe) -> None:
    """`credit_balance` of GET /agents/{id} is the same balance."""
    task = Thread(probe, amount=_AMOUNT)
    _settled(task)
    equal(probe.value(f"/agents/{task.requester.agent_id}")["credit_balance"], -_AMOUNT, "credit_balance")


@AREA.spec("12")
def revoking_does_not_rewrite_a_settlement(probe: Probe) -> None:
    """What is settled stays, even if the requester revokes its request."""
    task = Thread(probe, amount=_AMOUNT)
    _settled(task)
    probe.said(9, "", ["e", task.id], by=task.requester)
    equal(_accounts(probe, task), _MOVED, "(balance, locked, verified tasks) of requester and provider")


@AREA.spec("12")
def payment_of_a_stranger_moves_nothing(probe: Probe) -> None:
    """Kind 54 is a word about money, not money: nothing moves."""
    task = Thread(probe, amount=_AMOUNT)
    task.accept()
    task.payment("release", probe.key())
    equal(_accounts(probe, task), _LOCKED, "(balance, locked, verified tasks) of requester and provider")


def _refused(amount: str) -> Body:
    def body(probe: Probe) -> None:
        reward = f'{{"currency":"credit","amount":{amount},"payment_method":"anp2_credit"}}'
        probe.rejects(probe.event(50, f'{{"capability":"conf.none","input":{{}},"reward":{reward}}}'))

    return body


for _name, _text in [
    ("negative", "-1"),
    ("in-words", '"lots"'),
    ("null", "null"),
    ("infinite", "1e400"),
    ("an-object", "{}"),
]:
    AREA.add(f"amount-{_name}-refused", "spec", "3", f"A credit amount of {_text} is 400.", _refused(_text))
