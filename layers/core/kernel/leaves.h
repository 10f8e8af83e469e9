/* What the leaves of a definition are, and how one is read of what its window holds. */

#ifndef RETRODICT_LEAVES_H
#define RETRODICT_LEAVES_H

#include "exact.h"

/* What became of an event; `retrodict.kernel` mirrors it. */
enum { APPLIED, DUPLICATE, CONFLICTING, LATE, BEHIND, TOO_FAST };

enum { EVENTS, DURATION, PANES, SLOTS };
enum {
    COUNT, SUM, MEAN, STD, MIN, MAX, FIRST, LAST,
    SHARE_LT, SHARE_LE, SHARE_GT, SHARE_GE,
    RATE, DIFFERENCE, RATIO, NEWEST, ELAPSED, HOUR_OF_DAY, DAY_OF_WEEK
};

#define HOUR_US INT64_C(3600000000)
#define DAY_US (24 * HOUR_US)

/* Times from here on, and before its negative, are for the plain fold: no window is
 * longer than a century (`retrodict.stamps`), so between them no sum of times and
 * windows overflows. */
#define FURTHEST (INT64_C(1) << 60)

/* One leaf of the definition; `retrodict.kernel` mirrors these structures. */
typedef struct {
    int32_t statistic;
    int32_t view;   /* place of its view; -1 for none */
    int32_t column; /* place of its column; -1 for none */
    int32_t lag;    /* DIFFERENCE and RATIO: how many events the window has */
    double number;  /* SHARE: the bound; RATE: the width in seconds */
} Leaf;

/* One window over one column. */
typedef struct {
    int32_t window;
    int32_t column;
    int64_t size;     /* EVENTS: count; DURATION: width, us; PANES, SLOTS: count */
    int64_t every_us; /* PANES: length; SLOTS: period, us */
    int64_t at_least; /* PANES, SLOTS */
    int32_t sums;     /* 1 sum, 2 squares as well */
    int32_t bounds;   /* least and greatest are read */
} View;

static inline int64_t floor_div(int64_t a, int64_t b) {
    int64_t q = a / b;
    return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

static inline int is_far(const int64_t *time, int64_t from, int64_t to) {
    int found = 0;
    for (int64_t i = from; i < to; i++)
        found |= (time[i] >= FURTHEST) | (time[i] <= -FURTHEST);
    return found;
}

static inline int64_t after(const int64_t *time, int64_t n, int64_t t) {
    /* First place whose time is past `t`; it is one of `n + 1` from `low` on. */
    int64_t low = 0;
    for (; n > 1; n -= n / 2) low += time[low + n / 2 - 1] <= t ? n / 2 : 0;
    return low + (n == 1 && time[low] <= t);
}

/* The latest time that lies before the window of a row at `t`. */
static inline int64_t before_us(const View *w, int64_t t) {
    if (w->window == DURATION) return t - w->size;
    return (floor_div(t, w->every_us) - w->size + 1) * w->every_us - 1;
}

static inline int compares(int statistic, double v, double bound) {
    switch (statistic) {
    case SHARE_LT: return v < bound;
    case SHARE_LE: return v <= bound;
    case SHARE_GT: return v > bound;
    default: return v >= bound;
    }
}

static inline double clean(double v) { return isfinite(v) ? v + 0.0 : NAN; }

static inline double of_sums(const Leaf *leaf, const Sums *s, const Scale *c) {
    switch (leaf->statistic) {
    case COUNT: return (double)s->n;
    case RATE: return clean((double)s->n / leaf->number);
    case SUM: return s->n ? clean(signed_sum(s, c)) : NAN;
    case MEAN: {
        if (!s->n) return NAN;
        double sum = signed_sum(s, c);
        return isfinite(sum) ? clean(sum / (double)s->n) : NAN;
    }
    default: {
        if (s->n < 2) return NAN;
        /* limbs2 counts 42 bits for the number of values, so n * squares fits. */
        double all = c->limbs == 2 && c->limbs2 == 4 ? narrow_spread(s, c)
                                                      : spread(s, c), n = (double)s->n;
        return isfinite(all) ? clean(__builtin_sqrt(all / (n * (n - 1)))) : NAN;
    }
    }
}

/* Return microseconds, at or above 0, as seconds, rounded once. */
static inline double seconds(int64_t us) {
    if (us < INT64_C(1) << 53) return (double)us / 1e6;
    u128 scaled = (u128)us << 24, whole = scaled / 1000000;
    whole |= whole * 1000000 != scaled; /* what is cut off is told by a bit */
    return of_two((uint64_t)(whole >> 64), (uint64_t)whole, -24);
}

/* Read a leaf that looks at the newest of `n` events, and perhaps at another. */
static inline double of_newest(const Leaf *leaf, const int64_t *time,
                               const double *value, int64_t n) {
    if (!n) return NAN;
    int64_t newest = time[n - 1];
    switch (leaf->statistic) {
    case NEWEST: return clean(value[n - 1]);
    case ELAPSED: return n < 2 ? NAN : seconds(newest - time[n - 2]);
    case HOUR_OF_DAY:
        return (double)(floor_div(newest, HOUR_US) - 24 * floor_div(newest, DAY_US));
    case DAY_OF_WEEK: {
        int64_t day = floor_div(newest, DAY_US) + 3;
        return (double)(day - 7 * floor_div(day, 7));
    }
    default: {
        if (n < leaf->lag) return NAN;
        double now = value[n - 1], then = value[n - leaf->lag];
        if (leaf->statistic == DIFFERENCE) return clean(now - then);
        return then == 0 ? NAN : clean(now / then);
    }
    }
}

#endif
