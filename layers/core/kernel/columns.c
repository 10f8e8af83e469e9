/* What the Arrow buffers of the event log say, as the fold over columns reads it.
 *
 * Texts come as Arrow keeps them: bytes one after the other, and n + 1 offsets.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sha256.h"

/* --- identities -------------------------------------------------------------------- */

static int64_t longest(int64_t n, const int32_t *at) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++)
        if (at[i + 1] - at[i] > most) most = at[i + 1] - at[i];
    return most;
}

/* Write source, with its length, and id of a row; return how many bytes these are. */
static int64_t put_identity(uint8_t *to, int64_t row, const int32_t *source_at,
                            const uint8_t *source, const int32_t *id_at,
                            const uint8_t *id) {
    int64_t first = source_at[row + 1] - source_at[row];
    int64_t second = id_at[row + 1] - id_at[row];
    put_big(to, (uint64_t)first, 4);
    if (first) memcpy(to + 4, source + source_at[row], (size_t)first);
    if (second) memcpy(to + 4 + first, id + id_at[row], (size_t)second);
    return 4 + first + second;
}

/* The first 64 bits of the SHA-256 of each source, with its length, and id; by the
 * instructions of the processor where it `has_instructions` for that.
 * 0 on success, 1 where memory ran out. */
int retrodict_identities(int64_t n, const int32_t *source_at, const uint8_t *source,
                         const int32_t *id_at, const uint8_t *id, uint64_t *identity,
                         int has_instructions) {
    int64_t most = 4 + longest(n, source_at) + longest(n, id_at) + 9;
    int64_t room = (most + BLOCK - 1) / BLOCK * BLOCK;
    uint8_t *message = malloc((size_t)(LANES * room));
    if (!message) return 1;
    for (int64_t i = 0; has_instructions && i < n; i += AT_ONCE) {
        const uint8_t *both[AT_ONCE];
        uint32_t state[AT_ONCE][8];
        int64_t blocks[AT_ONCE];
        for (int m = 0; m < AT_ONCE; m++) {
            int64_t row = i + m < n ? i + m : i;
            uint8_t *to = message + m * room;
            int64_t size = put_identity(to, row, source_at, source, id_at, id);
            both[m] = to;
            blocks[m] = sha256_padded(to, size);
        }
        sha256_two(both, blocks, state);
        for (int m = 0; m < AT_ONCE && i + m < n; m++)
            identity[i + m] = (uint64_t)state[m][0] << 32 | state[m][1];
    }
    for (int64_t i = 0; !has_instructions && i < n; i += LANES) {
        int64_t size[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            int64_t row = i + lane < n ? i + lane : n - 1;
            uint8_t *to = message + lane * room;
            size[lane] = put_identity(to, row, source_at, source, id_at, id);
        }
        Words state[8] = {0};
        sha256_lanes(message, room, size, state);
        for (int lane = 0; lane < LANES && i + lane < n; lane++)
            identity[i + lane] = (uint64_t)state[0][lane] << 32 | state[1][lane];
    }
    free(message);
    return 0;
}

/* The first four hexadecimal digits of each text; 0 on success, 1 + the row where they
 * are none. */
int64_t retrodict_checks(int64_t n, const int32_t *at, const uint8_t *digest,
                         int32_t *check) {
    for (int64_t i = 0; i < n; i++) {
        if (at[i + 1] - at[i] < 4) return i + 1;
        int32_t v = 0;
        for (int k = 0; k < 4; k++) {
            uint8_t c = digest[at[i] + k], digit;
            if (c >= '0' && c <= '9') digit = c - '0';
            else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
            else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
            else return i + 1;
            v = v << 4 | digit;
        }
        check[i] = v;
    }
    return 0;
}

/* --- the order of (key, position) -------------------------------------------------- */

typedef struct {
    const int64_t *at;
    const uint8_t *text;
    const uint64_t *head; /* of each, where they are compared more than once */
} Texts;

/* Return how many bytes all texts begin with. */
static int64_t common_bytes(int64_t n, const int64_t *at, const uint8_t *text) {
    int64_t common = n ? at[1] - at[0] : 0;
    for (int64_t i = 1; i < n && common; i++) {
        if (at[i + 1] - at[i] < common) common = at[i + 1] - at[i];
        if (!memcmp(text + at[0], text + at[i], (size_t)common)) continue;
        int64_t same = 0;
        while (text[at[0] + same] == text[at[i] + same]) same++;
        common = same;
    }
    return common;
}

/* Write the first eight bytes behind those that all have: numbers in the order of the
 * texts, equal where more has to be compared. */
static void heads(int64_t n, const int64_t *at, const uint8_t *text, uint64_t *head) {
    int64_t common = common_bytes(n, at, text);
    for (int64_t i = 0; i < n; i++) {
        int64_t size = at[i + 1] - at[i] - common;
        uint8_t first[8] = {0};
        if (size) memcpy(first, text + at[i] + common, size < 8 ? (size_t)size : 8);
        memcpy(&head[i], first, 8);
        head[i] = __builtin_bswap64(head[i]);
    }
}

static inline int compared(const Texts *p, int64_t a, int64_t b) {
    if (p->head && p->head[a] != p->head[b]) return p->head[a] < p->head[b] ? -1 : 1;
    int64_t own = p->at[a + 1] - p->at[a], other = p->at[b + 1] - p->at[b];
    int found = memcmp(p->text + p->at[a], p->text + p->at[b],
                       (size_t)(own < other ? own : other));
    return found ? found : (own > other) - (own < other);
}

enum { FOLLOWS, BEGINS, REPEATS };

/* Mark each row: it follows the one before, begins a key, or repeats a position.
 * Return 1 where the rows are in another order than that of (key, position). */
int retrodict_in_order(int64_t n, const int32_t *key, const int64_t *at,
                       const uint8_t *text, uint8_t *mark) {
    Texts p = {at, text, NULL};
    for (int64_t i = 0; i < n; i++) {
        mark[i] = BEGINS;
        if (!i || key[i] > key[i - 1]) continue;
        if (key[i] < key[i - 1]) return 1;
        int found = compared(&p, i - 1, i);
        if (found > 0) return 1;
        mark[i] = found ? FOLLOWS : REPEATS;
    }
    return 0;
}

/* Merge the runs of rows [from, to) that ascend already, until there is one. */
static void merge_runs(const Texts *p, int64_t *row, int64_t *other, int64_t from,
                       int64_t to) {
    for (;;) {
        int64_t out = from, low = from, runs = 0;
        while (low < to) {
            int64_t middle = low + 1;
            while (middle < to && compared(p, row[middle - 1], row[middle]) <= 0)
                middle++;
            int64_t high = middle < to ? middle + 1 : to;
            while (high < to && compared(p, row[high - 1], row[high]) <= 0) high++;
            int64_t a = low, b = middle;
            while (a < middle && b < high)
                other[out++] = compared(p, row[a], row[b]) <= 0 ? row[a++] : row[b++];
            while (a < middle) other[out++] = row[a++];
            while (b < high) other[out++] = row[b++];
            low = high;
            runs++;
        }
        memcpy(row + from, other + from, 8 * (size_t)(to - from));
        if (runs <= 1) return;
    }
}

/* Order rows by (key, position), stable, and mark them; keys are 0 to keys - 1.
 * 0 on success, 1 where memory ran out. */
int retrodict_sort(int64_t n, int64_t keys, const int32_t *key, const int64_t *at,
                   const uint8_t *text, int64_t *row, uint8_t *mark) {
    int64_t *start = calloc((size_t)keys + 2, 8), *other = malloc(8 * (size_t)n + 8);
    uint64_t *head = malloc(8 * (size_t)n + 8);
    if (!start || !other || !head) { free(start); free(other); free(head); return 1; }
    Texts p = {at, text, head};
    heads(n, at, text, head);
    for (int64_t i = 0; i < n; i++) start[key[i] + 2]++;
    for (int64_t k = 1; k <= keys; k++) start[k + 1] += start[k];
    for (int64_t i = 0; i < n; i++) row[start[key[i] + 1]++] = i;
    for (int64_t k = 0; k < keys; k++) {
        merge_runs(&p, row, other, start[k], start[k + 1]);
        for (int64_t i = start[k]; i < start[k + 1]; i++)
            mark[i] = i == start[k] ? BEGINS
                      : compared(&p, row[i - 1], row[i]) ? FOLLOWS : REPEATS;
    }
    free(start);
    free(other);
    free(head);
    return 0;
}

/* --- edges, and the join of runs --------------------------------------------------- */

static int texts_compared(const int32_t *at, const uint8_t *text, int64_t a, int64_t b) {
    int32_t own = at[a + 1] - at[a], other = at[b + 1] - at[b];
    int32_t both = own < other ? own : other;
    int found = both ? memcmp(text + at[a], text + at[b], (size_t)both) : 0;
    return found ? found : (own > other) - (own < other);
}

/* Write the position of the first and of the last row of each key, and null between:
 * validity bits, offsets and bytes, as Arrow keeps texts.
 * Return how many are null, or -1 where rows are not in order of (key, position), each
 * position of a key once. */
int64_t retrodict_edges(int64_t n, const int32_t *key_at, const uint8_t *key,
                        const int32_t *at, const uint8_t *text, uint8_t *valid,
                        int32_t *edge_at, uint8_t *edge) {
    int64_t nulls = 0;
    int begins = 1;
    memset(valid, 0, (size_t)(n + 7) / 8);
    edge_at[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        int ends = i + 1 == n;
        int32_t length = 0;
        if (!ends) {
            int found = texts_compared(key_at, key, i, i + 1);
            if (found > 0) return -1;
            if (!found && texts_compared(at, text, i, i + 1) >= 0) return -1;
            ends = found < 0;
        }
        if (begins || ends) {
            length = at[i + 1] - at[i];
            if (length) memcpy(edge + edge_at[i], text + at[i], (size_t)length);
            valid[i >> 3] = (uint8_t)(valid[i >> 3] | 1 << (i & 7));
        } else {
            nulls++;
        }
        edge_at[i + 1] = edge_at[i] + length;
        begins = ends;
    }
    return nulls;
}

/* So many rows ahead a text is asked for: until it is there, others are copied. */
enum { AHEAD = 16 };

/* Write where each of some rows ends if their texts stand one behind the other: n + 1
 * offsets. Return how many bytes these are, -1 where they are too many for Arrow's
 * offsets, -2 where there is no such row. */
int64_t retrodict_taken(int64_t n, const int64_t *row, int64_t rows, const int32_t *at,
                        int32_t *taken_at) {
    int64_t end = 0;
    taken_at[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (row[i] < 0 || row[i] >= rows) return -2;
        if (i + AHEAD < n && row[i + AHEAD] >= 0 && row[i + AHEAD] < rows)
            __builtin_prefetch(at + row[i + AHEAD]);
        end += at[row[i] + 1] - at[row[i]];
        if (end > INT32_MAX) return -1;
        taken_at[i + 1] = (int32_t)end;
    }
    return end;
}

/* Copy the texts of some rows to where `retrodict_taken` wrote that they stand. */
void retrodict_take(int64_t n, const int64_t *row, const int32_t *at,
                    const uint8_t *text, const int32_t *taken_at, uint8_t *taken) {
    for (int64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) { /* both lines of it, where it lies in two */
            int64_t later = row[i + AHEAD];
            __builtin_prefetch(text + at[later]);
            __builtin_prefetch(text + at[later + 1]);
        }
        memcpy(taken + taken_at[i], text + at[row[i]],
               (size_t)(taken_at[i + 1] - taken_at[i]));
    }
}

/* Write where the runs of a key begin: rows side by side, of which the first and the last
 * have an edge and no other has. An edge behind an edge begins a run: a new row group,
 * or a run of one row. `valid` has a bit a row from `skip` on; `start` has room for as
 * many runs as there are edges.
 * Return how many runs there are, or -1 where edges do not stand just there. */
int64_t retrodict_runs(int64_t n, const int32_t *key, const uint8_t *valid, int64_t skip,
                       int64_t *start) {
    int64_t runs = 0;
    int was_edge = 0, must_begin = 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t bit = skip + i;
        while (i && !must_begin && bit % 8 == 0 && n - i >= 64) {
            uint64_t edges; /* within a run, 64 rows at a time */
            memcpy(&edges, valid + bit / 8, 8);
            if (edges || memcmp(key + i, key + i - 1, 64 * sizeof *key)) break;
            was_edge = 0;
            i += 64;
            bit += 64;
        }
        if (i == n) break;
        int is_edge = valid[bit >> 3] >> (bit & 7) & 1;
        if (!i || key[i] != key[i - 1] || (is_edge && was_edge)) {
            if (!is_edge || (i && !was_edge)) return -1;
            start[runs++] = i;
            must_begin = 0;
        } else {
            if (must_begin) return -1;
            must_begin = is_edge;
        }
        was_edge = is_edge;
    }
    return n && !was_edge ? -1 : runs;
}

/* Copy runs of bytes one behind the other. */
void retrodict_join(int64_t runs, const uint8_t *const *from, const int64_t *bytes,
                    uint8_t *to) {
    for (int64_t run = 0; run < runs; run++) {
        memcpy(to, from[run], (size_t)bytes[run]);
        to += bytes[run];
    }
}
