/* The row groups of one Parquet file, as they stand in the footer of several in one.
 *
 * A footer is a struct of Thrift's compact protocol. All is copied as it is but the
 * offsets of pages, which move with the bytes of the file. One that is damaged must not
 * come to point into the file beside: what an offset begins has to end in its own.
 */

#include <stdint.h>
#include <string.h>

enum { BOOL_TRUE = 1, BOOL_FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP,
       STRUCT };
enum { DEEPEST = 16 };

/* Where a value stands, as far as offsets are concerned. */
typedef enum { ELSEWHERE, ROW_GROUP, COLUMN_CHUNK, COLUMN } Place;

typedef struct {
    const uint8_t *at, *end;
    uint8_t *out, *out_end;
    int64_t shift, body; /* how far offsets move, and the bytes before the footer */
    int64_t number;      /* the whole number that was copied last */
    int wrong;
} Copy;

static uint8_t next(Copy *c) {
    if (c->at >= c->end) { c->wrong = 1; return 0; }
    return *c->at++;
}

static void put(Copy *c, uint8_t byte) {
    if (!c->out) return;
    if (c->out >= c->out_end) { c->wrong = 1; return; }
    *c->out++ = byte;
}

static uint64_t varint(Copy *c) {
    uint64_t v = 0;
    for (int bits = 0; bits < 64; bits += 7) {
        uint8_t byte = next(c);
        v |= (uint64_t)(byte & 0x7f) << bits;
        if (byte < 0x80) return v;
    }
    c->wrong = 1;
    return 0;
}

static void put_varint(Copy *c, uint64_t v) {
    for (; v >= 0x80; v >>= 7) put(c, (uint8_t)(v | 0x80));
    put(c, (uint8_t)v);
}

static int64_t unzigzag(uint64_t v) { return (int64_t)(v >> 1 ^ (0 - (v & 1))); }

static uint64_t zigzag(int64_t v) {
    return (uint64_t)v << 1 ^ (0 - ((uint64_t)v >> 63));
}

static void copy_bytes(Copy *c, uint64_t count) {
    if (count > (uint64_t)(c->end - c->at)) { c->wrong = 1; return; }
    if (c->out) {
        if (count > (uint64_t)(c->out_end - c->out)) { c->wrong = 1; return; }
        memcpy(c->out, c->at, (size_t)count);
        c->out += count;
    }
    c->at += count;
}

/* Whether a field is the offset of something in the file. */
static int moves(Place place, int64_t field) {
    switch (place) {
    case ROW_GROUP: return field == 5;
    case COLUMN_CHUNK: return field == 2 || field == 4 || field == 6;
    case COLUMN: return field == 9 || field == 10 || field == 11 || field == 14;
    default: return 0;
    }
}

static Place below(Place place, int64_t field) {
    if (place == ROW_GROUP && field == 1) return COLUMN_CHUNK;
    if (place == COLUMN_CHUNK && field == 3) return COLUMN;
    return ELSEWHERE;
}

static void copy_struct(Copy *c, Place place, int depth);

static uint64_t list_header(Copy *c, int *kind) {
    uint8_t head = next(c);
    *kind = head & 15;
    return head >> 4 == 15 ? varint(c) : (uint64_t)(head >> 4);
}

static void copy_value(Copy *c, int kind, Place place, int moved, int depth) {
    if (c->wrong || depth > DEEPEST) { c->wrong = 1; return; }
    switch (kind) {
    case BOOL_TRUE: case BOOL_FALSE: return;
    case BYTE: copy_bytes(c, 1); return;
    case I16: case I32: case I64: {
        uint64_t v = varint(c);
        c->number = unzigzag(v);
        if (moved) {
            if (kind != I64 || c->number < 0 || c->number > c->body) c->wrong = 1;
            v = zigzag((int64_t)((uint64_t)c->number + (uint64_t)c->shift));
        }
        put_varint(c, v);
        return;
    }
    case DOUBLE: copy_bytes(c, 8); return;
    case BINARY: {
        uint64_t size = varint(c);
        put_varint(c, size);
        copy_bytes(c, size);
        return;
    }
    case LIST: case SET: {
        const uint8_t *from = c->at;
        int element;
        uint64_t count = list_header(c, &element);
        uint64_t head = (uint64_t)(c->at - from);
        c->at = from;
        copy_bytes(c, head);
        for (uint64_t n = 0; n < count && !c->wrong; n++) {
            if (element == BOOL_TRUE || element == BOOL_FALSE) copy_bytes(c, 1);
            else copy_value(c, element, place, 0, depth + 1);
        }
        return;
    }
    case STRUCT: copy_struct(c, place, depth + 1); return;
    default: c->wrong = 1;
    }
}

/* Return the number of the field that `head` begins; Thrift has 16 bits for it. */
static int64_t field_of(Copy *c, uint8_t head, int64_t before) {
    int64_t field = before + (head >> 4);
    if (!(head >> 4)) {
        uint64_t v = varint(c);
        put_varint(c, v);
        field = unzigzag(v);
    }
    if (field < INT16_MIN || field > INT16_MAX) c->wrong = 1;
    return field;
}

/* What begins at an offset of a struct, and how many bytes it has; -1 for not told. */
typedef struct {
    int64_t begin, bytes;
} Run;

enum { PAGES, OFFSETS, STATISTICS, BLOOM, RUNS };

/* Note a number that says where a run begins, or how long it is. Pages begin with the
 * first of the pages of data, of an index, or of a dictionary. */
static void note(Run *runs, Place place, int64_t field, int64_t number) {
    if (place == COLUMN_CHUNK) {
        if (field == 4) runs[OFFSETS].begin = number;
        if (field == 5) runs[OFFSETS].bytes = number;
        if (field == 6) runs[STATISTICS].begin = number;
        if (field == 7) runs[STATISTICS].bytes = number;
    } else if (place == COLUMN) {
        Run *pages = &runs[PAGES];
        int begins = field >= 9 && field <= 11;
        if (begins && (pages->begin < 0 || number < pages->begin)) pages->begin = number;
        if (field == 7) pages->bytes = number;
        if (field == 14) runs[BLOOM].begin = number;
        if (field == 15) runs[BLOOM].bytes = number;
    }
}

/* Whether all runs end in the file's own bytes. */
static int are_own(const Run *runs, int64_t body) {
    for (int k = 0; k < RUNS; k++) {
        if (runs[k].begin < 0) continue;
        if (runs[k].bytes < 0 ? k != BLOOM : runs[k].bytes > body - runs[k].begin)
            return 0;
    }
    return 1;
}

static void copy_struct(Copy *c, Place place, int depth) {
    Run runs[RUNS] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    int64_t field = 0;
    while (!c->wrong) {
        uint8_t head = next(c);
        int kind = head & 15;
        put(c, head);
        if (!head) break;
        field = field_of(c, head, field);
        copy_value(c, kind, below(place, field), moves(place, field), depth);
        if (kind == I32 || kind == I64) note(runs, place, field, c->number);
    }
    if (!c->wrong && !are_own(runs, c->body)) c->wrong = 1;
}

/* Copy the row groups of a footer, moved by `shift`, and tell where it holds what.
 * Before it stand `body` bytes of its file.
 *
 * `found` becomes: rows; begin and end of their number; begin and end of the list of
 * row groups; how many those are. Return how many bytes were written, -1 where the
 * footer is not understood. `room` for the footer and ten bytes an offset is enough. */
int64_t retrodict_row_groups(const uint8_t *footer, int64_t size, int64_t body,
                             int64_t shift, uint8_t *out, int64_t room,
                             int64_t *found) {
    Copy c = {footer, footer + size, 0, 0, shift, body, 0, 0};
    int64_t field = 0, written = -1, rows_known = 0;
    while (!c.wrong) {
        uint8_t head = next(&c);
        if (!head) break;
        field = field_of(&c, head, field);
        if (field == 3 && (head & 15) == I64) {
            if (rows_known || written >= 0) return -1;
            found[1] = c.at - footer;
            found[0] = unzigzag(varint(&c));
            found[2] = c.at - footer;
            if (found[0] < 0) return -1;
            rows_known = 1;
        } else if (field == 4 && (head & 15) == LIST) {
            int kind;
            found[3] = c.at - footer;
            uint64_t count = list_header(&c, &kind);
            if (kind != STRUCT || !rows_known || written >= 0) return -1;
            c.out = out;
            c.out_end = out + room;
            for (uint64_t n = 0; n < count && !c.wrong; n++)
                copy_struct(&c, ROW_GROUP, 1);
            written = c.out - out;
            c.out = 0;
            found[4] = c.at - footer;
            found[5] = (int64_t)count;
        } else copy_value(&c, head & 15, ELSEWHERE, 0, 1);
    }
    return c.wrong || !rows_known || c.at != c.end ? -1 : written;
}
