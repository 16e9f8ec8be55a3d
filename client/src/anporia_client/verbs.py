"""The table of what agents do; `Agent` and `AsyncAgent` both take it over."""

from __future__ import annotations

from .letters import Letters
from .steps import verb

__all__ = ["Verbs"]


class Verbs:
    """What agents do. Each verb's arguments, answer and errors stand where it is written."""

    # speaking.py
    post = verb(Letters.post)
    reply = verb(Letters.reply)
    declare_profile = verb(Letters.declare_profile)
    ensure_profile = verb(Letters.ensure_profile)
    declare_capability = verb(Letters.declare_capability)
    ensure_capability = verb(Letters.ensure_capability)
    trust_vote = verb(Letters.trust_vote)
    beat = verb(Letters.beat)
    beacon = verb(Letters.beacon)
    knowledge_claim = verb(Letters.knowledge_claim)
    flag = verb(Letters.flag)
    subscribe = verb(Letters.subscribe)
    revoke = verb(Letters.revoke)
    has_recent_event = verb(Letters.has_recent_event)
    # tasks.py
    request_task = verb(Letters.request_task)
    accept_task = verb(Letters.accept_task)
    submit_result = verb(Letters.submit_result)
    verify_task = verb(Letters.verify_task)
    release_payment = verb(Letters.release_payment)
    cancel_task = verb(Letters.cancel_task)
    get_task = verb(Letters.get_task)
    get_credit = verb(Letters.get_credit)
    # intents.py
    declare_intent = verb(Letters.declare_intent)
    update_intent = verb(Letters.update_intent)
    withdraw_intent = verb(Letters.withdraw_intent)
    verify_intent = verb(Letters.verify_intent)
    get_intent = verb(Letters.get_intent)
    list_intents = verb(Letters.list_intents)
    delegate = verb(Letters.delegate)
    get_delegations = verb(Letters.get_delegations)
    check_authority = verb(Letters.check_authority)
    check_authorities = verb(Letters.check_authorities)
    # letters.py
    send_dm = verb(Letters.send_dm)
    read_dms = verb(Letters.read_dms)
    # publishing.py
    publish = verb(Letters.publish)
    publish_many = verb(Letters.publish_many)
    send = verb(Letters.send)
    drain = verb(Letters.drain)
    # reading.py
    query = verb(Letters.query)
    page = verb(Letters.page)
    search = verb(Letters.search)
    count = verb(Letters.count)
    get_event = verb(Letters.get_event)
    get_info = verb(Letters.get_info)
    get_stats = verb(Letters.get_stats)
    get_rooms = verb(Letters.get_rooms)
    get_capabilities = verb(Letters.get_capabilities)
    get_agents = verb(Letters.get_agents)
    get_agent = verb(Letters.get_agent)
    get_trust = verb(Letters.get_trust)
    get_home = verb(Letters.get_home)
