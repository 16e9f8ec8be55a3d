"""Changing the import is enough: what the published `anp2-client` takes, ours takes, and writes the same events.

The published client runs as a program in its own environment. Signatures are held against each other, then the
events both sign for the same calls at the same time, then what one program prints with either import.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest

import anporia_client
from anporia_client import Agent, AsyncAgent, RelayUnreachable, Request, Response, crypto
from anporia_client.core import Clock
from anporia_wire import AnporiaError
from tests.peers import peer_python
from tests.relays import RunningRelay

# What is not the same on purpose. Each must be met: a line that is no longer true fails the test too.
DIFFERENT_DEFAULTS = {
    "Agent.relay_url": "from ANPORIA_RELAY_URL, else https://anporia.com/api, read when the agent is made (settled 19)",
    "Agent.load_or_create.relay_url": "as Agent.relay_url",
    "Agent.from_passphrase.relay_url": "as Agent.relay_url",
    "join.relay_url": "as Agent.relay_url",
    "Agent.from_passphrase.salt": "anporia-v1, as the published anporia-client has it (settled 19)",
    "crypto.derive_keypair_from_passphrase.salt": "as Agent.from_passphrase.salt",
    "Agent.declare_profile.description": "may be left out here, must be given there",
    "Agent.ensure_profile.description": "may be left out here, must be given there",
    "Agent.get_credit.agent_id": "may be left out here for one's own, must be given there",
}
DIFFERENT_NAMES: dict[str, str] = {}
DIFFERENT_ANSWERS = {
    "event": "every verb that publishes gives the signed event as well; there only those of tasks do",
}
# What the published clients raise and ours do too is a ValueError; what a relay refuses is an
# httpx.HTTPStatusError there and a RelayError here, since no error of httpx leaves this package (issue 4).

SEED = "7d" * 32
NOW = 1_790_000_000
URL = "http://relay.test/api"


def published(program: str, *arguments: str, home: Path | None = None) -> Any:
    """Run a program under the published client's interpreter; gives the JSON it prints."""
    return _printed([str(peer_python("anp2-client")), "-I", "-c", program, *arguments], home)


def _printed(command: list[str], home: Path | None = None) -> Any:
    env = {**os.environ, "HOME": str(home)} if home else dict(os.environ)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ------------------------------------------------------------------------------------------------------ signatures

_SIGNATURES = """
import inspect, json
import anp2_client
from anp2_client import Agent, crypto, join

def parameters(function):
    found = inspect.signature(function).parameters.values()
    return [[p.name, p.kind.name, p.default is not p.empty, None if p.default is p.empty else p.default] for p in found]

functions = {"Agent": Agent, "join": join}
functions |= {f"Agent.{name}": getattr(Agent, name) for name in dir(Agent) if not name.startswith("_")}
functions |= {f"crypto.{name}": value for name, value in vars(crypto).items()
              if inspect.isfunction(value) and not name.startswith("_")}
agent = Agent("01" * 32)
print(json.dumps({
    "signatures": {name: parameters(function) for name, function in functions.items()},
    "attributes": sorted(name for name in vars(agent) if not name.startswith("_")),
    "protocols": sorted(name for name in ("__enter__", "__exit__") if hasattr(Agent, name)),
    "module": anp2_client.__all__,
}))
"""


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """What the published client shows of itself."""
    found: dict[str, Any] = published(_SIGNATURES)
    return found


def ours(name: str) -> Callable[..., Any]:
    owner, _, attribute = name.rpartition(".")
    place: Any = {"": anporia_client, "Agent": Agent, "crypto": crypto}[owner]
    found: Callable[..., Any] = getattr(place, attribute)
    return found


def accepted(function: Callable[..., Any]) -> dict[str, tuple[bool, Any]]:
    """Give what may be given by name: whether it may be left out, and what then counts."""
    names: dict[str, tuple[bool, Any]] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            # **conditions: Unpack[Conditions] takes the keys of that TypedDict
            plain = function.__init__ if inspect.isclass(function) else inspect.unwrap(function)
            (options,) = get_args(typing.get_type_hints(plain, include_extras=True)[parameter.name])
            assert typing.is_typeddict(options) and not options.__required_keys__
            names |= dict.fromkeys(options.__annotations__, (True, None))
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            optional = parameter.default is not parameter.empty
            names[parameter.name] = (optional, parameter.default if optional else None)
    names.pop("self", None)
    return names


def test_every_published_call_is_a_call_of_ours(theirs: dict[str, Any]) -> None:
    wrong: list[str] = []
    defaults: set[str] = set()
    renamed: set[str] = set()
    for name, parameters in theirs["signatures"].items():
        function = ours(name)
        own = accepted(function)
        in_order = [
            one.name
            for one in inspect.signature(function).parameters.values()
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.POSITIONAL_ONLY)
        ]
        known = set()
        for place, (parameter, kind, optional, default) in enumerate(parameters):
            if parameter == "self":
                continue
            where = f"{name}.{parameter}"
            called = parameter
            if parameter not in own:
                renamed.add(where)
                if kind != "POSITIONAL_OR_KEYWORD" or len(in_order) <= place:
                    wrong.append(f"{where} is missing")
                    continue
                called = in_order[place]
            known.add(called)
            if kind == "POSITIONAL_OR_KEYWORD" and in_order[place : place + 1] != [called]:
                wrong.append(f"{where} is at another place: {in_order}")
            if optional and not own[called][0]:
                wrong.append(f"{where} may be left out there, and not here")
            if own[called] != (optional, default):
                defaults.add(where)
        wrong += [f"{name}.{more} must be given here" for more in own.keys() - known if not own[more][0]]
    assert not wrong, "\n".join(wrong)
    assert defaults == set(DIFFERENT_DEFAULTS)
    assert renamed == set(DIFFERENT_NAMES)


def test_everything_else_that_is_public_is_there(theirs: dict[str, Any]) -> None:
    with Agent(SEED, URL) as agent:
        assert all(hasattr(agent, name) for name in theirs["attributes"])
    assert all(hasattr(Agent, name) for name in theirs["protocols"])
    assert set(theirs["module"]) <= set(anporia_client.__all__)
    assert anporia_client.__version__


def test_the_key_may_be_given_by_its_published_name() -> None:
    call: Callable[..., Agent] = Agent
    with call(private_hex=SEED, relay_url=URL) as agent:
        assert agent.private_hex == SEED


def test_the_event_loop_agent_takes_the_same(theirs: dict[str, Any]) -> None:
    """What the published agent is to plain calls, ours is to an event loop too."""
    for name in theirs["signatures"]:
        if name.startswith("Agent."):
            assert accepted(getattr(AsyncAgent, name.removeprefix("Agent."))) == accepted(ours(name)), name


# ------------------------------------------------------------------------------------------------------- functions

_TASK, _OTHER = "ab" * 32, "cd" * 32
_PAYLOADS: list[list[Any]] = [
    ["ab" * 32, 0, 0, [], ""],
    ["ab" * 32, 2**53 - 1, 65_535, [["t", "x"], [], [""], ["a", "b", "c"]], 'quote " slash \\ / \b\t\n\f\r\0\x1f\x7f'],
    [_OTHER, NOW, 1, [["t", "日本"], ["🦑", "\u2028\ufeff"]], "é e\u0301 \u2029 \ud7ff \U0010ffff"],
]
_CALLS_OF_CRYPTO: list[tuple[str, list[Any]]] = [
    ("agent_id_from_private", [SEED]),
    ("agent_id_from_private", [SEED.upper()]),
    ("derive_keypair_from_passphrase", ["correct horse battery staple, twice over", "anp2-v1"]),
    ("derive_keypair_from_passphrase", ["日本 é", "salt", 10]),
    *[("canonical_payload", payload) for payload in _PAYLOADS],
    *[("compute_event_id", payload) for payload in _PAYLOADS],
    ("sign_event_id", [_TASK, SEED]),
    ("verify_signature", ["", "", ""]),
    ("verify_signature", ["zz" * 32, "zz" * 64, "zz" * 32]),
    ("verify_signature", [_TASK, "00" * 64, _OTHER]),
    ("verify_signature", [_TASK, "00" * 63, "00" * 32]),
]
_CRYPTO = """
import json, sys
from anp2_client import crypto

def plain(value):
    return value.hex() if isinstance(value, bytes) else value

out = [plain(getattr(crypto, name)(*arguments)) for name, arguments in json.loads(sys.argv[1])]
task, seed = json.loads(sys.argv[2])
own = crypto.agent_id_from_private(seed)
out.append(crypto.verify_signature(task, crypto.sign_event_id(task, seed), own))
print(json.dumps(out))
"""


def test_the_functions_of_crypto_give_the_same() -> None:
    got = published(_CRYPTO, json.dumps(_CALLS_OF_CRYPTO), json.dumps([_TASK, SEED]))
    here: list[Any] = []
    for name, arguments in _CALLS_OF_CRYPTO:
        value = getattr(crypto, name)(*arguments)
        here.append(value.hex() if isinstance(value, bytes) else list(value) if isinstance(value, tuple) else value)
    here.append(crypto.verify_signature(_TASK, crypto.sign_event_id(_TASK, SEED), crypto.agent_id_from_private(SEED)))
    assert here == got
    assert [type(half) for half in crypto.generate_keypair()] == [str, str]
    for key in ("", "zz", SEED[1:], "zz" * 32, SEED + "\n0"):
        with pytest.raises(AnporiaError):  # there it is binascii.Error, which is a ValueError, or that of nacl
            crypto.agent_id_from_private(key)


# ---------------------------------------------------------------------------------------------------------- events

_OFFER = {"name": "text.demo.v1", "description": "d", "input": "text", "output": "text", "price": "0"}
_ABOUT = {"name": "Ada", "description": "tests"}
_OF_TASK = {"task_id": _TASK, "capability": "text.demo.v1"}
Call = tuple[str, list[Any], dict[str, Any]]
CALLS: list[Call] = [
    ("publish", [1, "bare"], {}),
    ("publish", [1, "tagged", [["t", "x"], ["deep", "1", "2", "3"]]], {}),
    ("publish", [0, "{}", [["pow", "8"], ["x", "y"], ["nonce", "77"]]], {}),
    ("publish", [5, '{"claim":"c"}', [["t", "x"]]], {}),
    ("publish", [7, '{"category":"spam","reason":""}', [["e", _TASK], ["p", _OTHER]]], {}),
    ("publish", [50, "{}", []], {}),
    ("publish", [1500, "{}", [["s", "anporia.intent.declare.v1"]]], {}),
    ("publish", [], {"kind": 1, "content": "by name", "tags": None}),
    ("post", ["Hello ANP2!"], {}),
    ("post", ["日本 🦑 \u2028"], {"tags": [["t", "lobby"], ["lang", "ja"]]}),
    ("reply", ["re"], {"root_id": _TASK, "parent_id": _OTHER, "parent_agent_id": "ef" * 32}),
    ("declare_profile", [], _ABOUT),
    (
        "declare_profile",
        [],
        {**_ABOUT, "model_family": "m", "languages": ["ja", "en"], "extra": {"name": "B", "z": [1]}},
    ),
    ("ensure_profile", [], {**_ABOUT, "languages": ["ja"], "extra": {"homepage": "https://example.org/"}}),
    ("declare_capability", [[]], {}),
    ("declare_capability", [[_OFFER, {**_OFFER, "name": "text.demo.v2"}]], {}),
    ("beat", [], {}),
    ("beat", [], {"latency_ms": 12, "status": "degraded", "notes": "n"}),
    ("trust_vote", [], {"target_agent_id": _OTHER, "score": 1}),
    ("trust_vote", [], {"target_agent_id": _OTHER, "score": -1, "reason": "rude"}),
    ("beacon", [], {"intent": "seek", "about": "tea"}),
    ("beacon", [], {"intent": "offer", "about": "tea", "ttl_sec": 60, "topics": ["tea", "x"]}),
    (
        "request_task",
        [],
        {
            "capability": "text.demo.v1",
            "input": {"text": "abc", "n": 1.5},
            "constraints": {"deadline_unix": NOW + 60, "max_cost_usd": 0},
            "reward": {"currency": "credit", "amount": 0, "payment_method": "mocked", "escrow_method": "none"},
            "extra_tags": [["lang", "ja"]],
        },
    ),
    ("request_task", [], {"capability": "c", "input": {}, "constraints": {}, "reward": {}}),
    (
        "accept_task",
        [],
        {
            **_OF_TASK,
            "eta_unix": NOW + 30,
            "price_quote": {"currency": "USD", "amount": "0.01"},
            "terms_hash": "h",
            "requester_agent_id": _OTHER,
        },
    ),
    ("submit_result", [], {"task_id": _TASK, "output": [None, True, {"a": 1.0}], "runtime_ms": 5}),
    (
        "submit_result",
        [],
        {
            **_OF_TASK,
            "output": "cba",
            "runtime_ms": 0,
            "output_format": "text",
            "accept_event_id": "12" * 32,
            "requester_agent_id": _OTHER,
        },
    ),
    ("verify_task", [], {"task_id": _TASK, "verdict": "failed", "score": 0}),
    (
        "verify_task",
        [],
        {
            **_OF_TASK,
            "verdict": "passed",
            "score": 0.25,
            "reasons": ["r"],
            "evidence_event_ids": ["12" * 32],
            "result_event_id": "34" * 32,
            "provider_agent_id": _OTHER,
        },
    ),
    (
        "release_payment",
        [],
        {"task_id": _TASK, "payment_proof_url": "", "amount": "1", "currency": "USD", "tx_hash": ""},
    ),
    (
        "release_payment",
        [],
        {
            **_OF_TASK,
            "payment_proof_url": "https://example.org/p",
            "amount": "1",
            "currency": "credit",
            "tx_hash": "0x1",
            "payment_method": "anp2_credit",
            "disposition": "refund",
            "verify_event_id": "12" * 32,
            "provider_agent_id": _OTHER,
        },
    ),
    ("cancel_task", [], {"task_id": _TASK}),
    ("cancel_task", [], {**_OF_TASK, "reason": "late"}),
]
# what no published relay would take, refused before anything is sent
REFUSED: list[Call] = [
    ("verify_task", [], {"task_id": _TASK, "verdict": "good", "score": 1}),
    ("verify_task", [], {"task_id": _TASK, "verdict": "passed", "score": 1.01}),
    ("release_payment", [], {**CALLS[-4][2], "disposition": "keep"}),
    ("release_payment", [], {**CALLS[-4][2], "payment_method": "cash"}),
]
# The published client writes JSON contents with \uXXXX, ours as UTF-8 (shorter, and what a person can read in a
# log). It is the same JSON, another text, and so another event id: nobody compares texts of two clients.
ESCAPED: list[Call] = [
    ("declare_profile", [], {"name": "Édith", "description": "日本 🦑"}),
    ("ensure_profile", [], {"name": "Édith", "description": "日本 🦑"}),
    ("declare_capability", [[{**_OFFER, "description": "日本"}]], {}),
    ("trust_vote", [], {"target_agent_id": _OTHER, "score": 1, "reason": "güt"}),
    ("beat", [], {"notes": "é"}),
    ("beacon", [], {"intent": "seek", "about": "茶", "topics": ["茶"]}),
    ("request_task", [], {"capability": "c", "input": {"text": "茶"}, "constraints": {}, "reward": {}}),
    ("cancel_task", [], {"task_id": _TASK, "reason": "é"}),
]

_EVENTS = """
import json, sys, time
import anp2_client

now, seed, url, calls = json.loads(sys.argv[1])
time.time = lambda: now + 0.75

class Answer:
    def __init__(self, value): self.value = value
    def raise_for_status(self): pass
    def json(self): return self.value

class Relay:
    sent = None
    def post(self, url, json): self.sent = (url, json); return Answer({"id": json["id"], "accepted": True})
    def get(self, url, params=None): return Answer([])

agent = anp2_client.Agent(seed, url)
agent._client = relay = Relay()
out = []
for name, arguments, keywords in calls:
    relay.sent = None
    try:
        answer = getattr(agent, name)(*arguments, **keywords)
        out.append([relay.sent[0], relay.sent[1], answer])
    except ValueError as exc:
        out.append([None if relay.sent is None else "sent", "ValueError", None])
print(json.dumps(out))
"""


class Recorder:
    """A relay that takes everything, has nothing, and remembers what was sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[Request] = []

    def send(self, request: Request, *, timeout: float) -> Response:
        if request.method == "GET":
            return Response(200, {"content-type": "application/json"}, b"[]")
        self.sent.append(request)
        body = json.dumps({"id": self.event()["id"], "accepted": True})
        return Response(200, {"content-type": "application/json"}, body.encode())

    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sent[-1].body or b"")
        return found

    def open(self, request: Request, *, timeout: float, silence: float) -> Any:
        raise RelayUnreachable("there is no stream here", self.url)

    def close(self) -> None:
        pass


def signed_by_both(calls: list[Call]) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Make the same calls of both clients at the same time; gives where each sent what, and what it gave."""
    recorder = Recorder(URL)

    def transport(url: str, auth: object) -> Recorder:
        return recorder

    with Agent(SEED, URL + "/", transport=transport) as agent:
        agent.core.clock = Clock(wall=lambda: NOW + 0.75)
        here: list[list[Any]] = []
        for name, arguments, keywords in calls:
            recorder.sent.clear()
            try:
                answer = getattr(agent, name)(*arguments, **keywords)
            except ValueError:
                here.append(["sent" if recorder.sent else None, "ValueError", None])
            else:
                here.append([recorder.url + recorder.sent[-1].path, recorder.event(), answer])
    there = published(_EVENTS, json.dumps([NOW, SEED, URL + "/", calls]))
    for (name, arguments, keywords), one, other in zip(calls, there, here, strict=True):
        yield f"{name}({arguments}, {keywords})", one, other


def test_equal_calls_make_equal_events() -> None:
    for call, (their_url, their_event, their_answer), (our_url, our_event, our_answer) in signed_by_both(CALLS):
        assert our_url == their_url == f"{URL}/events", call
        # content and tags, and with them the id, the proof of work and the signature, byte for byte
        assert our_event == their_event, call
        assert set(our_answer) - set(their_answer) <= set(DIFFERENT_ANSWERS), call
        assert {name: our_answer[name] for name in their_answer} == their_answer, call
        assert our_answer["event"] == our_event, call


def test_beyond_ascii_equal_calls_make_equal_json() -> None:
    for call, (_, theirs_, _), (_, ours_, _) in signed_by_both(ESCAPED):
        assert json.loads(ours_["content"]) == json.loads(theirs_["content"]), call
        assert ours_["content"] != theirs_["content"], f"{call}: no difference any more"
        assert list(json.loads(ours_["content"])) == list(json.loads(theirs_["content"])), call
        for name in ("agent_id", "created_at", "kind"):
            assert ours_[name] == theirs_[name], call
        tags = [[tag for tag in event["tags"] if tag[0] != "nonce"] for event in (ours_, theirs_)]
        assert tags[0] == tags[1], call


def test_equal_calls_are_refused_by_both() -> None:
    for call, one, other in signed_by_both(REFUSED):
        assert one == other == [None, "ValueError", None], call


def test_every_verb_that_publishes_was_compared() -> None:
    compared = {name for name, _, _ in CALLS}
    assert compared == {
        *("publish", "post", "reply", "declare_profile", "ensure_profile", "declare_capability", "beat"),
        *("trust_vote", "beacon", "request_task", "accept_task", "submit_result", "verify_task", "release_payment"),
        "cancel_task",
    }
    assert {call[0] for call in ESCAPED} <= compared


# ------------------------------------------------------------------------------------------------------ one program

# As somebody writes it against the published client: every method, and nothing that names the package twice.
PROGRAM = """
import json, sys, threading, time
from pathlib import Path
from anp2_client import (Agent, agent_id_from_private, compute_event_id, derive_keypair_from_passphrase,
                         generate_keypair, join, sign_event_id, verify_signature)

url, out = sys.argv[1], {}
key = Path.home() / "keys/agent.priv"
agent = Agent.load_or_create(key, url)
out["again"] = Agent.load_or_create(str(key), relay_url=url, auth=None).agent_id == agent.agent_id
out["attributes"] = [agent.agent_id, agent.private_hex, agent.relay_url]
out["key"] = [len(key.read_text()), oct(key.stat().st_mode & 0o777)]
positional = Agent(agent.private_hex, url, 15.0, ("user", "password"))
out["positional"] = positional.agent_id == agent.agent_id
other = Agent.from_passphrase("a phrase that only this test uses, again and again", "anp2-v1", url)
out["other"] = other.agent_id
private, public = generate_keypair()
event_id = compute_event_id(public, 1, 1, [["t", "x"]], "text")
out["crypto"] = [agent_id_from_private(private) == public, event_id,
                 verify_signature(event_id, sign_event_id(event_id, private), public),
                 derive_keypair_from_passphrase("phrase", "salt", 10)]

heard, enough = [], threading.Event()
def listen():
    with Agent(private, relay_url=url) as listener:
        for event in listener.stream(topic="room"):
            heard.append(event)
            if event["content"] == "Hello":
                enough.set()
                return
threading.Thread(target=listen, daemon=True).start()
deadline = time.monotonic() + 20
while not heard and time.monotonic() < deadline:
    other.post("anybody there?", tags=[("t", "room")])
    time.sleep(0.05)
out["post"] = agent.post("Hello", tags=[("t", "room"), ("lang", "en")])
assert enough.wait(20)
out["stream"] = heard[-1]

root = out["post"]["id"]
out["publish"] = agent.publish(1, "by number", [["t", "room"]])
out["reply"] = other.reply("Re", root_id=root, parent_id=root, parent_agent_id=agent.agent_id)
out["profile"] = agent.declare_profile(name="Ada", description="tests", languages=["en"], extra={"x": 1})
out["ensure"] = agent.ensure_profile(name="Ada", description="tests", languages=["en"], extra={"x": 1})
out["ensure other"] = other.ensure_profile(name="Ben", description="tests too")
out["capability"] = agent.declare_capability([{"name": "test.run.v1", "description": "d"}])
out["vote"] = other.trust_vote(target_agent_id=agent.agent_id, score=1, reason="was there")
out["beat"] = agent.beat(latency_ms=1)
out["beacon"] = agent.beacon(intent="offer", about="tests", topics=["room"])

request = agent.request_task(capability="test.run.v1", input={"a": 1},
                             constraints={"deadline_unix": int(time.time()) + 600},
                             reward={"currency": "USD", "amount": "0", "payment_method": "mocked"})
out["request"], task = request, request["task_id"]
of = {"task_id": task, "capability": "test.run.v1"}
accept = other.accept_task(**of, eta_unix=int(time.time()) + 60, price_quote={"currency": "USD", "amount": "0"},
                           terms_hash="h", requester_agent_id=agent.agent_id)
out["accept"] = accept
result = other.submit_result(**of, output={"b": 2}, runtime_ms=1, accept_event_id=accept["id"],
                             requester_agent_id=agent.agent_id)
out["result"] = result
out["verify"] = agent.verify_task(**of, verdict="passed", score=1, result_event_id=result["id"],
                                  provider_agent_id=other.agent_id)
out["pay"] = agent.release_payment(**of, payment_proof_url="", amount="0", currency="USD", tx_hash="",
                                   provider_agent_id=other.agent_id)
out["task"] = agent.get_task(task)
void = agent.request_task(capability="test.run.v1", input={}, constraints={}, reward={}, extra_tags=[["x", "y"]])
out["cancel"] = agent.cancel_task(task_id=void["task_id"], reason="no")
out["cancelled"] = agent.get_task(void["task_id"])["status"]
out["credit"] = other.get_credit(other.agent_id)

now = int(time.time())
out["query"] = agent.query(kinds=[1, 2], authors=[agent.agent_id, other.agent_id], topic="room", since=now - 60,
                           until=now + 60, limit=2)
out["query all"] = [event["kind"] for event in agent.query(kinds=[0, 4, 6, 15, 50, 51, 52, 53, 54, 55])]
out["query none"] = agent.query(topic="nobody")
out["recent"] = [agent.has_recent_event(0), agent.has_recent_event(0, 3600), agent.has_recent_event(0, within_sec=-5),
                 agent.has_recent_event(9)]
out["stats"], out["rooms"] = agent.get_stats(), agent.get_rooms()
out["capabilities"], out["agents"] = agent.get_capabilities(), agent.get_agents()

for name, call in {
    "verdict": lambda: agent.verify_task(task_id=task, verdict="good", score=1),
    "unknown task": lambda: agent.get_task("no id"),
    "too large": lambda: agent.post("x" * 65537),
    "limit": lambda: agent.query(limit=1001),
    "bad beacon": lambda: agent.beacon(intent="sing", about="x"),
}.items():
    try:
        call()
        out[name] = "accepted"
    except Exception as exc:
        out[name] = "raised"

joined = join(name="Joiner", description="joins", capabilities=["test.join.v1"],
              key_path=str(key) + ".joined", relay_url=url)
out["joined"] = [event["kind"] for event in joined.query(authors=[joined.agent_id])]
for one in (positional, other, joined):
    one.close()
with agent as same:
    out["with"] = same is agent
print(json.dumps(out))
"""


def shape(value: Any) -> Any:
    """Give what a program may rely on: names of keys and types, and values that are no accident of this run."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, str):
        return re.sub(
            r"http://\S+|[0-9a-f]{64,128}|\b1[0-9]{9}\b",
            lambda it: f"<{it[0][:4] if ':' in it[0] else len(it[0])}>",
            value,
        )
    if isinstance(value, int) and not isinstance(value, bool) and value > 1_000_000_000:
        return "time"
    return value


def missing(theirs: Any, ours: Any, where: str, more: set[str]) -> Iterator[str]:
    """Yield what of `theirs` is missing or other in `ours`, and note in `more` the keys that only ours has."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        more |= {f"{where}.{key}" for key in ours.keys() - theirs.keys()}
        for key, item in theirs.items():
            if key not in ours:
                yield f"{where}.{key} is missing here"
            else:
                yield from missing(item, ours[key], f"{where}.{key}", more)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for place, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from missing(one, other, f"{where}[{place}]", more)
    elif theirs != ours:
        yield f"{where}: {theirs!r} there, {ours!r} here"


def _tidied(said: dict[str, Any]) -> dict[str, Any]:
    for name, answer in said.items():
        if isinstance(answer, dict) and "event" in answer:
            answer["event"]["tags"] = [tag if tag[0] != "nonce" else ["nonce", ""] for tag in answer["event"]["tags"]]
        if name == "task":
            for event in (answer["request"], *answer["events"]):
                event["tags"] = [tag if tag[0] != "nonce" else ["nonce", ""] for tag in event["tags"]]
            answer["events"].sort(key=lambda event: event["kind"])  # of one second, in the order of their ids
    # how often anybody was asked to speak before the stream was open is chance
    said["stats"] |= {"total_events": -1, "events_last_1h": -1}
    said["stats"]["by_kind"]["1"] = -1
    for room in said["rooms"]:
        room |= {"messages": -1, "event_count": -1}
    for agent in said["agents"]:
        agent["event_count"] = -1
    # of one second: their order says nothing
    said["agents"].sort(key=lambda agent: str(agent["name"]))
    said["rooms"].sort(key=lambda room: str(room["room"]))
    said["capabilities"].sort(key=lambda row: str(row["capability"]))
    for name in ("query all", "joined"):
        said[name].sort()
    # which two of several of one second came is chance too
    said["query"] = [sorted(event) for event in said["query"]]
    return said


def test_a_program_runs_with_only_its_import_changed(tmp_path: Path, theirs: dict[str, Any]) -> None:
    for name in theirs["signatures"]:
        last = name.rpartition(".")[2]
        if last != "canonical_payload":  # not exported by the package itself
            assert re.search(rf"\b{last}\(", PROGRAM), f"the program does not use {name}"
    programs = {"there": PROGRAM, "here": PROGRAM.replace("anp2_client", "anporia_client")}
    pythons = {"there": str(peer_python("anp2-client")), "here": sys.executable}
    homes = {name: tmp_path / name for name in programs}
    for home in homes.values():
        home.mkdir()

    def run(name: str) -> dict[str, Any]:
        # a relay each, since both programs publish as the same agent
        with RunningRelay(homes[name]) as relay:
            said: dict[str, Any] = _printed([pythons[name], "-I", "-c", programs[name], relay.url], homes[name])
        return said

    with ThreadPoolExecutor(2) as pool:
        said = dict(zip(programs, pool.map(run, programs), strict=True))
    more: set[str] = set()
    wrong = list(missing(shape(_tidied(said["there"])), shape(_tidied(said["here"])), "", more))
    assert not wrong, "\n".join(wrong)
    assert {key.rpartition(".")[2] for key in more} == set(DIFFERENT_ANSWERS), more


@pytest.mark.parametrize(
    "verb",
    [
        "query",
        "post",
        pytest.param("stream"),
    ],
)
def test_a_misspelt_name_is_an_error(verb: str) -> None:
    """As with the published client; for otherwise `stream(topics="tea")` is a stream of everything."""
    with Agent(SEED, URL, transport=lambda url, auth: Recorder(url)) as agent, pytest.raises(TypeError):
        getattr(agent, verb)(nonsense="tea")
