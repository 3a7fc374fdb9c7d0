"""The bugs that `make mutants` seeds: where, what, and which tests must see it."""

from dataclasses import dataclass

_KIT = "libs/servicekit/kgl_servicekit"
_TESTS = "libs/servicekit/tests"
_PATH = f"{_TESTS}/component/test_event_path.py"
_GUARDS = f"{_TESTS}/component/test_event_guards.py"
_GAPS = f"{_TESTS}/component/test_event_gaps.py"
_MEMORY = f"{_TESTS}/component/test_relay_memory.py"
_TRANSACTION = f"{_TESTS}/component/test_transaction.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: `old` stands once in `file` and becomes `new`; one of `tests` fails then.

    With `simulated` the simulation alone (`make simulate`) sees it, too; it needs no other test then.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    simulated: bool = False


MUTANTS = (
    Mutant(
        "duplicate check removed",
        f"{_KIT}/events/order.py",
        'if at <= known:\n            return "duplicate"',
        'if at <= known:\n            return "next"',
        (f"{_PATH}::test_what_comes_twice_has_one_effect",),
        simulated=True,
    ),
    Mutant(
        "inbox check removed",
        f"{_KIT}/events/order.py",
        "where not exists (select from inbox n where n.subscription = $1 and n.event_id = fresh.event_id)",
        "where true",
        (f"{_TESTS}/component/test_event_inbox.py::test_an_id_has_one_effect_in_one_batch_and_over_batches",),
    ),
    Mutant(
        "offsets committed early",
        f"{_KIT}/events/settle.py",
        "    deliveries = batch.deliveries\n",
        '    deliveries = batch.deliveries\n    await tx.execute("commit")\n    await tx.execute("begin")\n',
        (f"{_PATH}::test_a_failing_event_holds_its_key_alone_and_is_tried_until_it_works",),
        simulated=True,
    ),
    Mutant(
        "seek-back removed",
        f"{_KIT}/events/consumer.py",
        "            except Unavailable as out:\n                await self._seek_back(consumer, polled)\n",
        "            except Unavailable as out:\n",
        (f"{_GUARDS}::test_an_outage_in_a_handler_is_waited_out_spends_no_attempt_and_loses_nothing",),
        simulated=True,
    ),
    Mutant(
        "relay by id with SKIP LOCKED",
        f"{_KIT}/events/relay.py",
        "order by p.id limit $2",
        "order by p.id limit $2 for update of p skip locked",
        (f"{_GUARDS}::test_a_relay_passes_no_earlier_event_of_a_key_that_somebody_has_locked",),
        simulated=True,
    ),
    Mutant(
        "sequence drawn before the lock",
        f"{_KIT}/events/outbox.py",
        "    on conflict (topic, key) do update set last = k.last + excluded.last\n"
        "    returning k.topic, k.key, k.last\n",
        "    on conflict (topic, key) do update set last = greatest(k.last, excluded.last)\n"
        "    returning k.topic, k.key, (select coalesce(max(sequence), 0) from outbox_log o"
        " where o.topic = k.topic and o.key = k.key)\n"
        "        + (select count(*) from input i where i.topic = k.topic and i.key = k.key) as last\n",
        (f"{_TRANSACTION}::test_concurrent_writers_of_one_key_number_without_gaps_in_id_order",),
        simulated=True,
    ),
    Mutant(
        "sequence of one event drawn before the lock",
        f"{_KIT}/events/outbox.py",
        "    on conflict (topic, key) do update set last = k.last + excluded.last\n    returning k.last\n",
        "    on conflict (topic, key) do update set last = greatest(k.last, excluded.last)\n"
        "    returning 1 + (select coalesce(max(sequence), 0) from outbox_log where topic = $2 and key = $3) as last\n",
        (f"{_TRANSACTION}::test_concurrent_writers_of_one_key_number_without_gaps_in_id_order",),
        simulated=True,
    ),
    Mutant(
        "outbox row outside the transaction",
        f"{_KIT}/database/transaction.py",
        "            await write_outgoing(self._connection, pending.events)\n",
        '            await self._connection.execute("commit")\n'
        '            await self._connection.execute("begin")\n'
        "            await write_outgoing(self._connection, pending.events)\n",
        (f"{_GUARDS}::test_without_a_place_for_its_event_an_effect_is_not_there_either",),
        simulated=True,
    ),
    Mutant(
        "durable attempts dropped",
        f"{_KIT}/events/holds.py",
        "update held_event set attempts = attempts + 1, next_at",
        "update held_event set attempts = attempts, next_at",
        (f"{_PATH}::test_an_event_that_never_works_is_dead_after_its_attempts_and_keeps_its_key",),
        simulated=True,
    ),
    Mutant(
        "attempts counted only after they were made",
        f"{_KIT}/events/redrive.py",
        'if head["attempts"] >= subscription.attempts:',
        "if False:",
        (f"{_GUARDS}::test_a_held_event_that_ends_its_workers_is_dead_when_its_attempts_are_spent",),
    ),
    Mutant(
        "redrive without the key lock",
        f"{_KIT}/events/holds.py",
        'where subscription = $1 and topic = $2 and key = $3 for update"',
        'where subscription = $1 and topic = $2 and key = $3"',
        (f"{_GUARDS}::test_a_key_is_not_freed_while_an_event_is_being_parked_behind_it",),
        simulated=True,
    ),
    Mutant(
        "dead letter without parking",
        f"{_KIT}/events/settle.py",
        "elif delivery.key in self.held and not await self._fills_gap(delivery) and not _ends_key(delivery):",
        "elif False:",
        (f"{_PATH}::test_an_event_that_never_works_is_dead_after_its_attempts_and_keeps_its_key",),
        simulated=True,
    ),
    Mutant(
        "handler ids by uuid7",
        f"{_KIT}/database/transaction.py",
        '        if self.cause.kind == "request":\n            return uuid7()',
        "        if True:\n            return uuid7()",
        (f"{_TRANSACTION}::test_ids_repeat_under_an_event_and_never_under_a_request",),
        simulated=True,
    ),
    Mutant(
        "event ids by uuid7",
        f"{_KIT}/database/transaction.py",
        'return fast_uuid7() if self.cause.kind == "request" else fast_derived_id(self.cause.id, kind, ordinal)',
        "return fast_uuid7()",
        (f"{_TRANSACTION}::test_ids_repeat_under_an_event_and_never_under_a_request",),
        simulated=True,
    ),
    Mutant(
        "Unavailable counted as an attempt",
        f"{_KIT}/events/consumer.py",
        "except (Unavailable, PositionMoved, *LOST):",
        "except PositionMoved:",
        (f"{_GUARDS}::test_an_outage_in_a_handler_is_waited_out_spends_no_attempt_and_loses_nothing",),
        simulated=True,
    ),
    Mutant(
        "Unavailable counted as an attempt of a held event",
        f"{_KIT}/events/redrive.py",
        "            await self._database.run((), undo_attempt, attempt)\n",
        "            pass\n",
        (f"{_GUARDS}::test_an_outage_while_a_held_event_is_tried_gives_the_attempt_back",),
        simulated=True,
    ),
    Mutant(
        "log offsets by sequence",
        f"{_KIT}/bus/postgres_schema.py",
        "    order by p.topic, p.partition for update\n",
        "    order by p.topic, p.partition\n",
        (f"{_TESTS}/contract/test_bus_contract.py::test_no_reader_passes_an_offset_that_may_still_appear",),
    ),
    Mutant(
        "position moved without compare-and-set",
        f"{_KIT}/events/settle.py",
        "and partition = $4 and next = $6\nreturning",
        "and partition = $4 and $6::bigint is not null\nreturning",
        (f"{_GUARDS}::test_a_batch_that_does_not_begin_at_the_stored_position_is_refused_whole",),
    ),
    Mutant(
        "gap ignored",
        f"{_KIT}/events/order.py",
        '            return "next"\n        return "gap"',
        '            return "next"\n        return "next"',
        (f"{_PATH}::test_a_gap_waits_for_the_missing_event_and_closes_in_order",),
        simulated=True,
    ),
    Mutant(
        "an event behind a gap handled twice",
        f"{_KIT}/events/redrive.py",
        'if known is not None and at <= (known["epoch"], known["last"]):',
        "if False:",
        (f"{_GAPS}::test_events_behind_a_gap_have_one_effect_however_often_they_come",),
        simulated=True,
    ),
    Mutant(
        "attempts behind a gap not counted",
        f"{_KIT}/events/redrive.py",
        "set reason = 'behind' where id = $1",
        "set reason = 'gap', attempts = 0 where id = $1",
        (f"{_GAPS}::test_an_event_behind_a_gap_that_never_works_is_dead_after_its_attempts",),
        simulated=True,
    ),
    Mutant(
        "held events of two lives of a topic taken for one",
        f"{_KIT}/events/holds.py",
        "        record.topic,\n        incarnation,\n",
        '        record.topic,\n        "",\n',
        (f"{_GAPS}::test_a_refused_event_of_a_new_life_of_the_topic_is_held_beside_that_of_the_old_one",),
        simulated=True,
    ),
    Mutant(
        "position beyond the log believed",
        f"{_KIT}/events/positions.py",
        'case when p.next <> l.before or p.next between l.begin and l."end" then p.next else l.begin end as next',
        "p.next as next",
        (f"{_GAPS}::test_a_log_that_was_restored_to_less_is_read_again_and_nothing_is_skipped",),
    ),
    Mutant(
        "tick although an event of identity is refused",
        f"{_KIT}/events/relay.py",
        "where not exists (select from relay_refused where topic = any($1::text[]))",
        "where $1::text[] is not null",
        (f"{_MEMORY}::test_no_tick_says_that_all_was_sent_while_an_event_of_identity_is_refused",),
    ),
    Mutant(
        "too old executed",
        f"{_KIT}/events/order.py",
        "when f.event_id is not null then 'duplicate' else 'too_old' end",
        "when f.event_id is not null then 'duplicate' else 'next' end",
        (
            f"{_TESTS}/component/test_event_inbox.py::test_what_is_older_than_the_inbox_or_from_the_future_is_held_and_never_executed",
        ),
    ),
    Mutant(
        "reject breaker ignored",
        f"{_KIT}/events/consumer.py",
        "        self._breaker.check(batch.partition, *_refused(outcomes))\n",
        "",
        (
            f"{_TESTS}/component/test_event_breaker.py::test_a_topic_that_cannot_be_handled_is_not_turned_into_dead_letters",
        ),
    ),
    Mutant(
        "a breaker that has been open counts what made it open",
        f"{_KIT}/events/consumer.py",
        "                self._breaker.forget()\n",
        "",
        (
            f"{_TESTS}/component/test_event_breaker.py::"
            "test_after_each_pause_as_many_become_dead_letters_as_trip_it_and_the_healthy_get_through",
        ),
    ),
    Mutant(
        "refused event passed by a later one of its key in a batch",
        f"{_KIT}/events/settle.py",
        "if any(later.key == refused.delivery.key for later in run[place + 1 :]):",
        "if False:",
        (
            f"{_TESTS}/component/test_event_batches.py::test_a_refused_event_holds_what_comes_after_it_in_the_same_batch",
        ),
    ),
    Mutant(
        "deaths not counted",
        f"{_KIT}/events/positions.py",
        "deaths = case when in_flight = $5 then deaths + 1 else 1 end",
        "deaths = 1",
        (
            f"{_TESTS}/faults/test_killed_workers.py::test_an_event_that_kills_its_workers_is_quarantined_and_all_others_have_their_effect",
        ),
    ),
    Mutant(
        "acknowledgements forgotten",
        f"{_KIT}/events/relay_memory.py",
        "lost.append(topic)\n        if lost:\n            raise BrokerLostData(lost)\n\n    async def check_lives",
        "lost.append(topic)\n        if False:\n            raise BrokerLostData(lost)\n\n    async def check_lives",
        (f"{_TESTS}/component/test_relay_memory.py::test_a_broker_with_less_than_it_acknowledged_is_noticed_too",),
        simulated=True,
    ),
    Mutant(
        "another relay's life of a topic not asked for",
        f"{_KIT}/events/relay_memory.py",
        "            await self.check()\n            for topic in topics:",
        "            for topic in topics:",
        (
            f"{_MEMORY}::test_a_relay_that_has_sent_nothing_to_a_topic_knows_that_another_one_has_sent_to_its_earlier_life",
        ),
    ),
    Mutant(
        "acknowledgements of two lives noted as one",
        f"{_KIT}/events/relay_memory.py",
        "where p.incarnation = excluded.incarnation returning",
        "where true returning",
        (f"{_MEMORY}::test_what_was_acknowledged_in_another_life_of_a_topic_than_is_noted_is_sent_again",),
    ),
    Mutant(
        "refill under new ids of the log",
        f"{_KIT}/events/refill.py",
        "where topic = any($1::text[])\non conflict do nothing",
        "where topic = any($1::text[]) and false\non conflict do nothing",
        (
            f"{_TESTS}/component/test_relay_memory.py::test_nothing_is_sent_to_a_broker_that_forgot_until_it_is_refilled_and_nothing_has_a_second_effect",
        ),
        simulated=True,
    ),
    Mutant(
        "lease token ignored",
        f"{_KIT}/jobs/queue.py",
        'where id = $1 and token = $2 and state = \'running\'"""\n'
        "    return await tx.execute(sql, job.id, job.token, state,",
        'where id = $1 and $2::bigint is not null and state = \'running\'"""\n'
        "    return await tx.execute(sql, job.id, job.token, state,",
        (f"{_TESTS}/component/test_job_runner.py::test_an_old_holder_changes_nothing_while_another_one_has_the_job",),
    ),
    Mutant(
        "tombstone ignored",
        "services/graph/kgl_graph/db/documents.py",
        'living = row["deleted_at"] is None',
        "living = True",
        (
            "services/graph/tests/component/test_graph_orders.py::test_every_order_with_a_deletion_ends_in_a_tombstone_and_nothing_else",
        ),
    ),
    Mutant(
        "blob state ignored",
        "services/ingest/kgl_ingest/db/blobs.py",
        "and sha256 = $2 and state = 'live'\n           order by",
        "and sha256 = $2\n           order by",
        (
            "services/ingest/tests/component/test_ingest_collector.py::test_the_same_content_is_stored_anew_while_its_old_file_is_going",
        ),
    ),
    Mutant(
        "pending row deleted without an acknowledgement",
        f"{_KIT}/events/relay.py",
        '[row["id"] for row in rows[: len(acks)]], acks',
        '[row["id"] for row in rows], acks',
        (
            f"{_TESTS}/component/test_relay_memory.py::test_an_event_that_the_bus_will_never_take_holds_its_key_and_no_other",
        ),
        simulated=True,
    ),
    Mutant(
        "a refill's rows forgotten",
        f"{_KIT}/events/relay.py",
        "where s.owner = $4 for share of s",
        "where s.owner = $4",
        (f"{_MEMORY}::test_what_a_refill_puts_back_is_not_forgotten_by_who_got_its_acknowledgement_before",),
    ),
    Mutant(
        "relay behind a cursor",
        f"{_KIT}/events/relay.py",
        "where p.shard = any($1::smallint[])\n",
        "where p.shard = any($1::smallint[]) and p.id > coalesce((select max(d.id) from outbox_log d"
        " where not exists (select from outbox_pending q where q.id = d.id)), 0)\n",
        (),
        simulated=True,
    ),
    Mutant(
        "acknowledged events forgotten under newer epochs",
        f"{_KIT}/events/relay.py",
        "_DELETE, ids, list(epochs), list(epochs.values()),",
        "_DELETE, ids, list(self._shards.owned), list(self._shards.owned.values()),",
        (
            f"{_MEMORY}::test_what_a_refill_puts_back_is_not_forgotten_under_epochs_that_are_newer_than_the_acknowledgement",
        ),
    ),
    Mutant(
        "life of a topic asked after it was sent to",
        f"{_KIT}/events/relay.py",
        '        await self._memory.learn(dict.fromkeys(row["topic"] for row in rows))\n',
        "",
        (f"{_MEMORY}::test_what_is_lost_between_the_first_acknowledgement_of_a_topic_and_its_note_is_noticed",),
        simulated=True,
    ),
    Mutant(
        "relay does not compare at its start",
        f"{_KIT}/events/relay.py",
        "if self.lost is not None or not self._compared:",
        "if self.lost is not None:",
        (f"{_MEMORY}::test_a_relay_that_starts_beside_an_empty_broker_notices_it_though_nothing_is_to_be_sent",),
        simulated=True,
    ),
    Mutant(
        "attempt without an answer kept",
        f"{_KIT}/events/redrive.py",
        "            if self._counted is not None:\n                self._undone.add(self._counted)\n",
        "",
        (
            f"{_TESTS}/component/test_event_races.py::"
            "test_an_attempt_that_was_counted_without_an_answer_and_not_made_is_given_back",
        ),
        simulated=True,
    ),
)
