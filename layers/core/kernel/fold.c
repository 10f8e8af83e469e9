/* The fold over columns: what `retrodict.state` does event by event, for many keys.
 *
 * It gives the bits that the plain fold gives, because both compute values that are
 * defined exactly. Sums are kept as integers of as many 64-bit limbs as the values of
 * a key need, in units of the least bit that any of them has; they are added to and
 * taken from without loss, whatever the order, and rounded once. Nothing is
 * approximated and nothing overflows.
 *
 * Nulls are NaN, going in and coming out: the doubles of an event are finite.
 */

#include <stdlib.h>

#include "leaves.h"

/* `retrodict.kernel` mirrors it. */
typedef struct {
    int64_t keys, columns, leaves, views;
    const int64_t *key_start;  /* (keys + 1,), events of a key in order of position */
    const int64_t *time_us;    /* (events,) */
    const uint64_t *identity;  /* (events,) */
    const uint16_t *check;     /* (events,) */
    const uint8_t *late;       /* (events,) */
    const double *const *value; /* columns pointers, (events,) each */
    const Leaf *leaf;
    const View *view;
    int64_t kept_us, reach_us, depth, most_entries;
    const uint8_t *wanted;     /* (events,), whether a row is read; null for none */
    /* Rows asked for beside those of events, of each key in order of `known`. */
    const int64_t *asked_start; /* (keys + 1,) or null */
    const int64_t *asked_us;    /* (asked,) */
    const int64_t *asked_known; /* (asked,), events of the key that are known then */
    /* Results. */
    int8_t *outcome;           /* (events,) */
    uint8_t *served;           /* (events,), 1 where features are served */
    double *row;               /* (leaves, events), NaN for null */
    double *asked_row;         /* (leaves, asked), NaN for null */
    double *last_row;          /* (leaves, keys) of the newest event; null for none */
    int64_t events, asked;
    int32_t *order;            /* (events,), applied events of a key by time; or null */
    int64_t *applied;          /* (keys,), how many of them */
    int64_t *held_from;        /* (keys,), first of them that the state still holds */
    uint8_t *is_beyond;        /* (keys,), 1 where only the plain fold can judge */
} Fold;

/* Slide of one view over the events of one key. */
typedef struct {
    int64_t start;
    Sums sums;
    int32_t *low, *high; /* places of a falling and a rising run */
    int64_t low_from, low_to, high_from, high_to;
    int is_stale;      /* bounds must be read again */
    int64_t slot_hour; /* SLOTS: hour that the sums are of */
    int has_slot;
} Slide;

typedef struct {
    const Fold *f;
    int64_t n;          /* applied so far */
    int64_t *time;      /* (n,) in order */
    double **value;     /* columns, (n,) each, in order */
    int32_t *order;     /* (n,) */
    Scale *scale;
    Slide *slide;
    Sums scratch;
    double *held[5];    /* (n,) each, of the leaf at hand */
    int64_t asked_end;  /* events at or before the time of the row asked last */
} Key;

/* --- windows ---------------------------------------------------------------------- */

static void slots(Key *k, const View *w, const Scale *c, int64_t t, int64_t end,
                  Sums *s) {
    int64_t hour = floor_div(t, HOUR_US);
    const double *value = k->value[w->column];
    clear(s, c);
    for (int64_t back = w->size; back; back--) {
        int64_t from_us = hour * HOUR_US - back * w->every_us;
        int64_t to = after(k->time, end, from_us + HOUR_US - 1);
        for (int64_t p = after(k->time, to, from_us - 1); p < to; p++)
            if (!isnan(value[p])) change(s, c, value[p], w->sums, 1);
    }
}

/* Read one leaf at (t, end) by looking at its window event by event. */
static double direct(Key *k, const Leaf *leaf, int64_t t, int64_t end) {
    const Fold *f = k->f;
    if (leaf->statistic >= DIFFERENCE) {
        const double *value = leaf->column < 0 ? 0 : k->value[leaf->column];
        return of_newest(leaf, k->time, value, end);
    }
    const View *w = &f->view[leaf->view];
    const Scale *c = &k->scale[w->column];
    const double *value = k->value[w->column];
    if (w->window == SLOTS) {
        slots(k, w, c, t, end, &k->scratch);
        if (k->scratch.n < w->at_least) clear(&k->scratch, c);
        return of_sums(leaf, &k->scratch, c);
    }
    int64_t from = w->window == EVENTS ? (end > w->size ? end - w->size : 0)
                                       : after(k->time, end, before_us(w, t));
    int64_t n = 0, holds = 0, first = -1, latest = -1;
    double low = NAN, high = NAN;
    int by_sums = leaf->statistic <= STD || leaf->statistic == RATE;
    if (by_sums) clear(&k->scratch, c);
    for (int64_t p = from; p < end; p++) {
        double v = value[p];
        if (isnan(v)) continue;
        if (by_sums) { change(&k->scratch, c, v, w->sums, 1); continue; }
        n++;
        latest = p;
        if (first < 0) first = p;
        if (!(low <= v)) low = v;
        if (!(high >= v)) high = v;
        holds += compares(leaf->statistic, v, leaf->number);
    }
    if (by_sums) return of_sums(leaf, &k->scratch, c);
    if (!n) return NAN;
    switch (leaf->statistic) {
    case MIN: return clean(low);
    case MAX: return clean(high);
    case FIRST: return clean(value[first]);
    case LAST: return clean(value[latest]);
    default: return (double)holds / (double)n;
    }
}

/* --- the slide of a view behind the newest event ---------------------------------- */

static void enter(Slide *s, const View *w, const double *value, int64_t place) {
    double v = value[place];
    if (!w->bounds || isnan(v)) return;
    while (s->low_to > s->low_from && value[s->low[s->low_to - 1]] >= v) s->low_to--;
    s->low[s->low_to++] = (int32_t)place;
    while (s->high_to > s->high_from && value[s->high[s->high_to - 1]] <= v)
        s->high_to--;
    s->high[s->high_to++] = (int32_t)place;
}

static void slide_to(Key *k, const View *w, Slide *s, int64_t place) {
    /* An event stands at `place`; the window ends with the newest. */
    const Scale *c = &k->scale[w->column];
    const double *value = k->value[w->column];
    int64_t n = k->n, newest = k->time[n - 1];
    if (w->window == SLOTS) {
        int64_t hour = floor_div(newest, HOUR_US);
        if (s->has_slot && s->slot_hour == hour) {
            int64_t own = floor_div(k->time[place], HOUR_US), back = hour - own;
            int64_t period = w->every_us / HOUR_US;
            if (back && back % period == 0 && back / period <= w->size
                && !isnan(value[place]))
                change(&s->sums, c, value[place], w->sums, 1);
            return;
        }
        slots(k, w, c, newest, n, &s->sums);
        s->slot_hour = hour;
        s->has_slot = 1;
        return;
    }
    int is_newest = place == n - 1;
    int64_t bound = w->window == EVENTS ? 0 : before_us(w, newest);
    int is_before = w->window == EVENTS ? place < s->start : k->time[place] <= bound;
    if (is_before && !is_newest) {
        s->start++;
        s->is_stale = 1; /* places have moved */
        return;
    }
    if (!isnan(value[place])) change(&s->sums, c, value[place], w->sums, 1);
    if (is_newest) { if (!s->is_stale) enter(s, w, value, place); }
    else s->is_stale = 1;
    while (w->window == EVENTS ? n - s->start > w->size : k->time[s->start] <= bound) {
        if (!isnan(value[s->start])) change(&s->sums, c, value[s->start], w->sums, 0);
        s->start++;
    }
    if (w->bounds && s->is_stale) return;
    while (s->low_from < s->low_to && s->low[s->low_from] < s->start) s->low_from++;
    while (s->high_from < s->high_to && s->high[s->high_from] < s->start)
        s->high_from++;
}

static void refresh(Key *k, const View *w, Slide *s) {
    s->low_from = s->low_to = s->high_from = s->high_to = s->start;
    for (int64_t p = s->start; p < k->n; p++) enter(s, w, k->value[w->column], p);
    s->is_stale = 0;
}

static double newest(Key *k, const Leaf *leaf) {
    const Fold *f = k->f;
    if (leaf->statistic >= DIFFERENCE) return direct(k, leaf, 0, k->n);
    const View *w = &f->view[leaf->view];
    const Scale *c = &k->scale[w->column];
    const double *value = k->value[w->column];
    Slide *s = &k->slide[leaf->view];
    switch (leaf->statistic) {
    case MIN:
    case MAX:
        if (s->is_stale) refresh(k, w, s);
        if (leaf->statistic == MIN)
            return s->low_to > s->low_from ? clean(value[s->low[s->low_from]]) : NAN;
        return s->high_to > s->high_from ? clean(value[s->high[s->high_from]]) : NAN;
    case FIRST:
        for (int64_t p = s->start; p < k->n; p++)
            if (!isnan(value[p])) return clean(value[p]);
        return NAN;
    case LAST:
        for (int64_t p = k->n - 1; p >= s->start; p--)
            if (!isnan(value[p])) return clean(value[p]);
        return NAN;
    case SHARE_LT: case SHARE_LE: case SHARE_GT: case SHARE_GE: {
        int64_t holds = 0;
        for (int64_t p = s->start; p < k->n; p++)
            holds += compares(leaf->statistic, value[p], leaf->number);
        return s->sums.n ? (double)holds / (double)s->sums.n : NAN;
    }
    default:
        if (w->window == SLOTS && s->sums.n < w->at_least) {
            Sums none = {0, 0, s->sums.sum, s->sums.squares};
            return of_sums(leaf, &none, c);
        }
        return of_sums(leaf, &s->sums, c);
    }
}

/* --- the fold --------------------------------------------------------------------- */

static int is_summed(const Fold *f, int64_t column) {
    for (int64_t v = 0; v < f->views; v++)
        if (f->view[v].column == column && f->view[v].sums) return 1;
    return 0;
}

static void lay_out(const Fold *f, int64_t from, int64_t to, int column, Scale *c) {
    const double *value = f->value[column];
    int least = 1 << 20, most = -(1 << 20);
    for (int64_t i = from; i < to; i++) {
        uint64_t m;
        int e;
        if (isnan(value[i])) continue;
        parts(value[i], &m, &e);
        if (!m) continue;
        int top = e + 64 - __builtin_clzll(m);
        if (e < least) least = e;
        if (top > most) most = top;
    }
    *c = scale_of(least, most);
}

static int same(const Fold *f, int64_t a, int64_t b) {
    if (f->time_us[a] != f->time_us[b] || f->check[a] != f->check[b]) return 0;
    for (int64_t c = 0; c < f->columns; c++) {
        double x = f->value[c][a], y = f->value[c][b];
        if (x != y && !(isnan(x) && isnan(y))) return 0;
    }
    return 1;
}

static void insert(Key *k, int64_t i, int64_t place) {
    const Fold *f = k->f;
    size_t rest = (size_t)(k->n - place);
    if (rest) {
        memmove(k->time + place + 1, k->time + place, 8 * rest);
        memmove(k->order + place + 1, k->order + place, 4 * rest);
        for (int64_t c = 0; c < f->columns; c++)
            memmove(k->value[c] + place + 1, k->value[c] + place, 8 * rest);
    }
    k->time[place] = f->time_us[i];
    k->order[place] = (int32_t)i;
    for (int64_t c = 0; c < f->columns; c++) k->value[c][place] = f->value[c][i];
    k->n++;
}

static int64_t place_of(const Key *k, int64_t i) {
    const Fold *f = k->f;
    int64_t t = f->time_us[i];
    if (!k->n || k->time[k->n - 1] < t) return k->n;
    int64_t place = after(k->time, k->n, t);
    while (place && k->time[place - 1] == t
           && f->identity[k->order[place - 1]] > f->identity[i])
        place--;
    return place;
}

/* The same, looked for from a place on: most rows are asked in order of their times. */
static int64_t after_from(const int64_t *time, int64_t n, int64_t t, int64_t from) {
    if (from > n || (from && time[from - 1] > t)) return after(time, n, t);
    int64_t step = 1;
    while (from + step <= n && time[from + step - 1] <= t) {
        from += step;
        step *= 2;
    }
    return from + after(time + from, (from + step < n ? from + step : n) - from, t);
}

static void ask(Key *k, int64_t q) {
    const Fold *f = k->f;
    int64_t t = f->asked_us[q], end = after_from(k->time, k->n, t, k->asked_end);
    k->asked_end = end;
    for (int64_t l = 0; l < f->leaves; l++)
        f->asked_row[l * f->asked + q] = direct(k, &f->leaf[l], t, end);
}

/* What `retrodict_fold` needs to judge the events of one key. */
typedef struct {
    int64_t from, held; /* first event; how many applied ones the state has dropped */
    int32_t *table;     /* places by identity, -1 for none */
    int64_t mask;
    uint8_t *dropped;
} Known;

static inline int64_t slot_of(uint64_t identity, int64_t mask) {
    return (int64_t)(identity * UINT64_C(0x9E3779B97F4A7C15) >> 20) & mask;
}

/* Judge one event, and where it is applied, insert it and return its place. */
static inline int judge(Key *k, Known *known, int64_t i, int64_t *place) {
    const Fold *f = k->f;
    uint64_t identity = f->identity[i];
    int64_t slot = slot_of(identity, known->mask);
    while (known->table[slot] >= 0 && f->identity[known->table[slot]] != identity)
        slot = (slot + 1) & known->mask;
    int64_t other = known->table[slot];
    if (other >= 0 && !known->dropped[other - known->from])
        return same(f, other, i) ? DUPLICATE : CONFLICTING;
    if (f->late[i]) return LATE;
    if (k->n && f->time_us[i] <= k->time[k->n - 1] - f->kept_us) return BEHIND;
    if (k->n - known->held + 1 > f->most_entries) return TOO_FAST;
    *place = place_of(k, i);
    known->table[slot] = (int32_t)i;
    insert(k, i, *place);
    return APPLIED;
}

/* Write the features served with an applied event; 0 where it is too old for them. */
static inline int serve(Key *k, int64_t i) {
    const Fold *f = k->f;
    int64_t t = f->time_us[i], latest = k->time[k->n - 1];
    if (t < latest - f->reach_us) return 0;
    int64_t end = t == latest ? k->n : after(k->time, k->n, t);
    for (int64_t l = 0; l < f->leaves; l++)
        f->row[l * f->events + i] = end == k->n ? newest(k, &f->leaf[l])
                                                : direct(k, &f->leaf[l], t, end);
    return 1;
}

/* --- keys whose events came in order: a leaf at a time ----------------------------- */

static inline int64_t slid(const Key *k, const View *w, int64_t start, int64_t p) {
    /* Return where the window of the event at `p` starts, not before `start`. */
    if (w->window == EVENTS) return p + 1 > w->size ? p + 1 - w->size : 0;
    int64_t bound = before_us(w, k->time[p]);
    while (k->time[start] <= bound) start++;
    return start;
}

/* Write count, sum and spread of the window of every event. */
static void slide_sums(Key *k, const View *w, double *count, double *sum,
                       double *spreads) {
    const Scale *c = &k->scale[w->column];
    const double *value = k->value[w->column];
    Sums *s = &k->scratch;
    int64_t start = 0;
    clear(s, c);
    for (int64_t p = 0; p < k->n; p++) {
        if (!isnan(value[p])) change(s, c, value[p], w->sums, 1);
        for (int64_t to = slid(k, w, start, p); start < to; start++)
            if (!isnan(value[start])) change(s, c, value[start], w->sums, 0);
        count[p] = (double)s->n;
        if (w->sums) sum[p] = signed_sum(s, c);
        if (w->sums == 2)
            spreads[p] = c->limbs == 2 && c->limbs2 == 4 ? narrow_spread(s, c)
                                                        : spread(s, c);
    }
}

/* Write the least or the greatest of the window of every event, without branches that
 * depend on values: `best` holds, for each place before `middle`, the best from there
 * up to it; `since` that of the places from it on. */
static void slide_bound(Key *k, const View *w, double sign, double *best, double *out) {
    const double *value = k->value[w->column];
    int64_t start = 0, middle = 0;
    double since = INFINITY;
    for (int64_t p = 0; p < k->n; p++) {
        double own = isnan(value[p]) ? INFINITY : sign * value[p];
        since = own < since ? own : since;
        start = slid(k, w, start, p);
        if (start >= middle) {
            double found = INFINITY;
            for (int64_t i = p; i >= start; i--) {
                double v = isnan(value[i]) ? INFINITY : sign * value[i];
                best[i] = found = v < found ? v : found;
            }
            middle = p + 1;
            since = INFINITY;
        }
        double found = best[start] < since ? best[start] : since;
        out[p] = clean(sign * found);
    }
}

/* Write a leaf that looks at its window value by value. */
static void slide_other(Key *k, const Leaf *leaf, double *out) {
    const View *w = &k->f->view[leaf->view];
    const double *value = k->value[w->column];
    int64_t start = 0, first = 0, latest = -1, n = 0, holds = 0;
    for (int64_t p = 0; p < k->n; p++) {
        int64_t to = slid(k, w, start, p);
        if (!isnan(value[p])) {
            latest = p;
            n++;
            holds += compares(leaf->statistic, value[p], leaf->number);
        }
        for (; start < to; start++) {
            if (isnan(value[start])) continue;
            n--;
            holds -= compares(leaf->statistic, value[start], leaf->number);
        }
        if (first < start) first = start;
        while (first < p && isnan(value[first])) first++;
        if (!n) out[p] = NAN;
        else if (leaf->statistic == FIRST) out[p] = clean(value[first]);
        else if (leaf->statistic == LAST) out[p] = clean(value[latest]);
        else out[p] = (double)holds / (double)n;
    }
}

static void leaf_in_order(Key *k, const Leaf *leaf, double *const *held, double *out) {
    const double *count = held[0], *sum = held[1], *spreads = held[2];
    int64_t n = k->n;
    switch (leaf->statistic) {
    case COUNT: memcpy(out, count, 8 * (size_t)n); return;
    case RATE: for (int64_t p = 0; p < n; p++) out[p] = clean(count[p] / leaf->number);
        return;
    case SUM: for (int64_t p = 0; p < n; p++) out[p] = count[p] ? clean(sum[p]) : NAN;
        return;
    case MEAN: /* 0 / 0 is NaN, and so is what overflowed */
        for (int64_t p = 0; p < n; p++) out[p] = clean(sum[p] / count[p]);
        return;
    case STD:
        for (int64_t p = 0; p < n; p++) {
            double v = clean(__builtin_sqrt(spreads[p] / (count[p] * (count[p] - 1))));
            out[p] = count[p] < 2 ? NAN : v;
        }
        return;
    case MIN: slide_bound(k, &k->f->view[leaf->view], 1, held[3], out); return;
    case MAX: slide_bound(k, &k->f->view[leaf->view], -1, held[3], out); return;
    case DIFFERENCE: {
        const double *value = k->value[leaf->column];
        int64_t back = leaf->lag - 1;
        for (int64_t p = 0; p < n; p++)
            out[p] = p < back ? NAN : clean(value[p] - value[p - back]);
        return;
    }
    default:
        if (leaf->statistic < DIFFERENCE) { slide_other(k, leaf, out); return; }
        for (int64_t p = 0; p < n; p++) out[p] = direct(k, leaf, 0, p + 1);
    }
}

static int is_of_sums(const Leaf *leaf) {
    return leaf->statistic <= STD || leaf->statistic == RATE;
}

/* Write what is served with every event of a key whose events came in order. */
static void serve_in_order(Key *k, int64_t key) {
    const Fold *f = k->f;
    int64_t from = f->key_start[key], to = f->key_start[key + 1];
    int is_whole = k->n == to - from;
    for (int64_t i = from; i < to; i++) {
        f->served[i] = f->outcome[i] == APPLIED && f->wanted[i];
        is_whole &= f->wanted[i];
    }
    for (int32_t v = -1; v < f->views; v++) {
        int is_summed = 0;
        for (int64_t l = 0; l < f->leaves; l++) {
            const Leaf *leaf = &f->leaf[l];
            if (leaf->view != v) continue;
            if (is_of_sums(leaf) && !is_summed) {
                slide_sums(k, &f->view[v], k->held[0], k->held[1], k->held[2]);
                is_summed = 1;
            }
            double *row = f->row + l * f->events;
            leaf_in_order(k, leaf, k->held, is_whole ? row + from : k->held[4]);
            if (is_whole) continue;
            for (int64_t i = from; i < to; i++) row[i] = NAN;
            for (int64_t p = 0; p < k->n; p++)
                if (f->wanted[k->order[p]]) row[k->order[p]] = k->held[4][p];
        }
    }
}

/* Drop what the state holds no more, now that an event was applied. */
static inline void let_go(const Key *k, Known *known) {
    const Fold *f = k->f;
    int64_t horizon = k->time[k->n - 1] - f->kept_us, held = known->held;
    while (held + f->depth < k->n && k->time[held + f->depth] <= horizon)
        known->dropped[k->order[held++] - known->from] = 1;
    known->held = held;
}

/* Judge events from `i` on as long as each is in time, newer than all before it, and of
 * an identity that is not there: most are. Return the first that is not, or `to`. */
static int64_t judge_newest(Key *k, Known *known, int64_t i, int64_t to) {
    const Fold *f = k->f;
    const int64_t *restrict time_us = f->time_us;
    const uint64_t *restrict identity = f->identity;
    const uint8_t *restrict late = f->late;
    int8_t *restrict outcome = f->outcome;
    int64_t *restrict time = k->time;
    int32_t *restrict order = k->order, *restrict table = known->table;
    uint8_t *restrict dropped = known->dropped;
    int64_t n = k->n, held = known->held, first = i, from = known->from;
    int64_t depth = f->depth, kept_us = f->kept_us, mask = known->mask;
    int64_t most = f->most_entries;
    for (; i < to; i++) {
        int64_t t = time_us[i], slot = slot_of(identity[i], mask);
        while (table[slot] >= 0 && identity[table[slot]] != identity[i])
            slot = (slot + 1) & mask;
        if (late[i] || (n && t <= time[n - 1]) || table[slot] >= 0
            || n - held >= most)
            break;
        table[slot] = (int32_t)i;
        time[n] = t;
        order[n++] = (int32_t)i;
        outcome[i] = APPLIED;
        while (held + depth < n && time[held + depth] <= t - kept_us)
            dropped[order[held++] - from] = 1;
    }
    for (int64_t c = 0; c < f->columns; c++)
        memcpy(k->value[c] + k->n, f->value[c] + first, 8 * (size_t)(i - first));
    k->n = n;
    known->held = held;
    return i;
}

/* Judge all events of a key; with `slides`, write the features served as it goes.
 *
 * Return 0 where only the plain fold can judge. `is_in_order` tells whether each event
 * that was applied was the newest. */
static int judge_all(Key *k, int64_t key, Known *known, int slides, int *is_in_order) {
    const Fold *f = k->f;
    int64_t from = f->key_start[key], to = f->key_start[key + 1], place = 0;
    int64_t q = f->asked_start ? f->asked_start[key] : 0;
    int64_t asked_to = f->asked_start ? f->asked_start[key + 1] : 0;
    *is_in_order = 1;
    for (int64_t i = from; i < to; i++) {
        while (q < asked_to && f->asked_known[q] <= i - from) ask(k, q++);
        if (!slides) {
            int64_t until = q < asked_to && f->asked_known[q] < to - from
                ? from + f->asked_known[q] : to;
            i = judge_newest(k, known, i, until);
            if (i == until) { i--; continue; }
        }
        int outcome = judge(k, known, i, &place), is_served = 0;
        if (outcome == TOO_FAST) return 0;
        f->outcome[i] = (int8_t)outcome;
        if (outcome == APPLIED) {
            let_go(k, known);
            *is_in_order &= place == k->n - 1;
            if (slides) {
                for (int64_t v = 0; v < f->views; v++)
                    slide_to(k, &f->view[v], &k->slide[v], place);
                if (f->wanted[i]) is_served = serve(k, i);
            }
        }
        if (!slides) continue;
        f->served[i] = (uint8_t)is_served;
        if (!is_served)
            for (int64_t l = 0; l < f->leaves; l++) f->row[l * f->events + i] = NAN;
    }
    while (q < asked_to) ask(k, q++);
    return 1;
}

static void begin(Key *k, int64_t key, Known *known) {
    const Fold *f = k->f;
    int64_t events = f->key_start[key + 1] - f->key_start[key];
    known->from = f->key_start[key];
    known->held = k->n = k->asked_end = 0;
    known->mask = 3;
    while (known->mask + 1 < 4 * events) known->mask = 2 * known->mask + 1;
    memset(known->table, 0xff, 4 * (size_t)(known->mask + 1));
    memset(known->dropped, 0, (size_t)events);
    for (int64_t v = 0; v < f->views; v++) {
        Slide *s = &k->slide[v];
        s->start = s->low_from = s->low_to = s->high_from = s->high_to = 0;
        s->is_stale = s->has_slot = 0;
        clear(&s->sums, &k->scale[f->view[v].column]);
    }
}

static int fold_key(Key *k, int64_t key, Known *known, int has_slots) {
    const Fold *f = k->f;
    int is_in_order;
    if (is_far(f->time_us, f->key_start[key], f->key_start[key + 1])) return 0;
    if (f->asked_start
        && is_far(f->asked_us, f->asked_start[key], f->asked_start[key + 1])) return 0;
    begin(k, key, known);
    if (!judge_all(k, key, known, f->wanted && has_slots, &is_in_order)) return 0;
    if (f->wanted && !has_slots) {
        if (is_in_order) {
            serve_in_order(k, key);
        } else {
            begin(k, key, known);
            judge_all(k, key, known, 1, &is_in_order);
        }
    }
    if (f->last_row)
        for (int64_t l = 0; l < f->leaves; l++)
            f->last_row[l * f->keys + key] = k->n
                ? direct(k, &f->leaf[l], k->time[k->n - 1], k->n) : NAN;
    f->applied[key] = k->n;
    f->held_from[key] = known->held;
    if (f->order) memcpy(f->order + f->key_start[key], k->order, 4 * (size_t)k->n);
    return 1;
}

/* Fold the events of every key; 0 on success, 1 where memory ran out. */
int retrodict_fold(const Fold *f) {
    int64_t most = 1;
    for (int64_t key = 0; key < f->keys; key++) {
        int64_t n = f->key_start[key + 1] - f->key_start[key];
        if (n > most) most = n;
    }
    int64_t size = 4;
    while (size < 4 * most) size *= 2;
    int has_slots = 0;
    for (int64_t v = 0; v < f->views; v++) has_slots |= f->view[v].window == SLOTS;
    size_t limbs = (size_t)MOST_LIMBS * 8, n = (size_t)most;
    Key k = {.f = f};
    k.time = malloc(8 * n);
    k.order = malloc(4 * n);
    k.value = malloc(sizeof(double *) * (size_t)(f->columns + 1));
    k.scale = malloc(sizeof(Scale) * (size_t)(f->columns + 1));
    k.slide = calloc((size_t)f->views + 1, sizeof(Slide));
    k.scratch.sum = malloc(limbs);
    k.scratch.squares = malloc(2 * limbs);
    double *values = malloc(8 * n * (size_t)(f->columns + 1));
    double *held = malloc(8 * n * 5);
    int32_t *runs = malloc(8 * n * (size_t)(f->views + 1));
    uint64_t *sums = malloc(3 * limbs * (size_t)(f->views + 1));
    Known known = {.table = malloc(4 * (size_t)size), .dropped = malloc(n)};
    int failed = !(k.time && k.order && k.value && k.scale && k.slide && k.scratch.sum
                   && k.scratch.squares && values && held && runs && sums && known.table
                   && known.dropped);
    if (!failed) {
        for (int64_t c = 0; c < f->columns; c++) {
            k.value[c] = values + c * most;
            k.scale[c] = (Scale){0, 2, 4}; /* of columns that nothing sums */
        }
        for (int64_t a = 0; a < 5; a++) k.held[a] = held + a * most;
        for (int64_t v = 0; v < f->views; v++) {
            Slide *s = &k.slide[v];
            s->low = runs + 2 * v * most;
            s->high = s->low + most;
            s->sums.sum = sums + 3 * v * MOST_LIMBS;
            s->sums.squares = s->sums.sum + MOST_LIMBS;
        }
    }
    for (int64_t key = 0; !failed && key < f->keys; key++) {
        for (int64_t c = 0; c < f->columns; c++)
            if (is_summed(f, c))
                lay_out(f, f->key_start[key], f->key_start[key + 1], (int)c,
                        &k.scale[c]);
        f->is_beyond[key] = !fold_key(&k, key, &known, has_slots);
    }
    free(k.time); free(k.order); free(k.value); free(k.scale); free(k.slide);
    free(k.scratch.sum); free(k.scratch.squares); free(values); free(held); free(runs);
    free(sums); free(known.table); free(known.dropped);
    return failed;
}
