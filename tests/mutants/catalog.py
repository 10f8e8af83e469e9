"""The list: one line of the code that keeps features exact, and what it must not be."""

from dataclasses import dataclass
from typing import Final

KERNEL: Final = "layers/core/kernel/fold.c"
CORE: Final = "layers/core/python/retrodict/"
FUNCTIONS: Final = "functions/"
ADAPTERS: Final = "layers/adapters/python/retrodict_aws/"

FOLD: Final = (
    "tests/unit/test_state.py",
    "tests/unit/test_features.py",
    "tests/property/test_exact_features.py",
    "tests/property/test_same_hour.py",
    "tests/property/test_vocabulary.py",
    "tests/property/test_panes_and_decay.py",
)
HANDLERS: Final = ("tests/unit/test_handlers.py", "tests/contract/test_ports.py")
SIMULATED: Final = (
    "tests/simulation/test_simulation.py::test_few_seeds_hold_every_invariant",
)
COMPACTION: Final = ("tests/unit/test_compaction.py",)
JOINED: Final = ("tests/unit/test_joined_files.py",)
MERGING: Final = (*COMPACTION, "tests/property/test_merging_laws.py")
SEGMENTS: Final = (
    "tests/unit/test_segments.py",
    "tests/property/test_segment_laws.py",
)
CHUNKS: Final = ("tests/contract/test_chunked_states.py",)
POINT_IN_TIME: Final = ("tests/property/test_point_in_time.py",)
BULK: Final = ("tests/property/test_bulk.py",)
REBUILDING: Final = ("tests/unit/test_rebuilding.py",)
SCORING: Final = ("tests/unit/test_scoring.py", "tests/unit/test_score_events.py")
VALIDATION: Final = (
    "tests/unit/test_validation.py",
    "tests/unit/test_bad_inputs.py",
    "tests/property/test_validation_laws.py",
)


@dataclass(frozen=True)
class Mutant:
    """A defect: in `path`, `line` became `defect`; `tests` must fail."""

    name: str
    path: str
    line: str
    defect: str
    tests: tuple[str, ...] = FOLD


MUTANTS: Final = (
    Mutant(
        "no dedupe",
        f"{CORE}state.py",
        "if known is not None:",
        "if False:",
    ),
    Mutant(
        "a conflict is a duplicate",
        f"{CORE}state.py",
        "Outcome.DUPLICATE if known == entry else Outcome.CONFLICTING",
        "Outcome.DUPLICATE",
    ),
    Mutant(
        "late events count",
        f"{CORE}state.py",
        "        if is_late:\n",
        "        if False:\n",
    ),
    Mutant(
        "the horizon is open at the wrong end",
        f"{CORE}state.py",
        "if entry.time_us <= self._horizon():",
        "if entry.time_us < self._horizon():",
    ),
    Mutant(
        "what was judged before is judged again",
        f"{CORE}state.py",
        "        if is_known:\n",
        "        if False:\n",
    ),
    Mutant(
        "entries stand in the order of arrival",
        f"{CORE}state.py",
        "insort(self.entries, entry)",
        "self.entries.append(entry)",
    ),
    Mutant(
        "identities are forgotten at once",
        f"{CORE}state.py",
        "self.known[entry.identity] = entry",
        "pass",
    ),
    Mutant(
        "what last(n) reads is dropped",
        f"{CORE}state.py",
        "return max(0, behind - self.definition.depth)",
        "return behind",
    ),
    Mutant(
        "one event too many is kept",
        f"{CORE}state.py",
        "del self.entries[:drop]",
        "del self.entries[: drop - 1]",
    ),
    Mutant(
        "features are those of the newest event, not of this one",
        f"{CORE}state.py",
        "return self.definition.leaves_at(self.entries, entry.time_us, self.panes)",
        "return self.definition.leaves_at(self.entries, None, self.panes)",
    ),
    Mutant(
        "features are served where the window is gone",
        f"{CORE}state.py",
        "if entry.time_us < newest - self.definition.reach_us:",
        "if False:",
    ),
    Mutant(
        "sealed hours are kept for ever",
        f"{CORE}state.py",
        "        self._forget_panes()\n        return self.panes.kept()",
        "        return self.panes.kept()",
    ),
    Mutant(
        "a state grows beyond its item",
        f"{CORE}state.py",
        "return self.panes.size_with(dropped) <= room_bytes",
        "return True",
    ),
    Mutant(
        "order of delivery instead of position",
        f"{CORE}state.py",
        "key=lambda e: e.position)",
        "key=lambda e: 0)",
        (*FOLD, "tests/unit/test_handlers.py"),
    ),
    Mutant(
        "a stretch of time is closed at the wrong end",
        f"{CORE}windows.py",
        "return bisect_right(entries, time_us - self.width_us, 0, end, key=_time)",
        "return bisect_left(entries, time_us - self.width_us, 0, end, key=_time)",
    ),
    Mutant(
        "last(n) has one event more",
        f"{CORE}windows.py",
        "return max(0, end - self.count)",
        "return max(0, end - self.count - 1)",
    ),
    Mutant(
        "the future is looked at",
        f"{CORE}features.py",
        "end = bisect_right(entries, time_us, key=_time)",
        "end = len(entries)",
    ),
    Mutant(
        "the day itself is usual",
        f"{CORE}windows.py",
        "return range(hour - self.period_hours * self.count, hour, self.period_hours)",
        "return range(hour - self.period_hours * self.count, hour + 1, "
        "self.period_hours)",
    ),
    Mutant(
        "held events of an hour are left out",
        f"{CORE}views.py",
        "if end and entries[0].time_us <",
        "if False and entries[0].time_us <",
    ),
    Mutant(
        "at_least is more than",
        f"{CORE}views.py",
        "< self.window.at_least",
        "<= self.window.at_least",
    ),
    Mutant(
        "nulls take part",
        f"{CORE}views.py",
        "if self.nulls or None not in found:",
        "if True:",
    ),
    Mutant(
        "a lag that is not there counts from the first",
        f"{CORE}views.py",
        "    if len(values) < events:\n        return None\n",
        "",
    ),
    Mutant(
        "time since the event before reads one too far",
        f"{CORE}views.py",
        "entries[max(0, end - 2) : end]",
        "entries[max(0, end - 3) : end]",
    ),
    Mutant(
        "two meanings share a digest",
        f"{CORE}windows.py",
        'return f"last({self.width_us}us)"',
        'return "last(duration)"',
    ),
    Mutant(
        "panes begin a pane too early",
        f"{CORE}windows.py",
        "return range(newest - self.count + 1, newest + 1)",
        "return range(newest - self.count, newest + 1)",
    ),
    Mutant(
        "what is sealed is not read with what is held",
        f"{CORE}views.py",
        "return Summary.merge(parts) if len(parts) > 1 else parts[0]",
        "return parts[-1]",
    ),
    Mutant(
        "the last of a pane is its first",
        f"{CORE}panes.py",
        "known[-1].last,",
        "known[0].last,",
    ),
    Mutant(
        "weights do not halve",
        f"{CORE}decay.py",
        "return found >> halves",
        "return found",
    ),
    Mutant(
        "the unseen is the first",
        f"{CORE}leaves.py",
        "float(len(self.values)))",
        "0.0)",
    ),
    Mutant(
        "a full state never has room again",
        f"{CORE}state.py",
        "room_bytes += len(dropped) * self.entry_bytes",
        "room_bytes += 0",
    ),
    Mutant(
        "a running sum",
        f"{CORE}statistics.py",
        "return finite(fsum(values))",
        "return finite(float(sum(values)))",
    ),
    Mutant(
        "an average of shares",
        f"{CORE}statistics.py",
        "return None if total is None else finite(total / len(values))",
        "return finite(fsum(value / len(values) for value in values))",
    ),
    Mutant(
        "the textbook variance in doubles",
        f"{CORE}statistics.py",
        "return _std(len(values), sum(integers), "
        "sum(map(mul, integers, integers)), scale)",
        "m = fsum(values) / len(values)\n"
        "    return sqrt(fsum((v - m) ** 2 for v in values) / (len(values) - 1))",
    ),
    Mutant(
        "sums have more than one form",
        f"{CORE}statistics.py",
        "spare = min(scale, _zeros(total))",
        "spare = 0",
    ),
    Mutant(
        "a quantile is rounded twice",
        f"{CORE}statistics.py",
        "return float(exact)",
        "return low + (high - low) * float(between)",
    ),
    Mutant(
        "sealed hours lose what was there",
        f"{CORE}panes.py",
        "kept[index] = Summary.merge((before, found)) if before else found",
        "kept[index] = found",
    ),
    Mutant(
        "what was read before a change is served after it",
        f"{CORE}panes.py",
        "            self._join(grid, index, found)\n",
        "",
    ),
    Mutant(
        "the codec loses the squares",
        f"{CORE}codec.py",
        "squares = reader.sum() if flags & _SQUARES else None",
        "squares = (reader.sum(), None)[1] if flags & _SQUARES else None",
    ),
    Mutant(
        "null and zero have the same bytes",
        f"{CORE}codec.py",
        "return [None if bits >> n & 1 else next(rest) for n in range(count)]",
        "return [0.0 if bits >> n & 1 else next(rest) for n in range(count)]",
    ),
    Mutant(
        "minus zero is another zero",
        f"{CORE}expressions.py",
        "return value + 0.0 if math.isfinite(value) else None",
        "return value if math.isfinite(value) else None",
    ),
    Mutant(
        "redelivery writes again",
        f"{CORE}online.py",
        "if after == before:",
        "if False:",
        HANDLERS,
    ),
    Mutant(
        "a lost race is folded on the old state",
        f"{CORE}online.py",
        "item = _fold(work, store.load([work.entity]).get(work.entity)).item",
        "pass",
        HANDLERS,
    ),
    Mutant(
        "what is told again replaces what was told before",
        f"{FUNCTIONS}write_features/handler.py",
        'f"{segment_name(records)}-features-{told}"',
        'f"{segment_name(records)}-features"',
        HANDLERS,
    ),
    Mutant(
        "a batch that broke off is taken for folded",
        f"{FUNCTIONS}write_features/handler.py",
        "return again_from(projected.unfinished)",
        "return done()",
        SIMULATED,
    ),
    Mutant(
        "a batch that could not be told of is taken for folded",
        f"{FUNCTIONS}write_features/handler.py",
        "return again_from(records[0].sequence_number)",
        "return done()",
        SIMULATED,
    ),
    Mutant(
        "what the log refuses is taken for archived",
        f"{FUNCTIONS}archive_events/handler.py",
        "return again_from(records[0].sequence_number)",
        "return done()",
        SIMULATED,
    ),
    Mutant(
        "of what is archived again, only the last record is",
        f"{FUNCTIONS}archive_events/handler.py",
        "return again_from(records[0].sequence_number)",
        "return again_from(records[-1].sequence_number)",
        SIMULATED,
    ),
    Mutant(
        "rejects that could not be kept are forgotten",
        f"{FUNCTIONS}validate_records/handler.py",
        "return again_from(records[0].sequence_number)",
        "return again_from(records[-1].sequence_number)",
        SIMULATED,
    ),
    Mutant(
        "a put that timed out is taken for success",
        f"{ADAPTERS}kinesis_event_stream.py",
        "                refusal = error_code(error)\n                continue",
        "                return",
        SIMULATED,
    ),
    Mutant(
        "segments of two batches share a name",
        f"{ADAPTERS}kinesis_batch.py",
        'f"{first.shard_id}-{first.sequence_number}-{last.sequence_number}"',
        'f"{first.shard_id}-{first.sequence_number}"',
        SIMULATED,
    ),
    Mutant(
        "the batch goes on behind what failed",
        f"{CORE}online.py",
        "done.unfinished = min((w.sequence_number for w in rest), key=int)",
        "done.unfinished = max((w.sequence_number for w in rest), key=int)",
        HANDLERS,
    ),
    Mutant(
        "no version check",
        f"{ADAPTERS}dynamodb_online_store.py",
        '"ConditionExpression": "version = :before"',
        '"ConditionExpression": "attribute_exists(entity) OR version = :before"',
        HANDLERS,
    ),
    Mutant(
        "the first write overwrites",
        f"{ADAPTERS}dynamodb_online_store.py",
        '{"ConditionExpression": "attribute_not_exists(entity)"}',
        '{"ConditionExpression": "attribute_not_exists(nothing)"}',
        HANDLERS,
    ),
    Mutant(
        "a partial failure of a put is taken for success",
        f"{ADAPTERS}kinesis_event_stream.py",
        'if not answer["FailedRecordCount"]:',
        "if True:",
        HANDLERS,
    ),
    Mutant(
        "two records of a key travel in one call",
        f"{ADAPTERS}kinesis_event_stream.py",
        "for wave in zip_longest(*queues):",
        "for wave in [[entry for queue in queues for entry in queue]]:",
        HANDLERS,
    ),
    Mutant(
        "the log is overwritten",
        f"{ADAPTERS}s3_event_log.py",
        '                IfNoneMatch="*",\n',
        "",
        HANDLERS,
    ),
    Mutant(
        "another segment under a used name is accepted",
        f"{ADAPTERS}s3_event_log.py",
        'if head["Metadata"].get(ROWS_DIGEST) != digest:',
        "if False:",
        HANDLERS,
    ),
    Mutant(
        "merged segments are not compared with their sources",
        f"{CORE}compaction.py",
        "if held != told:",
        "if False:",
        COMPACTION,
    ),
    Mutant(
        "sources are deleted without a day of grace",
        f"{CORE}compaction.py",
        "file.name not in listed or now_us - file.written_us < GRACE_US",
        "False",
        COMPACTION,
    ),
    Mutant(
        "two runs may delete each other's merged segments",
        f"{CORE}compaction.py",
        "or file.written_us < written_us.get((file.bucket, file.version), 0)",
        "or True",
        COMPACTION,
    ),
    Mutant(
        "one position may hold two events",
        f"{CORE}compaction.py",
        "if other is not event and _canonical(other) != _canonical(event):",
        "if False:",
        COMPACTION,
    ),
    Mutant(
        "rows at one position need not be one event",
        f"{CORE}merging.py",
        "if digest_of_table(one) != digest_of_table(other):",
        "if False:",
        MERGING,
    ),
    Mutant(
        "a position that was delivered twice is merged twice",
        f"{CORE}merging.py",
        "firsts: NDArray[np.int64] = rows[mark != REPEATS]",
        "firsts: NDArray[np.int64] = rows",
        MERGING,
    ),
    Mutant(
        "merged rows stay in the order of knowing",
        f"{CORE}merging.py",
        "rows = rows[_stable_order(group, len(groups))]",
        "rows = np.sort(rows)",
        MERGING,
    ),
    Mutant(
        "positions of a key lose their order",
        f"{CORE}merging.py",
        'order: NDArray[np.int64] = np.argsort(narrow, kind="stable")',
        'order: NDArray[np.int64] = np.argsort(narrow[::-1], kind="stable")[::-1]',
        MERGING,
    ),
    Mutant(
        "versions of a contract share a merged segment",
        f"{CORE}merging.py",
        "key=lambda one: one[0][:2]",
        "key=lambda one: one[0][:1]",
        MERGING,
    ),
    Mutant(
        "a digest of columns takes all zeros for one",
        f"{CORE}table_digest.py",
        "digest.update(_one_nan(chunk.to_numpy()))",
        "digest.update(_one_nan(chunk.to_numpy() + 0.0))",
        MERGING,
    ),
    Mutant(
        "a digest of columns forgets what is late",
        f"{CORE}table_digest.py",
        '"late", "digest",',
        '"digest",',
        MERGING,
    ),
    Mutant(
        "identities are not looked for on other dates",
        f"{CORE}reuse.py",
        "        own.meet(batch)",
        "        del batch",
        MERGING,
    ),
    Mutant(
        "of two payloads the later is taken for the first",
        f"{CORE}reuse.py",
        "key=lambda seen: seen.position)[1:]",
        "key=lambda seen: seen.position)[:-1]",
        MERGING,
    ),
    Mutant(
        "pages of joined files stay where they were",
        "layers/core/kernel/footers.c",
        "case COLUMN: return field == 9 ||",
        "case COLUMN: return",
        JOINED,
    ),
    Mutant(
        "dictionaries of joined files stay where they were",
        "layers/core/kernel/footers.c",
        "field == 10 || field == 11 ||",
        "field == 10 ||",
        JOINED,
    ),
    Mutant(
        "joined files of another schema are alike",
        f"{ADAPTERS}joined_files.py",
        "frame = footer[:begin], footer[end:groups_begin], footer[groups_end:]",
        'frame = footer[:begin], footer[end:groups_begin], b""',
        JOINED,
    ),
    Mutant(
        "a segment that has gone is skipped",
        f"{ADAPTERS}s3_event_log.py",
        "                segments = [*self._list(below)]\n",
        "                return\n",
        COMPACTION,
    ),
    Mutant(
        "a payload that columns change has no text",
        f"{ADAPTERS}segments.py",
        "value, survives[place] = None, False",
        "value = None",
        SEGMENTS,
    ),
    Mutant(
        "columns of another version are believed",
        f"{ADAPTERS}segments.py",
        "current = [e.schema_version == contract.version for e in events]",
        "current = [True for e in events]",
        SEGMENTS,
    ),
    Mutant(
        "a rebuild takes back what the log has not got yet",
        f"{CORE}replaying.py",
        "if fold is None or entity in self.ahead:",
        "if fold is None:",
        REBUILDING,
    ),
    Mutant(
        "a rebuild without all parts is one",
        f"{CORE}replaying.py",
        "if sorted(told) != [*range(BUCKETS)] or len(parts) != BUCKETS:",
        "if False:",
        REBUILDING,
    ),
    Mutant(
        "the stream scores what was not applied",
        f"{CORE}scoring.py",
        "if folded.outcome is not Outcome.APPLIED:",
        "if False:",
        SCORING,
    ),
    Mutant(
        "every alert is an onset",
        f"{CORE}scoring.py",
        "is_onset = last_us is None or event.time_us - last_us > gap_us",
        "is_onset = True",
        SCORING,
    ),
    Mutant(
        "an import was seen when it arrived",
        f"{CORE}validation.py",
        "if envelope.import_id is None:",
        "if True:",
        VALIDATION,
    ),
    Mutant(
        "the future is accepted",
        f"{CORE}validation.py",
        "    ahead_us = envelope.time_us - observed_at_us\n"
        "    if ahead_us > FUTURE_TOLERANCE_US:",
        "    ahead_us = envelope.time_us - observed_at_us\n    if False:",
        VALIDATION,
    ),
    Mutant(
        "what a chunk let go is read again",
        f"{CORE}chunks.py",
        "sorted(entries)[-parts.events :]",
        "sorted(entries)",
        CHUNKS,
    ),
    Mutant(
        "a state without one of its chunks is read",
        f"{ADAPTERS}dynamodb_online_store.py",
        "if with_state and found[entity].keys() != set(refs.values()):",
        "if False:",
        CHUNKS,
    ),
    Mutant(
        "a chunk is written over another",
        f"{ADAPTERS}dynamodb_online_store.py",
        'return f"{name}@{version}-{digest}"',
        'return f"{name}@1-{digest[:0]}"',
        CHUNKS,
    ),
    Mutant(
        "the oldest chunk is written for every event that it lets go",
        f"{CORE}chunks.py",
        "return bool(after) and before[-len(after) :] == after",
        "return False",
        CHUNKS,
    ),
    Mutant(
        "a row knows what came at the next position",
        f"{CORE}point_in_time.py",
        "return [bisect_right(stamps, self._position[place]) for place in places]",
        "return [bisect_right(stamps, self._position[place]) + 1 for place in places]",
        POINT_IN_TIME,
    ),
    Mutant(
        "a row knows what had not arrived, where something later had",
        f"{CORE}point_in_time.py",
        "stamps = list(accumulate((e.observed_at_us for e in events), max))",
        "stamps = sorted(e.observed_at_us for e in events)",
        POINT_IN_TIME,
    ),
    Mutant(
        "rows come back in the order of their keys",
        f"{CORE}point_in_time.py",
        "back = np.argsort(np.array(order, np.int64))",
        "back = np.arange(len(order))",
        POINT_IN_TIME,
    ),
    Mutant(
        "a row in bulk does not know the event at its own position",
        f"{CORE}bulk.py",
        "asked.known[asks[0]] <= known:",
        "asked.known[asks[0]] < known:",
        BULK,
    ),
    Mutant(
        "whole numbers past 2**53 are computed as doubles",
        f"{CORE}bulk.py",
        "is_exact = all(float(value) == value for value in program.constants)",
        "is_exact = True",
        BULK,
    ),
    Mutant(
        "a burst is told where there is a conflict",
        f"{CORE}excess.py",
        "if one.outcome is Outcome.TOO_FAST]",
        "if one.outcome is Outcome.CONFLICTING]",
        HANDLERS,
    ),
    Mutant(
        "compiled: late events count",
        KERNEL,
        "    if (f->late[i]) return LATE;\n",
        "",
        BULK,
    ),
    Mutant(
        "compiled: a window is a microsecond longer",
        KERNEL,
        "return t - w->size;",
        "return t - w->size - 1;",
        BULK,
    ),
    Mutant(
        "compiled: halves are rounded up",
        KERNEL,
        "kept += (uint64_t)(rest | (int)(kept & 1));",
        "kept += 1;",
        BULK,
    ),
    Mutant(
        "compiled: what leaves a window stays in its sum",
        KERNEL,
        "sum += negative != is_added ? part : -part;",
        "sum += negative ? -part : part;",
        BULK,
    ),
    Mutant(
        "compiled: features are served however far behind",
        KERNEL,
        "if (t < latest - f->reach_us) return 0;",
        "",
        BULK,
    ),
    Mutant(
        "compiled: places that moved are read as before",
        KERNEL,
        "s->is_stale = 1; /* places have moved */",
        "",
        BULK,
    ),
)
