/* The fold of a delivered batch: states of keys from bytes to bytes, with new events.
 *
 * It judges, drops, seals and encodes as `retrodict.state`, `retrodict.panes` and
 * `retrodict.codec` do, event by event, and gives their bytes. It carries what codec v3
 * writes; a key whose bytes are anything else, or whose state may be full while it has
 * panes, is left to the plain fold, which reads it or says what is wrong with it.
 */

#include <stdlib.h>

#include "leaves.h"

enum { UNCHANGED, CHANGED, BEYOND };
enum { HAS_SQUARES = 1, HAS_BOUNDS = 2 };

#define HEAD_BYTES 35           /* magic, version, digest of the definition */
#define ENTRY_BYTES 11          /* what an entry takes at least */
#define MOST_VALUES (INT64_C(1) << 40)
#define MOST_SCALE 1074
#define MOST_SUM_BITS 1064      /* before the point, of the sum of so many doubles */
#define MOST_SQUARES_BITS 2088
#define MOST_SQUARES_BYTES ((MOST_SQUARES_BITS + 2 * MOST_SCALE) / 8 + 1)
#define TAIL_BYTES 1024         /* what a pane takes at most without its index */
#define MARKS 65536

/* Panes of one column and one length; `retrodict.kernel` mirrors these structures. */
typedef struct {
    int64_t every_us, reach, most_bytes;
    int32_t column, flags;
} Grid;

typedef struct {
    int64_t keys, columns, leaves, views, grids;
    const int64_t *key_start;    /* (keys + 1,), events of a key in order of position */
    const int64_t *time_us;      /* (events,) */
    const uint64_t *identity;    /* (events,) */
    const uint16_t *check;       /* (events,) */
    const uint8_t *late;         /* (events,) */
    const double *const *value;  /* columns pointers, (events,) each, NaN for null */
    const int32_t *position_at;  /* (events + 1,) */
    const uint8_t *position;
    const int64_t *state_at;     /* (keys + 1,) */
    const uint8_t *state;        /* none of a key is the state of a new key */
    const uint8_t *head;         /* (HEAD_BYTES,) */
    const Leaf *leaf;
    const View *view;
    const Grid *grid;
    int64_t kept_us, reach_us, depth, room_bytes, entry_bytes;
    /* Results. */
    int8_t *outcome;             /* (events,), of keys that are not beyond */
    uint8_t *became;             /* (keys,) */
    int64_t *applied;            /* (keys,), the last event that was applied, or -1 */
    int64_t *newest_us;          /* (keys,), of keys that changed */
    double *row;                 /* (leaves, keys) of the newest event, NaN for null */
    int64_t *out_at;             /* (keys + 1,) */
    uint8_t *out;                /* the new states; `retrodict_free` frees them */
} Online;

/* A pane as it is encoded; what follows its index is its tail. */
typedef struct {
    int64_t index, n;
    const uint8_t *tail, *sum, *squares, *bounds;
    int32_t tail_bytes, sum_bytes, squares_bytes, scale;
} Pane;

/* Events in a row, and panes in a row, that a window holds. */
typedef struct {
    int64_t from, to;
    const Pane *pane, *pane_to;
} Piece;

typedef struct {
    const Online *o;
    /* Entries: those before `from` are dropped, those up to `n` are held. */
    int64_t from, n;
    int64_t *time;
    uint64_t *identity;
    uint16_t *check;
    double **value;
    const uint8_t *position;
    int64_t position_bytes;
    /* Panes of the state, and those it becomes, by grid. */
    int64_t stored, stored_room, kept_room;
    Pane *pane, *kept;
    int64_t *pane_from, *kept_from; /* (grids + 1,) */
    uint8_t *tail;
    size_t tail_room;
    /* Bits of the identities that came, and of those that may have been there before. */
    uint64_t *came, *known;
    Piece *piece;
    Sums sums;
    uint8_t *out;
    size_t size, room;
} Work;

/* --- reading ---------------------------------------------------------------------- */

typedef struct {
    const uint8_t *at, *end;
    int is_odd; /* what was read is cut short, or not what the codec writes */
} Reader;

static uint64_t varint(Reader *r) {
    uint64_t number = 0;
    for (int shift = 0; r->at < r->end && shift < 64; shift += 7) {
        uint8_t byte = *r->at++;
        if (shift == 63 && byte > 1) break;
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte >= 0x80) continue;
        if (!byte && shift) break;
        return number;
    }
    r->is_odd = 1;
    return 0;
}

static int64_t zigzag(Reader *r) {
    uint64_t number = varint(r);
    int64_t half = (int64_t)(number >> 1);
    return number & 1 ? ~half : half;
}

/* Return the next `count` elements of `size` bytes, or null where they are not there. */
static const uint8_t *take(Reader *r, uint64_t count, uint64_t size) {
    if (r->is_odd || count > (uint64_t)(r->end - r->at) / size) {
        r->is_odd = 1;
        return 0;
    }
    const uint8_t *found = r->at;
    r->at += count * size;
    return found;
}

static int is_finite_bits(const uint8_t *raw) {
    uint64_t bits;
    memcpy(&bits, raw, 8);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

static void read_times(Reader *r, Work *w, uint64_t count) {
    static const uint64_t UNIT_US[3] = {1, 1000, 1000000};
    uint64_t unit = varint(r);
    int64_t t = zigzag(r);
    if (r->is_odd || unit > 2 || t >= FURTHEST || t <= -FURTHEST) { r->is_odd = 1; return; }
    w->time[0] = t;
    for (uint64_t i = 1; i < count; i++) {
        uint64_t step = r->at < r->end && *r->at < 0x80 ? *r->at++ : varint(r);
        if (step > (uint64_t)FURTHEST / UNIT_US[unit]) r->is_odd = 1;
        if (r->is_odd) return;
        t += (int64_t)(step * UNIT_US[unit]);
        if (t >= FURTHEST) { r->is_odd = 1; return; }
        w->time[i] = t;
    }
}

static void read_column(Reader *r, double *value, uint64_t count) {
    uint64_t nulls = varint(r), seen = 0;
    if (r->is_odd || nulls > count) { r->is_odd = 1; return; }
    const uint8_t *bits = nulls ? take(r, (count + 7) / 8, 1) : 0;
    const uint8_t *raw = take(r, count - nulls, 8);
    if (r->is_odd) return;
    if (!nulls) {
        memcpy(value, raw, 8 * count);
    } else {
        for (uint64_t i = 0; i < (count + 7) / 8 * 8; i++) {
            int is_null = bits[i >> 3] >> (i & 7) & 1;
            seen += (uint64_t)is_null;
            if (seen > nulls) { r->is_odd = 1; return; }
            if (i >= count) continue;
            if (is_null) value[i] = NAN;
            else if (i - seen >= count - nulls) { r->is_odd = 1; return; }
            else memcpy(value + i, raw + 8 * (i - seen), 8);
        }
    }
    int odd = 0;
    for (uint64_t i = 0; i < count - nulls; i++) odd |= !is_finite_bits(raw + 8 * i);
    r->is_odd |= odd;
}

/* Return how many bits the magnitude of a sum has. */
static int bits_of(const uint8_t *raw, int32_t bytes) {
    uint8_t sign = raw[bytes - 1] & 0x80 ? 0xff : 0;
    int32_t top = bytes;
    while (top && raw[top - 1] == sign) top--;
    if (!top) return sign ? 1 : 0;
    int bits = 8 * (top - 1) + 32 - __builtin_clz((uint32_t)(raw[top - 1] ^ sign));
    if (!sign) return bits;
    /* -2**k has a bit more than its complement. */
    for (int32_t i = 0; i < top - 1; i++) if (raw[i]) return bits;
    uint8_t rest = (uint8_t)~raw[top - 1];
    return rest & (rest + 1) ? bits : bits + 1;
}

static const uint8_t *read_sum(Reader *r, int most_bits, int32_t *bytes) {
    uint64_t length = varint(r);
    if (!length || length > (uint64_t)(most_bits / 8 + 1)) r->is_odd = 1;
    const uint8_t *raw = take(r, length, 1);
    if (!raw) return 0;
    *bytes = (int32_t)length;
    int bits = bits_of(raw, *bytes);
    if (bits / 8 + 1 != *bytes || bits > most_bits) r->is_odd = 1;
    return raw;
}

static void read_tail(Reader *r, Pane *p, int32_t flags) {
    p->tail = r->at;
    uint64_t n = varint(r), scale = varint(r);
    if (!n || n > (uint64_t)MOST_VALUES || scale > MOST_SCALE) r->is_odd = 1;
    if (r->is_odd) return;
    p->n = (int64_t)n;
    p->scale = (int32_t)scale;
    p->sum = read_sum(r, MOST_SUM_BITS + p->scale, &p->sum_bytes);
    p->squares = p->bounds = 0;
    p->squares_bytes = 0;
    if (flags & HAS_SQUARES) {
        p->squares = read_sum(r, MOST_SQUARES_BITS + 2 * p->scale, &p->squares_bytes);
        if (p->squares && p->squares[p->squares_bytes - 1] & 0x80) r->is_odd = 1;
    }
    if (flags & HAS_BOUNDS) {
        p->bounds = take(r, 4, 8);
        for (int k = 0; p->bounds && k < 4; k++)
            if (!is_finite_bits(p->bounds + 8 * k)) r->is_odd = 1;
    }
    p->tail_bytes = (int32_t)(r->at - p->tail);
}

/* Read the panes; 0 where memory ran out. */
static int read_panes(Reader *r, Work *w) {
    const Online *o = w->o;
    uint64_t grids = varint(r);
    int64_t g = 0;
    w->stored = 0;
    for (uint64_t k = 0; k < grids && !r->is_odd; k++) {
        uint64_t every = varint(r), column = varint(r), flags = varint(r);
        uint64_t count = varint(r);
        if (r->is_odd) break;
        while (g < o->grids && ((uint64_t)o->grid[g].every_us != every
                                || (uint64_t)o->grid[g].column != column))
            w->pane_from[g++] = w->stored;
        if (g == o->grids || flags != (uint64_t)o->grid[g].flags || !count
            || count > (uint64_t)(r->end - r->at)) {
            r->is_odd = 1;
            break;
        }
        w->pane_from[g] = w->stored;
        if (w->stored + (int64_t)count > w->stored_room) {
            int64_t room = 2 * (w->stored + (int64_t)count);
            Pane *grown = realloc(w->pane, sizeof(Pane) * (size_t)room);
            if (!grown) return 0;
            w->pane = grown;
            w->stored_room = room;
        }
        int64_t index = 0;
        for (uint64_t i = 0; i < count && !r->is_odd; i++) {
            if (i) {
                uint64_t step = varint(r);
                if (!step || step > (uint64_t)FURTHEST) r->is_odd = 1;
                else index += (int64_t)step;
            } else index = zigzag(r);
            if (index >= FURTHEST || index <= -FURTHEST) r->is_odd = 1;
            if (r->is_odd) break;
            Pane *p = &w->pane[w->stored++];
            p->index = index;
            read_tail(r, p, (int32_t)flags);
        }
        g++;
    }
    while (g <= o->grids) w->pane_from[g++] = w->stored;
    return 1;
}

/* Read the state of a key; 0 where memory ran out. */
static int read_state(Work *w, int64_t key, int *is_odd) {
    const Online *o = w->o;
    Reader r = {o->state + o->state_at[key], o->state + o->state_at[key + 1], 0};
    w->from = w->n = w->position_bytes = w->stored = 0;
    for (int64_t g = 0; g <= o->grids; g++) w->pane_from[g] = 0;
    *is_odd = 0;
    if (r.at == r.end) return 1;
    const uint8_t *head = take(&r, HEAD_BYTES, 1);
    if (!head || memcmp(head, o->head, HEAD_BYTES)) { *is_odd = 1; return 1; }
    uint64_t length = varint(&r);
    w->position = take(&r, length, 1);
    for (uint64_t i = 0; w->position && i < length; i++) r.is_odd |= w->position[i] >> 7;
    w->position_bytes = (int64_t)length;
    uint64_t width = varint(&r), count = varint(&r);
    if (width != (uint64_t)o->columns
        || count > (uint64_t)(r.end - r.at) / ENTRY_BYTES) r.is_odd = 1;
    if (count && !r.is_odd) {
        read_times(&r, w, count);
        const uint8_t *identity = take(&r, count, 8), *check = take(&r, count, 2);
        for (int64_t c = 0; c < o->columns; c++) read_column(&r, w->value[c], count);
        if (!r.is_odd) {
            memcpy(w->identity, identity, 8 * count);
            memcpy(w->check, check, 2 * count);
            for (uint64_t i = 1; i < count; i++)
                if (w->time[i] == w->time[i - 1]
                    && w->identity[i] <= w->identity[i - 1]) r.is_odd = 1;
            w->n = (int64_t)count;
        }
    }
    if (!r.is_odd && !read_panes(&r, w)) return 0;
    *is_odd = r.is_odd || r.at != r.end;
    return 1;
}

/* --- judging ---------------------------------------------------------------------- */

#define MARK(bits, x) ((bits)[((x) & (MARKS - 1)) >> 6] |= UINT64_C(1) << ((x) & 63))
#define IS_MARKED(bits, x) ((bits)[((x) & (MARKS - 1)) >> 6] >> ((x) & 63) & 1)

/* Mark which of the new identities may be among those that are held. */
static void mark(Work *w, int64_t from, int64_t to) {
    const Online *o = w->o;
    for (int64_t i = from; i < to; i++) MARK(w->came, o->identity[i]);
    for (int64_t p = 0; p < w->n; p++)
        if (IS_MARKED(w->came, w->identity[p])) MARK(w->known, w->identity[p]);
}

static void unmark(Work *w, int64_t from, int64_t to) {
    const Online *o = w->o;
    for (int64_t i = from; i < to; i++)
        w->came[(o->identity[i] & (MARKS - 1)) >> 6] = 0;
    for (int64_t i = from; i < to; i++)
        w->known[(o->identity[i] & (MARKS - 1)) >> 6] = 0;
}

static int is_same(const Work *w, int64_t place, int64_t i) {
    const Online *o = w->o;
    if (w->time[place] != o->time_us[i] || w->check[place] != o->check[i]) return 0;
    for (int64_t c = 0; c < o->columns; c++) {
        double x = w->value[c][place], y = o->value[c][i];
        if (x != y && !(isnan(x) && isnan(y))) return 0;
    }
    return 1;
}

static int is_new(const Work *w, int64_t i) {
    const uint8_t *own = w->o->position + w->o->position_at[i];
    int64_t bytes = w->o->position_at[i + 1] - w->o->position_at[i];
    int64_t least = bytes < w->position_bytes ? bytes : w->position_bytes;
    int found = least ? memcmp(own, w->position, (size_t)least) : 0;
    return found ? found > 0 : bytes > w->position_bytes;
}

/* Return how many entries nothing reads once `newest` is the newest time. */
static int64_t droppable(const Work *w, int64_t newest) {
    const Online *o = w->o;
    int64_t horizon = newest - o->kept_us, most = w->n - w->from - o->depth, drop = 0;
    if (most <= 0 || w->time[w->from] > horizon) return 0;
    drop = after(w->time + w->from, w->n - w->from, horizon);
    drop -= o->depth;
    return drop > 0 ? drop : 0;
}

enum { UNKNOWN = -1 };

/* Return APPLIED where one more event at `t` fits, or TOO_FAST; UNKNOWN where only the
 * plain fold can tell. */
static int fits(const Work *w, int64_t t) {
    const Online *o = w->o;
    int64_t room = o->room_bytes - (w->n - w->from + 1) * o->entry_bytes;
    if (!o->grids) {
        if (room >= 0) return APPLIED;
        return room + droppable(w, t) * o->entry_bytes >= 0 ? APPLIED : TOO_FAST;
    }
    for (int64_t g = 0; g < o->grids; g++) {
        int64_t every = o->grid[g].every_us, sealed = w->from;
        if (sealed) {
            int64_t span = floor_div(w->time[w->from - 1], every)
                           - floor_div(w->time[0], every) + 1;
            if (span < sealed) sealed = span;
        }
        room -= (w->pane_from[g + 1] - w->pane_from[g] + sealed)
                * o->grid[g].most_bytes;
    }
    return room >= 0 ? APPLIED : UNKNOWN;
}

static int judge(Work *w, int64_t i) {
    const Online *o = w->o;
    uint64_t identity = o->identity[i];
    int64_t t = o->time_us[i];
    if (!is_new(w, i)) return DUPLICATE;
    if (IS_MARKED(w->known, identity))
        for (int64_t p = w->from; p < w->n; p++)
            if (w->identity[p] == identity)
                return is_same(w, p, i) ? DUPLICATE : CONFLICTING;
    if (o->late[i]) return LATE;
    if (w->n > w->from && t <= w->time[w->n - 1] - o->kept_us) return BEHIND;
    return fits(w, t);
}

static void insert(Work *w, int64_t i) {
    const Online *o = w->o;
    int64_t t = o->time_us[i], place = w->n;
    while (place > w->from
           && (w->time[place - 1] > t
               || (w->time[place - 1] == t && w->identity[place - 1] > o->identity[i])))
        place--;
    size_t rest = (size_t)(w->n - place);
    if (rest) {
        memmove(w->time + place + 1, w->time + place, 8 * rest);
        memmove(w->identity + place + 1, w->identity + place, 8 * rest);
        memmove(w->check + place + 1, w->check + place, 2 * rest);
    }
    w->time[place] = t;
    w->identity[place] = o->identity[i];
    w->check[place] = o->check[i];
    for (int64_t c = 0; c < o->columns; c++) {
        if (rest) memmove(w->value[c] + place + 1, w->value[c] + place, 8 * rest);
        w->value[c][place] = o->value[c][i];
    }
    w->n++;
    MARK(w->known, o->identity[i]);
    w->position = o->position + o->position_at[i];
    w->position_bytes = o->position_at[i + 1] - o->position_at[i];
    w->from += droppable(w, w->time[w->n - 1]);
}

/* --- exact sums of events and panes ------------------------------------------------ */

typedef struct {
    int low, high; /* biased exponents of the values */
    int least, most; /* of what panes hold */
} Span;

static void stretch(Span *s, const double *value, int64_t from, int64_t to) {
    int low = s->low, high = s->high;
    for (int64_t p = from; p < to; p++) {
        uint64_t bits;
        memcpy(&bits, value + p, 8);
        int e = (int)(bits >> 52 & 0x7ff), is_counted = e != 0x7ff && bits << 1;
        if (!e) e = 1;
        low = is_counted && e < low ? e : low;
        high = is_counted && e > high ? e : high;
    }
    s->low = low;
    s->high = high;
}

static void stretch_to(Span *s, const Pane *p) {
    int sum = bits_of(p->sum, p->sum_bytes), squares = 0;
    if (p->squares) squares = (bits_of(p->squares, p->squares_bytes) + 1) / 2;
    int top = (sum > squares ? sum : squares) - p->scale;
    if (-p->scale < s->least) s->least = -p->scale;
    if (top > s->most) s->most = top;
}

static const Span NOTHING = {0x7ff, 0, 1 << 20, -(1 << 20)};

static Scale scale_in(const Span *s) {
    int least = s->least, most = s->most;
    if (s->low <= s->high) {
        if (s->low - 1075 < least) least = s->low - 1075;
        if (s->high - 1022 > most) most = s->high - 1022;
    }
    return scale_of(least, most);
}

static void add_raw(uint64_t *limbs, int n, const uint8_t *raw, int32_t bytes,
                    int shift) {
    uint64_t own[MOST_SQUARES_BYTES / 8 + 2] = {0};
    int words = (bytes + 7) / 8, negative = raw[bytes - 1] >> 7;
    memcpy(own, raw, (size_t)bytes);
    if (negative) { /* its magnitude */
        if (bytes & 7) own[words - 1] |= ~UINT64_C(0) << 8 * (bytes & 7);
        uint64_t carry = 1;
        for (int k = 0; k < words; k++) {
            own[k] = ~own[k] + carry;
            carry = carry && !own[k];
        }
    }
    for (int k = 0; k < words; k++) {
        if (!own[k]) continue;
        u128 part = (u128)own[k] << (shift & 63);
        int word = (shift >> 6) + k;
        if (negative) take_at(limbs, n, word, part, 0);
        else add_at(limbs, n, word, part, 0);
    }
}

static void add_pane(Sums *s, const Scale *c, const Pane *p, int depth) {
    s->n += p->n;
    int shift = -p->scale - c->least;
    if (depth) add_raw(s->sum, c->limbs, p->sum, p->sum_bytes, shift);
    if (depth == 2) add_raw(s->squares, c->limbs2, p->squares, p->squares_bytes,
                            2 * shift);
}

/* --- panes ------------------------------------------------------------------------ */

static uint8_t *put_varint(uint8_t *to, uint64_t number) {
    for (; number >= 0x80; number >>= 7) *to++ = (uint8_t)(number | 0x80);
    *to++ = (uint8_t)number;
    return to;
}

static uint8_t *put_zigzag(uint8_t *to, int64_t number) {
    uint64_t twice = (uint64_t)number << 1;
    return put_varint(to, number < 0 ? ~twice : twice);
}

static int zeros_of(const uint64_t *limbs, int n) {
    for (int k = 0; k < n; k++) if (limbs[k]) return 64 * k + __builtin_ctzll(limbs[k]);
    return 1 << 20;
}

/* Write magnitude * 2**shift, which is whole, with a sign. */
static uint8_t *put_sum(uint8_t *to, const uint64_t *limbs, int n, int shift,
                        int negative) {
    while (n && !limbs[n - 1]) n--;
    int bits = n ? 64 * n - __builtin_clzll(limbs[n - 1]) + shift : 0;
    int bytes = bits / 8 + 1;
    to = put_varint(to, (uint64_t)bytes);
    unsigned carry = 1;
    for (int b = 0; b < bytes; b++) {
        int at = 8 * b - shift; /* the least bit of this byte, in the limbs */
        unsigned byte = 0;
        if (at > -8 && at < 64 * n) {
            int low = at < 0 ? 0 : at, word = low >> 6, bit = low & 63;
            uint64_t part = limbs[word] >> bit;
            if (bit > 56 && word + 1 < n) part |= limbs[word + 1] << (64 - bit);
            byte = (unsigned)(part << (low - at)) & 0xff;
        }
        if (negative) {
            byte = (~byte & 0xff) + carry;
            carry = byte >> 8;
        }
        *to++ = (uint8_t)byte;
    }
    return to;
}

/* Write the tail of a pane of some sums; `bounds` are four doubles. Return 0 where it is
 * larger than that of any values. */
static int write_tail(Pane *p, uint8_t *to, Sums *s, const Scale *c, int32_t flags,
                       const double *bounds) {
    int n = c->limbs, negative = (int)(s->sum[n - 1] >> 63);
    if (negative) {
        uint64_t carry = 1;
        for (int k = 0; k < n; k++) {
            s->sum[k] = ~s->sum[k] + carry;
            carry = carry && !s->sum[k];
        }
    }
    /* The least scale, at or above 0, that makes whole numbers of both. */
    int scale = -(c->least + zeros_of(s->sum, n));
    if (flags & HAS_SQUARES) {
        int least = 2 * c->least + zeros_of(s->squares, c->limbs2);
        int half = least < 0 ? (1 - least) / 2 : 0;
        if (half > scale) scale = half;
    }
    if (scale < 0) scale = 0;
    p->tail = to;
    p->n = s->n;
    p->scale = scale;
    to = put_varint(to, (uint64_t)s->n);
    to = put_varint(to, (uint64_t)scale);
    const uint8_t *start = to;
    to = put_sum(to, s->sum, n, c->least + scale, negative);
    p->sum_bytes = (int32_t)(to - start);
    p->squares = p->bounds = 0;
    p->squares_bytes = 0;
    if (flags & HAS_SQUARES) {
        start = to;
        to = put_sum(to, s->squares, c->limbs2, 2 * (c->least + scale), 0);
        p->squares_bytes = (int32_t)(to - start);
    }
    if (flags & HAS_BOUNDS) {
        memcpy(to, bounds, 32);
        to += 32;
    }
    p->tail_bytes = (int32_t)(to - p->tail);
    Reader r = {p->tail, to, 0};
    read_tail(&r, p, flags);
    return !r.is_odd;
}

/* Seal the dropped events [from, to), all of one pane, and perhaps join them to what
 * the pane held. Return UNCHANGED where they have no value, CHANGED, or BEYOND. */
static int seal(Work *w, const Grid *g, int64_t from, int64_t to, const Pane *before,
                Pane *p, uint8_t *tail) {
    const double *value = w->value[g->column];
    double bounds[4] = {0, 0, 0, 0};
    Span span = NOTHING;
    int depth = g->flags & HAS_SQUARES ? 2 : 1, is_first = 1;
    stretch(&span, value, from, to);
    if (before) {
        stretch_to(&span, before);
        if (before->bounds) memcpy(bounds, before->bounds, 32);
        is_first = 0;
    }
    Scale c = scale_in(&span);
    clear(&w->sums, &c);
    if (before) add_pane(&w->sums, &c, before, depth);
    for (int64_t i = from; i < to; i++) {
        double v = value[i];
        if (isnan(v)) continue;
        change(&w->sums, &c, v, depth, 1);
        if (is_first) bounds[0] = bounds[1] = bounds[2] = v;
        is_first = 0;
        if (v < bounds[0]) bounds[0] = v;
        if (v > bounds[1]) bounds[1] = v;
        bounds[3] = v;
    }
    if (!w->sums.n) return UNCHANGED;
    return write_tail(p, tail, &w->sums, &c, g->flags, bounds) ? CHANGED : BEYOND;
}

/* Make `kept` of the panes of the state and of what it dropped. Return UNCHANGED,
 * CHANGED, BEYOND, or -1 where memory ran out. */
static int seal_all(Work *w) {
    const Online *o = w->o;
    int64_t newest = w->n > w->from ? w->time[w->n - 1] : 0, fresh = 0, kept = 0;
    int found = UNCHANGED;
    for (int64_t g = 0; g < o->grids; g++) {
        int64_t every = o->grid[g].every_us;
        for (int64_t i = 0; i < w->from; i++)
            fresh += !i || floor_div(w->time[i], every)
                           != floor_div(w->time[i - 1], every);
    }
    if (w->stored + fresh > w->kept_room) {
        int64_t room = 2 * (w->stored + fresh);
        Pane *grown = realloc(w->kept, sizeof(Pane) * (size_t)room);
        if (!grown) return -1;
        w->kept = grown;
        w->kept_room = room;
    }
    if (TAIL_BYTES * (size_t)fresh > w->tail_room) {
        free(w->tail);
        w->tail_room = 2 * TAIL_BYTES * (size_t)fresh;
        w->tail = malloc(w->tail_room);
        if (!w->tail) { w->tail_room = 0; return -1; }
    }
    uint8_t *tail = w->tail;
    for (int64_t k = 0; k < o->grids; k++) {
        const Grid *g = &o->grid[k];
        int64_t oldest = floor_div(newest - o->reach_us, g->every_us) - g->reach;
        int64_t p = w->pane_from[k], end = w->pane_from[k + 1];
        const Pane *stored = p < end ? &w->pane[end - 1] : 0;
        w->kept_from[k] = kept;
        while (w->n > w->from && p < end && w->pane[p].index < oldest) {
            p++;
            found = CHANGED;
        }
        if (p < end) memcpy(w->kept + kept, w->pane + p, sizeof(Pane) * (size_t)(end - p));
        kept += end - p;
        for (int64_t i = 0, to; i < w->from; i = to) {
            int64_t index = floor_div(w->time[i], g->every_us);
            int64_t next_us = (index + 1) * g->every_us;
            for (to = i + 1; to < w->from && w->time[to] < next_us;) to++;
            if (stored && stored->index > index) return BEYOND;
            if (index < oldest) continue;
            Pane *last = kept > w->kept_from[k] ? &w->kept[kept - 1] : 0;
            int is_joined = last && last->index == index;
            Pane made = {.index = index};
            int sealed = seal(w, g, i, to, is_joined ? last : 0, &made, tail);
            if (sealed == BEYOND) return BEYOND;
            if (sealed == UNCHANGED) continue;
            if (is_joined) *last = made; else w->kept[kept++] = made;
            tail += TAIL_BYTES;
        }
    }
    w->kept_from[o->grids] = kept;
    return found;
}

/* --- features of the newest event -------------------------------------------------- */

static int64_t held_after(const Work *w, int64_t t) {
    return w->from + after(w->time + w->from, w->n - w->from, t);
}

/* Return the first kept pane of a grid whose index is not below `index`. */
static const Pane *pane_at(const Work *w, int64_t g, int64_t index) {
    int64_t low = w->kept_from[g], high = w->kept_from[g + 1];
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (w->kept[middle].index < index) low = middle + 1; else high = middle;
    }
    return w->kept + low;
}

static int64_t grid_of(const Online *o, const View *v) {
    int64_t every = v->window == SLOTS ? HOUR_US : v->every_us;
    for (int64_t g = 0; g < o->grids; g++)
        if (o->grid[g].every_us == every && o->grid[g].column == v->column) return g;
    return -1;
}

/* Gather what a window holds, and return in how many pieces; -1 where the definition
 * has no such panes. */
static int64_t gather(Work *w, const View *v, int64_t t) {
    Piece *piece = w->piece;
    piece->to = w->n;
    piece->pane = piece->pane_to = 0;
    if (v->window == EVENTS) {
        piece->from = w->n - w->from > v->size ? w->n - v->size : w->from;
        return 1;
    }
    if (v->window == DURATION) {
        piece->from = held_after(w, t - v->size);
        return 1;
    }
    int64_t g = grid_of(w->o, v);
    if (g < 0) return -1;
    if (v->window == PANES) {
        int64_t first = floor_div(t, v->every_us) - v->size + 1;
        piece->from = held_after(w, first * v->every_us - 1);
        piece->pane = pane_at(w, g, first);
        piece->pane_to = pane_at(w, g, first + v->size);
        return 1;
    }
    int64_t hour = floor_div(t, HOUR_US), pieces = 0;
    for (int64_t back = v->size; back; back--, pieces++) {
        int64_t index = hour - back * (v->every_us / HOUR_US);
        piece[pieces].from = held_after(w, index * HOUR_US - 1);
        piece[pieces].to = held_after(w, (index + 1) * HOUR_US - 1);
        piece[pieces].pane = pane_at(w, g, index);
        piece[pieces].pane_to = pane_at(w, g, index + 1);
    }
    return pieces;
}

/* Sum what the pieces hold, as exactly as the view needs it. */
static Scale sum_up(Work *w, const View *v, int64_t pieces) {
    const double *value = w->value[v->column];
    Span span = NOTHING;
    for (int64_t k = 0; v->sums && k < pieces; k++) {
        stretch(&span, value, w->piece[k].from, w->piece[k].to);
        for (const Pane *p = w->piece[k].pane; p < w->piece[k].pane_to; p++)
            stretch_to(&span, p);
    }
    Scale c = scale_in(&span);
    clear(&w->sums, &c);
    for (int64_t k = 0; k < pieces; k++) {
        for (const Pane *p = w->piece[k].pane; p < w->piece[k].pane_to; p++)
            add_pane(&w->sums, &c, p, v->sums);
        for (int64_t i = w->piece[k].from; i < w->piece[k].to; i++)
            if (!isnan(value[i])) change(&w->sums, &c, value[i], v->sums, 1);
    }
    if (v->window >= PANES && w->sums.n < v->at_least) clear(&w->sums, &c);
    return c;
}

static double pane_bound(const Pane *p, int place) {
    double v;
    memcpy(&v, p->bounds + 8 * place, 8);
    return v;
}

/* Read a leaf that is no sum of the one piece that its window is. */
static double of_values(const Work *w, const Leaf *leaf, const View *v) {
    const double *value = w->value[v->column];
    const Piece *k = w->piece;
    int64_t n = 0, holds = 0;
    double low = NAN, high = NAN, first = NAN, latest = NAN;
    for (const Pane *p = k->pane; p < k->pane_to; p++, n++) {
        if (!(low <= pane_bound(p, 0))) low = pane_bound(p, 0);
        if (!(high >= pane_bound(p, 1))) high = pane_bound(p, 1);
        if (!n) first = pane_bound(p, 2);
        latest = pane_bound(p, 3);
    }
    switch (leaf->statistic) {
    case MIN:
        for (int64_t i = k->from; i < k->to; i++) low = value[i] >= low ? low
            : isnan(value[i]) ? low : value[i];
        return clean(low);
    case MAX:
        for (int64_t i = k->from; i < k->to; i++) high = value[i] <= high ? high
            : isnan(value[i]) ? high : value[i];
        return clean(high);
    case FIRST:
        for (int64_t i = k->from; i < k->to && isnan(first); i++) first = value[i];
        return clean(first);
    case LAST:
        for (int64_t i = k->to - 1; i >= k->from; i--)
            if (!isnan(value[i])) return clean(value[i]);
        return clean(latest);
    default:
        for (int64_t i = k->from; i < k->to; i++) {
            if (isnan(value[i])) continue;
            n++;
            holds += compares(leaf->statistic, value[i], leaf->number);
        }
        return n ? (double)holds / (double)n : NAN;
    }
}

/* Write the leaves of the newest event; BEYOND where only the plain fold can. */
static int read_leaves(Work *w, int64_t key) {
    const Online *o = w->o;
    int64_t t = w->time[w->n - 1];
    for (int32_t v = -1; v < o->views; v++) {
        int64_t pieces = v < 0 ? 0 : gather(w, &o->view[v], t);
        int is_summed = 0;
        Scale c = {0, 0, 0};
        if (pieces < 0) return BEYOND;
        for (int64_t l = 0; l < o->leaves; l++) {
            const Leaf *leaf = &o->leaf[l];
            double *to = o->row + l * o->keys + key;
            if (leaf->view != v) continue;
            if (v < 0) {
                const double *value = leaf->column < 0 ? 0
                                      : w->value[leaf->column] + w->from;
                *to = of_newest(leaf, w->time + w->from, value, w->n - w->from);
                continue;
            }
            if (leaf->statistic > STD && leaf->statistic != RATE) {
                *to = of_values(w, leaf, &o->view[v]);
                continue;
            }
            if (!is_summed) c = sum_up(w, &o->view[v], pieces);
            is_summed = 1;
            *to = of_sums(leaf, &w->sums, &c);
            if (leaf->statistic == STD && isnan(*to) && w->sums.n > 1
                && isnan(spread(&w->sums, &c))) return BEYOND; /* panes of no values */
        }
    }
    return CHANGED;
}

/* --- writing ---------------------------------------------------------------------- */

/* Write the steps between times in a unit that divides them. */
static inline uint8_t *put_steps(uint8_t *to, const int64_t *time, int64_t n,
                                 uint64_t unit_us) {
    for (int64_t i = 1; i < n; i++)
        to = put_varint(to, (uint64_t)(time[i] - time[i - 1]) / unit_us);
    return to;
}

static uint8_t *put_times(uint8_t *to, const int64_t *time, int64_t n) {
    int is_s = 1, is_ms = 1; /* what divides every step so far */
    for (int64_t i = 1; i < n && is_ms; i++) {
        uint64_t step = (uint64_t)(time[i] - time[i - 1]);
        is_s = is_s && step % 1000000 == 0;
        is_ms = is_s || step % 1000 == 0;
    }
    to = put_varint(to, is_s ? 2 : is_ms ? 1 : 0);
    to = put_zigzag(to, time[0]);
    if (is_s) return put_steps(to, time, n, 1000000);
    return is_ms ? put_steps(to, time, n, 1000) : put_steps(to, time, n, 1);
}

static uint8_t *put_column(uint8_t *to, const double *value, int64_t n) {
    int64_t nulls = 0;
    for (int64_t i = 0; i < n; i++) nulls += isnan(value[i]) != 0;
    to = put_varint(to, (uint64_t)nulls);
    if (!nulls) {
        memcpy(to, value, 8 * (size_t)n);
        return to + 8 * n;
    }
    memset(to, 0, (size_t)(n + 7) / 8);
    for (int64_t i = 0; i < n; i++)
        if (isnan(value[i])) to[i >> 3] |= (uint8_t)(1u << (i & 7));
    to += (n + 7) / 8;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(value[i])) continue;
        memcpy(to, value + i, 8);
        to += 8;
    }
    return to;
}

static uint8_t *put_panes(uint8_t *to, const Work *w) {
    const Online *o = w->o;
    uint64_t grids = 0;
    for (int64_t g = 0; g < o->grids; g++) grids += w->kept_from[g + 1] > w->kept_from[g];
    to = put_varint(to, grids);
    for (int64_t g = 0; g < o->grids; g++) {
        int64_t first = w->kept_from[g], end = w->kept_from[g + 1];
        if (first == end) continue;
        to = put_varint(to, (uint64_t)o->grid[g].every_us);
        to = put_varint(to, (uint64_t)o->grid[g].column);
        to = put_varint(to, (uint64_t)o->grid[g].flags);
        to = put_varint(to, (uint64_t)(end - first));
        for (int64_t p = first; p < end; p++) {
            const Pane *own = &w->kept[p];
            if (p == first) to = put_zigzag(to, own->index);
            else to = put_varint(to, (uint64_t)(own->index - w->kept[p - 1].index));
            memcpy(to, own->tail, (size_t)own->tail_bytes);
            to += own->tail_bytes;
        }
    }
    return to;
}

/* Write the state; 0 where memory ran out. */
static int write_state(Work *w) {
    const Online *o = w->o;
    int64_t n = w->n - w->from;
    size_t most = HEAD_BYTES + 60 + (size_t)w->position_bytes + 20 * (size_t)n
                  + (size_t)o->columns * (10 + 9 * (size_t)n) + 50 * (size_t)o->grids;
    for (int64_t p = 0; p < w->kept_from[o->grids]; p++)
        most += 10 + (size_t)w->kept[p].tail_bytes;
    if (w->size + most > w->room) {
        size_t room = 2 * (w->size + most);
        uint8_t *grown = realloc(w->out, room);
        if (!grown) return 0;
        w->out = grown;
        w->room = room;
    }
    uint8_t *to = w->out + w->size;
    memcpy(to, o->head, HEAD_BYTES);
    to = put_varint(to + HEAD_BYTES, (uint64_t)w->position_bytes);
    memcpy(to, w->position, (size_t)w->position_bytes);
    to = put_varint(to + w->position_bytes, (uint64_t)o->columns);
    to = put_varint(to, (uint64_t)n);
    to = put_times(to, w->time + w->from, n);
    memcpy(to, w->identity + w->from, 8 * (size_t)n);
    to += 8 * n;
    memcpy(to, w->check + w->from, 2 * (size_t)n);
    to += 2 * n;
    for (int64_t c = 0; c < o->columns; c++)
        to = put_column(to, w->value[c] + w->from, n);
    to = put_panes(to, w);
    w->size = (size_t)(to - w->out);
    return 1;
}

/* --- the fold --------------------------------------------------------------------- */

/* Fold the events of a key. Return what it became, or -1 where memory ran out. */
static int fold_key(Work *w, int64_t key) {
    const Online *o = w->o;
    int64_t from = o->key_start[key], to = o->key_start[key + 1];
    int is_odd, is_beyond = 0;
    o->applied[key] = -1;
    if (!read_state(w, key, &is_odd)) return -1;
    if (is_odd) return BEYOND;
    if (is_far(o->time_us, from, to)) return BEYOND;
    mark(w, from, to);
    for (int64_t i = from; i < to; i++) {
        int outcome = judge(w, i);
        is_beyond = outcome == UNKNOWN;
        if (is_beyond) break;
        o->outcome[i] = (int8_t)outcome;
        if (outcome != APPLIED) continue;
        insert(w, i);
        o->applied[key] = i;
    }
    unmark(w, from, to);
    if (is_beyond) return BEYOND;
    int sealed = seal_all(w);
    if (sealed < 0 || sealed == BEYOND) return sealed;
    if (o->applied[key] < 0) return sealed == CHANGED ? BEYOND : UNCHANGED;
    o->newest_us[key] = w->time[w->n - 1];
    if (read_leaves(w, key) == BEYOND) return BEYOND;
    return write_state(w) ? CHANGED : -1;
}

/* Fold the events of every key; 0 on success, 1 where memory ran out. */
int retrodict_online(Online *o) {
    size_t most = 1, pieces = 1, columns = (size_t)o->columns;
    for (int64_t key = 0; key < o->keys; key++) {
        size_t n = (size_t)(o->state_at[key + 1] - o->state_at[key]) / ENTRY_BYTES
                   + (size_t)(o->key_start[key + 1] - o->key_start[key]) + 1;
        if (n > most) most = n;
    }
    for (int64_t v = 0; v < o->views; v++)
        if (o->view[v].window == SLOTS && (size_t)o->view[v].size > pieces)
            pieces = (size_t)o->view[v].size;
    Work w = {.o = o};
    uint64_t limbs[3 * MOST_LIMBS];
    w.sums.sum = limbs;
    w.sums.squares = limbs + MOST_LIMBS;
    w.time = malloc(8 * most);
    w.identity = malloc(8 * most);
    w.check = malloc(2 * most);
    w.value = malloc(sizeof(double *) * (columns + 1));
    double *values = malloc(8 * most * (columns + 1));
    w.pane_from = calloc((size_t)o->grids + 1, 8);
    w.kept_from = calloc((size_t)o->grids + 1, 8);
    w.came = calloc(MARKS / 64, 8);
    w.known = calloc(MARKS / 64, 8);
    w.piece = malloc(sizeof(Piece) * pieces);
    int failed = !(w.time && w.identity && w.check && w.value && values && w.pane_from
                   && w.kept_from && w.came && w.known && w.piece);
    for (size_t c = 0; !failed && c < columns; c++) w.value[c] = values + c * most;
    for (int64_t key = 0; !failed && key < o->keys; key++) {
        o->out_at[key] = (int64_t)w.size;
        int became = fold_key(&w, key);
        failed = became < 0;
        if (!failed) o->became[key] = (uint8_t)became;
    }
    o->out_at[o->keys] = (int64_t)w.size;
    free(w.time); free(w.identity); free(w.check); free(w.value); free(values);
    free(w.pane_from); free(w.kept_from); free(w.came); free(w.known); free(w.piece);
    free(w.pane); free(w.kept); free(w.tail);
    if (failed) { free(w.out); w.out = 0; }
    o->out = w.out;
    return failed;
}

void retrodict_free(Online *o) {
    free(o->out);
    o->out = 0;
}
