/* Exact sums of doubles: added to and taken from without loss, and rounded once.
 *
 * A sum is an integer of as many 64-bit limbs as the values need, in units of the least
 * bit that any of them has.
 */

#ifndef RETRODICT_EXACT_H
#define RETRODICT_EXACT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST_LIMBS 72

typedef unsigned __int128 u128;

/* Exact sums of some values of one column. */
typedef struct {
    int64_t n;
    int64_t holds;
    uint64_t *sum, *squares;
} Sums;

/* How the sums of one column of one key are laid out. */
typedef struct {
    int32_t least; /* exponent of the unit */
    int32_t limbs, limbs2;
} Scale;

/* Return the layout for values that are multiples of 2**least below 2**most. */
static inline Scale scale_of(int least, int most) {
    if (most < least) least = most = 0;
    int bits = most - least + 42; /* of 2**40 values, and a sign */
    Scale c = {least, bits / 64 + 1, (2 * (most - least) + 42) / 64 + 2};
    if (c.limbs < 2) c.limbs = 2;
    if (c.limbs2 < 4) c.limbs2 = 4;
    return c;
}

static inline int parts(double v, uint64_t *mantissa, int *exponent) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    int e = (int)(bits >> 52 & 0x7ff);
    uint64_t m = bits & ((UINT64_C(1) << 52) - 1);
    if (e) m |= UINT64_C(1) << 52; else e = 1;
    if (!m) { *mantissa = 0; *exponent = 0; return 0; }
    int zeros = __builtin_ctzll(m);
    *mantissa = m >> zeros;
    *exponent = e - 1075 + zeros;
    return (int)(bits >> 63);
}

static inline void add_at(uint64_t *limbs, int n, int word, u128 low, uint64_t top) {
    u128 c = (u128)limbs[word] + (uint64_t)low;
    limbs[word++] = (uint64_t)c;
    c = (c >> 64) + (uint64_t)(low >> 64);
    if (word < n) { c += limbs[word]; limbs[word++] = (uint64_t)c; c >>= 64; }
    c += top;
    while (c && word < n) { c += limbs[word]; limbs[word++] = (uint64_t)c; c >>= 64; }
}

static inline void take_at(uint64_t *limbs, int n, int word, u128 low, uint64_t top) {
    uint64_t part[3] = {(uint64_t)low, (uint64_t)(low >> 64), top};
    uint64_t borrow = 0;
    for (int k = 0; word < n && (k < 3 || borrow); k++, word++) {
        uint64_t p = k < 3 ? part[k] : 0, before = limbs[word];
        uint64_t d = before - p, next = before < p;
        next |= d < borrow;
        limbs[word] = d - borrow;
        borrow = next;
    }
}

/* Most values need 128 bits for their sum and 256 for that of their squares. */
static inline void add_wide(uint64_t *limbs, u128 square, int at, int is_added) {
    u128 low, high, part = at < 128 ? square << at : 0;
    u128 rest = at >= 128 ? square << (at - 128) : at ? square >> (128 - at) : 0;
    memcpy(&low, limbs, 16);
    memcpy(&high, limbs + 2, 16);
    if (is_added) {
        low += part;
        high += rest + (low < part);
    } else {
        high -= rest + (low < part);
        low -= part;
    }
    memcpy(limbs, &low, 16);
    memcpy(limbs + 2, &high, 16);
}

static inline void change_squares(Sums *s, const Scale *c, uint64_t m, int at, int is_added) {
    u128 square = (u128)m * m;
    int at2 = 2 * at, bit = at2 & 63;
    uint64_t top = bit ? (uint64_t)(square >> 64) >> (64 - bit) : 0;
    if (is_added) add_at(s->squares, c->limbs2, at2 >> 6, square << bit, top);
    else take_at(s->squares, c->limbs2, at2 >> 6, square << bit, top);
}

static inline void change(Sums *s, const Scale *c, double v, int depth, int is_added) {
    s->n += is_added ? 1 : -1;
    if (!depth) return;
    uint64_t m;
    int e, negative = parts(v, &m, &e);
    if (!m) return;
    int at = e - c->least;
    if (c->limbs == 2) {
        u128 sum, part = (u128)m << at;
        memcpy(&sum, s->sum, 16);
        sum += negative != is_added ? part : -part;
        memcpy(s->sum, &sum, 16);
        if (depth == 2) {
            if (c->limbs2 == 4) add_wide(s->squares, (u128)m * m, 2 * at, is_added);
            else change_squares(s, c, m, at, is_added);
        }
        return;
    }
    u128 low = (u128)m << (at & 63);
    if (negative != is_added) add_at(s->sum, c->limbs, at >> 6, low, 0);
    else take_at(s->sum, c->limbs, at >> 6, low, 0);
    if (depth == 2) change_squares(s, c, m, at, is_added);
}

static inline void clear(Sums *s, const Scale *c) {
    s->n = s->holds = 0;
    memset(s->sum, 0, 8 * (size_t)c->limbs);
    memset(s->squares, 0, 8 * (size_t)c->limbs2);
}

static inline double power(int k) {
    uint64_t bits = (uint64_t)(k + 1023) << 52;
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

/* Return limbs * 2**exponent, rounded once to the nearest double, ties to even. */
static inline double rounded(const uint64_t *limbs, int n, int exponent) {
    while (n && !limbs[n - 1]) n--;
    if (!n) return 0.0;
    int length = 64 * n - __builtin_clzll(limbs[n - 1]);
    int top = length - 1 + exponent;
    if (top > 1023) return INFINITY;
    int precision = top < -1022 ? top + 1075 : 53;
    if (precision < 0) return 0.0;
    int drop = length - precision;
    uint64_t kept;
    if (drop <= 0) {
        kept = limbs[0];
        drop = 0;
    } else {
        int word = drop >> 6, bit = drop & 63;
        kept = word < n ? limbs[word] >> bit : 0;
        if (bit && word + 1 < n) kept |= limbs[word + 1] << (64 - bit);
        int half = drop - 1;
        int is_half = (int)(limbs[half >> 6] >> (half & 63) & 1);
        if (is_half) {
            int rest = (limbs[half >> 6] & ((UINT64_C(1) << (half & 63)) - 1)) != 0;
            for (int k = 0; !rest && k < half >> 6; k++) rest = limbs[k] != 0;
            kept += (uint64_t)(rest | (int)(kept & 1));
        }
    }
    int k = drop + exponent;
    double v = (double)kept;
    if (k > 900) return v * power(k - 100) * power(100);
    if (k < -1000) return v * power(k + 600) * power(-600);
    return v * power(k);
}

/* Whether sums of two limbs times the unit are doubles that are neither subnormal nor
 * infinite, so that rounding a limb and a bit is rounding the whole. */
static inline int is_tame(int exponent) { return exponent > -900 && exponent < 600; }

/* Return (high * 2**64 + low) * 2**exponent, rounded once; the exponent is tame. */
static inline double of_two(uint64_t high, uint64_t low, int exponent) {
    if (high) {
        int drop = 64 - __builtin_clzll(high);
        uint64_t rest = drop < 64 ? low << (64 - drop) : low;
        low = (drop < 64 ? high << (64 - drop) | low >> drop : high) | (rest != 0);
        exponent += drop;
    }
    return (double)low * power(exponent);
}

static inline double signed_sum(const Sums *s, const Scale *c) {
    int n = c->limbs;
    if (n == 2 && is_tame(c->least)) {
        u128 sum;
        memcpy(&sum, s->sum, 16);
        int negative = (int)(sum >> 127);
        if (negative) sum = -sum;
        double v = of_two((uint64_t)(sum >> 64), (uint64_t)sum, c->least);
        return negative ? -v : v;
    }
    if (s->sum[n - 1] >> 63) {
        uint64_t other[MOST_LIMBS], carry = 1;
        for (int k = 0; k < n; k++) {
            other[k] = ~s->sum[k] + carry;
            carry = carry && !other[k];
        }
        return -rounded(other, n, c->least);
    }
    return rounded(s->sum, n, c->least);
}

/* What `spread` returns where the sum has 128 bits and that of the squares 256. */
static inline double narrow_spread(const Sums *s, const Scale *c) {
    u128 sum, low, high, square_low, square_high;
    memcpy(&sum, s->sum, 16);
    if (sum >> 127) sum = -sum;
    const uint64_t *q = s->squares, n = (uint64_t)s->n;
    u128 a = (u128)q[0] * n, b = (u128)q[1] * n + (uint64_t)(a >> 64);
    u128 d = (u128)q[2] * n + (uint64_t)(b >> 64);
    u128 e = (u128)q[3] * n + (uint64_t)(d >> 64);
    low = (u128)(uint64_t)b << 64 | (uint64_t)a;
    high = (u128)(uint64_t)e << 64 | (uint64_t)d;
    uint64_t x = (uint64_t)sum, y = (uint64_t)(sum >> 64);
    u128 cross = (u128)x * y;
    square_low = (u128)x * x;
    square_high = (u128)y * y + (cross >> 63);
    u128 shifted = cross << 65;
    square_low += shifted;
    square_high += square_low < shifted;
    high -= square_high + (low < square_low);
    low -= square_low;
    if (high >> 127) return NAN;
    if (!high && is_tame(2 * c->least))
        return of_two((uint64_t)(low >> 64), (uint64_t)low, 2 * c->least);
    uint64_t least = (uint64_t)low, rest = (uint64_t)(low >> 64);
    if (!(high >> 64) && is_tame(2 * c->least)) /* what is cut off is told by a bit */
        return of_two((uint64_t)high, rest | (least != 0), 2 * c->least + 64);
    uint64_t total[4] = {(uint64_t)low, (uint64_t)(low >> 64), (uint64_t)high,
                         (uint64_t)(high >> 64)};
    return rounded(total, 4, 2 * c->least);
}

static inline double spread(const Sums *s, const Scale *c) {
    /* n * sum of squares - square of the sum, exactly; NaN where it is negative, which
     * only sums of no values are. */
    uint64_t own[MOST_LIMBS], total[2 * MOST_LIMBS + 2], carry = 1;
    const uint64_t *sum = s->sum;
    int n = c->limbs, m = c->limbs2 + 1;
    if (sum[n - 1] >> 63) {
        for (int k = 0; k < n; k++) {
            own[k] = ~sum[k] + carry;
            carry = carry && !own[k];
        }
        sum = own;
    }
    while (n && !sum[n - 1]) n--;
    u128 c1 = 0;
    for (int k = 0; k < m - 1; k++) {
        c1 += (u128)s->squares[k] * (uint64_t)s->n;
        total[k] = (uint64_t)c1;
        c1 >>= 64;
    }
    total[m - 1] = (uint64_t)c1;
    for (int i = 0; i < n; i++) {
        u128 c2 = 0;
        uint64_t borrow = 0;
        for (int k = 0; i + k < m && (k < n || c2 || borrow); k++) {
            c2 += k < n ? (u128)sum[i] * sum[k] : 0;
            uint64_t part = (uint64_t)c2, before = total[i + k];
            c2 >>= 64;
            uint64_t d = before - part, next = before < part;
            next |= d < borrow;
            total[i + k] = d - borrow;
            borrow = next;
        }
    }
    if (total[m - 1] >> 63) return NAN;
    return rounded(total, m, 2 * c->least);
}

#endif
