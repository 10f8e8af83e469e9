/* The ordinary record of the ingest stream: read, judged and stamped in one pass.
 *
 * What is accepted here `validate` accepts, and the bytes written are those of its event.
 * What is rejected here it rejects, and the bytes written are its quarantine document.
 * Whatever is not certain is left to it, so that a rule may be narrower than the
 * contract's, and none wider; a reject is written only where all its reasons are certain.
 *
 * Each record is decoded into a buffer that ends with zeros, which no rule takes: every
 * loop over bytes stops there at the latest.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sha256.h"

enum { LONGEST = 16384, SLACK = 64, ATTRIBUTE = 256, FIELDS = 64, DIGITS = 40 };
enum { TEXT, WHOLE, NUMBER, TRUTH };
enum { HAS_LOW = 1, HAS_HIGH = 2, OPEN_LOW = 4, OPEN_HIGH = 8 };
enum { UNSURE = -1, MIXED = -2, REFUSED = -3 };
enum { OTHERS = 8, BROKEN = 16, SHOWN = 200, SHOWN_KEY = 64, CUT_TEXT = 80 };
/* Why a field is refused, and why anything else is, the first by missing attribute. */
enum {
    MISSING, WRONG_TYPE, OUT_OF_RANGE, TOO_LONG, PATTERN_MISMATCH, NOT_ALLOWED, REASONS,
};
enum {
    CUT_OFF = 6, NO_ZONE, AHEAD_OF_ITSELF, AHEAD_OF_ARRIVAL, OTHER_KEY, OTHER_PARTITION,
    REFUSALS,
};
enum { SHARD_DIGITS = 12, SEQUENCE_DIGITS = 56, TIME_TEXT = 27, DIGEST_TEXT = 64 };

static const int64_t TOLERANCE_US = 300 * 1000000LL, DAY_US = 86400 * 1000000LL;
static const int64_t EARLIEST_US = 946684800 * 1000000LL;
static const int64_t LATEST_US = 4102444800 * 1000000LL;

typedef struct {
    const uint8_t *at;
    int64_t size;
} Text;

typedef struct { /* so many characters of a set */
    uint64_t low, high;
    int64_t least, most;
} Step;

typedef struct { /* a reason and what it says was expected, inside of JSON texts */
    Text code, expected;
} Promise;

typedef struct {
    Text name, wire, canonical; /* the last two of the default */
    const Step *step;
    const Text *choice;
    double low, high;
    int64_t low_whole, high_whole;
    int64_t most;
    int32_t kind, is_required, is_nullable, bounds, steps, choices;
    Promise broken[REASONS];
} Field;

typedef struct {
    Text type, schema, lead;
    const Field *field;
    const int32_t *sorted;
    int64_t lateness_us, room;
    int32_t fields, key;
    Promise extra; /* without an address where others are kept */
} Contract;

typedef struct {
    int64_t first, start, end, accepted, kind, unsure, from, size;
} Group;

typedef struct {
    int64_t contracts;
    const Contract *contract;
    int64_t n;
    Text columns;
    const double *arrived_s;
    uint8_t *wire;
    int64_t room;
    Group *group;
    int32_t *order;
    int64_t *span;
    int32_t *kind;
    int32_t *unsure; /* numbers of what is not certain, group by group */
    int64_t groups, unsures, has_sha256;
    const Promise *promise;
    uint8_t *lines; /* documents of what is refused */
    int64_t lines_room;
    int64_t *refused; /* number, start and end of each */
    int64_t refusals;
} Batch;

static inline uint64_t eight(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint32_t four(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Texts here are short: what follows is shorter than a call. */
static inline int same_bytes(const uint8_t *a, const uint8_t *b, int64_t size) {
    if (size >= 8) {
        for (int64_t k = 0; k + 8 < size; k += 8)
            if (eight(a + k) != eight(b + k)) return 0;
        return eight(a + size - 8) == eight(b + size - 8);
    }
    if (size >= 4) return four(a) == four(b) && four(a + size - 4) == four(b + size - 4);
    for (int64_t k = 0; k < size; k++)
        if (a[k] != b[k]) return 0;
    return 1;
}

static inline int same(Text a, Text b) {
    return a.size == b.size && same_bytes(a.at, b.at, a.size);
}

static inline uint8_t *put(uint8_t *to, Text text) {
    const uint8_t *from = text.at;
    int64_t size = text.size;
    if (size >= 16) {
        for (int64_t k = 0; k + 16 < size; k += 16) memcpy(to + k, from + k, 16);
        memcpy(to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        uint64_t first = eight(from), last = eight(from + size - 8);
        memcpy(to, &first, 8);
        memcpy(to + size - 8, &last, 8);
    } else {
        for (int64_t k = 0; k < size; k++) to[k] = from[k];
    }
    return to + size;
}

/* --- base64 ------------------------------------------------------------------------ */

static const int8_t SIX[256] = {
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, 62, -1, -1, -1, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1,
    -1, -1, -1, -1, -1,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, -1, -1, -1, -1, -1, -1, 26, 27, 28,
    29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48,
    49, 50, 51, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
};

/* What each character means in each of four places; BAD has bits that no sum has. */
typedef struct {
    uint32_t at[4][256];
} Sixes;

static const uint32_t BAD = 0xff000000u;

static void make_sixes(Sixes *sixes) {
    for (int c = 0; c < 256; c++)
        for (int k = 0; k < 4; k++)
            sixes->at[k][c] = SIX[c] < 0 ? BAD : (uint32_t)SIX[c] << 6 * (3 - k);
}

/* Return the number of bytes, -1 for what is no base64 in its only right spelling; up
 * to two bytes behind them may be written. */
static int64_t decode(const Sixes *sixes, Text from, uint8_t *to) {
    if (!from.size || from.size % 4 || from.size / 4 * 3 > LONGEST + 2) return -1;
    const uint8_t *p = from.at, *last = from.at + from.size - 4;
    uint8_t *start = to;
    uint32_t bad = 0;
    for (; p < last; p += 4, to += 3) {
        uint32_t v = sixes->at[0][p[0]] | sixes->at[1][p[1]] | sixes->at[2][p[2]]
                     | sixes->at[3][p[3]];
        bad |= v;
        v = __builtin_bswap32(v << 8);
        memcpy(to, &v, 4);
    }
    int pads = (p[3] == '=') + (p[3] == '=' && p[2] == '=');
    uint32_t v = sixes->at[0][p[0]] | sixes->at[1][p[1]];
    if (pads < 2) v |= sixes->at[2][p[2]];
    if (pads < 1) v |= sixes->at[3][p[3]];
    if ((bad | v) & BAD || (pads && v & (pads == 1 ? 0xff : 0xffff))) return -1;
    put_big(to, v, 3);
    return to + 3 - pads - start;
}

/* --- JSON -------------------------------------------------------------------------- */

static inline const uint8_t *blank(const uint8_t *p) {
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') p++;
    return p;
}

/* Read a text of printable ASCII without backslashes; NULL where there is another. */
static inline const uint8_t *text(const uint8_t *p, Text *found) {
    const uint64_t each = 0x0101010101010101u;
    if (*p != '"') return NULL;
    found->at = ++p;
    for (;; p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        uint64_t quote = v ^ each * '"', back = v ^ each * '\\';
        uint64_t stop = (((quote - each) & ~quote) | ((back - each) & ~back)
                         | (v - each * 0x20) | (v + each) | v) & each * 0x80;
        if (stop) {
            p += __builtin_ctzll(stop) / 8;
            found->size = p - found->at;
            return *p == '"' ? p + 1 : NULL;
        }
    }
}

static inline const uint8_t *word(const uint8_t *p, const char *wanted, size_t size) {
    return memcmp(p, wanted, size) ? NULL : p + size;
}

/* --- numbers ----------------------------------------------------------------------- */

static const double TENS[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10,
                              1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20};
enum { MOST_PLACES = 20 };
static const uint64_t SIMPLE = 1000000000000000u;  /* of fewer digits: 15 at most */
static const uint64_t READABLE = 100000000000000000u;
typedef unsigned __int128 Wide;

static Wide power(uint64_t base, int64_t exponent) {
    Wide found = 1;
    while (exponent--) found *= base;
    return found;
}

static int wide_bits(Wide v) {
    uint64_t high = (uint64_t)(v >> 64), low = (uint64_t)v;
    return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
}

typedef struct { /* mantissa * 2^exponent, the mantissa of 53 bits */
    uint64_t mantissa;
    int exponent;
} Double;

/* The double nearest to digits / 10^places, ties to even, in integers; the digits are
 * 1 to READABLE, the places at most MOST_PLACES, so that it is never subnormal. */
static Double nearest(uint64_t digits, int64_t places) {
    int shift = 127 - wide_bits(digits);
    Wide fives = power(5, places), above = (Wide)digits << shift;
    Wide quotient = above / fives;
    int sticky = quotient * fives != above, drop = wide_bits(quotient) - 53;
    Wide rest = quotient & (((Wide)1 << drop) - 1), half = (Wide)1 << (drop - 1);
    uint64_t mantissa = (uint64_t)(quotient >> drop);
    if (rest > half || (rest == half && (sticky || mantissa & 1))) mantissa++;
    Double found = {mantissa, drop - shift - (int)places};
    if (mantissa >> 53) {
        found.mantissa >>= 1;
        found.exponent++;
    }
    return found;
}

static inline int are_equal(Double a, Double b) {
    return a.mantissa == b.mantissa && a.exponent == b.exponent;
}

static double value_of(Double d) {
    uint64_t bits = (uint64_t)(d.exponent + 1075) << 52 | (d.mantissa & ~(1ull << 52));
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

/* Tell whether digits / 10^places, the last digit no zero, is what repr writes for its
 * double: no fewer digits mean the same double, and no others are closer to it.
 *
 * With fewer digits, only the two neighbours in tens need a look: the decimals that mean
 * a double are an interval, and the double lies between the same two, or the one
 * between the double and these digits is itself in the interval. */
static int is_shortest(uint64_t digits, int64_t places, Double d) {
    uint64_t tens = digits / 10;
    if (are_equal(nearest(tens, places - 1), d)) return 0;
    if (are_equal(nearest(tens + 1, places - 1), d)) return 0;
    Wide said = (Wide)digits << -d.exponent, meant = d.mantissa * power(10, places);
    Wide apart = said > meant ? said - meant : meant - said;
    return 2 * apart < (Wide)1 << -d.exponent;
}

typedef struct {
    double value;
    Text wire; /* into the record, or into `digits` */
} Number;

static int is_inside(const Field *field, double value) {
    if (field->bounds & HAS_LOW
        && !(field->bounds & OPEN_LOW ? value > field->low : value >= field->low))
        return 0;
    return !(field->bounds & HAS_HIGH)
        || (field->bounds & OPEN_HIGH ? value < field->high : value <= field->high);
}

/* Read a number without an exponent, and write it as the shortest exact decimal. */
static const uint8_t *decimal(const uint8_t *p, uint8_t *digits, double *found, Text *wire) {
    const uint8_t *start = p;
    int is_negative = *p == '-';
    p += is_negative;
    const uint8_t *whole = p;
    uint64_t said = 0;
    while (*p >= '0' && *p <= '9' && p - whole < 16) said = said * 10 + (uint64_t)(*p++ - '0');
    int64_t length = p - whole, places = 0;
    if (!length || length > 15 || (*whole == '0' && length > 1)) return NULL;
    const uint8_t *end = p;
    if (*p == '.') {
        const uint8_t *fraction = ++p;
        while (*p >= '0' && *p <= '9') {
            if (*p++ != '0') end = p;
        }
        if (p == fraction) return NULL;
        if (end > fraction) places = end - fraction;
        if (places > MOST_PLACES) return NULL;
        for (int64_t k = 0; k < places; k++) {
            if (said >= READABLE / 10) return NULL;
            said = said * 10 + (uint64_t)(fraction[k] - '0');
        }
    }
    double value;
    if (said < SIMPLE) {
        value = (double)said / TENS[places];
        if (said && value < 1e-4) return NULL;
    } else {
        Double exact = nearest(said, places);
        value = value_of(exact);
        if (value < 1e-4 || value >= 1e15 || !is_shortest(said, places, exact))
            return NULL;
    }
    *found = is_negative && said ? -value : value;
    if (said && places) {
        *wire = (Text){start, end - start};
    } else {
        if (!said) start = whole;
        int64_t size = whole + length - start;
        memcpy(digits, start, (size_t)size);
        memcpy(digits + size, ".0", 2);
        *wire = (Text){digits, size + 2};
    }
    return p;
}

static const uint8_t *number(const uint8_t *p, const Field *field, uint8_t *digits,
                             Text *wire) {
    double found;
    p = decimal(p, digits, &found, wire);
    return p && is_inside(field, found) ? p : NULL;
}

static const uint8_t *whole_number(const uint8_t *p, const Field *field, Text *wire) {
    const uint8_t *start = p;
    int is_negative = *p == '-';
    p += is_negative;
    const uint8_t *first = p;
    int64_t value = 0;
    while (*p >= '0' && *p <= '9' && p - first < 18) value = value * 10 + (*p++ - '0');
    if (p == first || (*p >= '0' && *p <= '9')) return NULL;
    if (*first == '0' && (p - first > 1 || is_negative)) return NULL;
    if (is_negative) value = -value;
    if (field->bounds & HAS_LOW && value < field->low_whole) return NULL;
    if (field->bounds & HAS_HIGH && value > field->high_whole) return NULL;
    *wire = (Text){start, p - start};
    return p;
}

/* --- texts ------------------------------------------------------------------------- */

/* Match a text as a whole. No character that may follow a step is one of its own, so
 * that taking as many as there are is the only way. */
static int matches(Text text, const Step *step, int32_t steps) {
    const uint8_t *p = text.at, *end = p + text.size;
    for (int32_t k = 0; k < steps; k++) {
        int64_t count = 0;
        while (p < end && count < step[k].most
               && ((*p & 64 ? step[k].high : step[k].low) >> (*p & 63) & 1)) {
            p++;
            count++;
        }
        if (count < step[k].least) return 0;
    }
    return p == end;
}

static int is_good_text(const Field *field, Text text) {
    if (field->choices) {
        for (int32_t k = 0; k < field->choices; k++)
            if (same(text, field->choice[k])) return 1;
        return 0;
    }
    return text.size <= field->most
        && (field->steps < 0 || matches(text, field->step, field->steps));
}

/* Tell whether a key is fit for names of items and paths, whatever its contract says. */
static int is_safe_key(Text key) {
    const uint8_t *p = key.at, *end = p + key.size;
    if (*p == ' ' || end[-1] == ' ' || (key.size == 1 && *p == '.')) return 0;
    if (key.size == 4 && (p[0] | 32) == 's' && (p[1] | 32) == 'o' && (p[2] | 32) == 'a'
        && (p[3] | 32) == 'p')
        return 0;
    for (; p < end; p++) {
        if (*p == '/' || *p == '=' || *p == '%') return 0;
        if (*p == '.' && p + 1 < end && p[1] == '.') return 0;
        if (*p == '_' && p + 2 < end && p[1] == '_' && (p[2] | 32) == 'h') return 0;
    }
    return 1;
}

/* --- times ------------------------------------------------------------------------- */

/* Days since 1970-01-01, of the Gregorian calendar and years after it. */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = year / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static inline int64_t two(const uint8_t *p) { return (p[0] - '0') * 10 + (p[1] - '0'); }

/* Read YYYY-MM-DDTHH:MM:SS[.f]Z of the years 2000 to 2099, in microseconds; -1 for any
 * other. It is written to `to` with six places. */
static int64_t time_of(Text text, uint8_t *to) {
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    enum { WHOLE_TEXT = sizeof shape - 1 };
    static const uint8_t lengths[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const uint8_t *p = text.at;
    if (text.size < WHOLE_TEXT + 1 || text.size > TIME_TEXT || p[text.size - 1] != 'Z')
        return -1;
    for (int k = 0; k < WHOLE_TEXT; k++)
        if (shape[k] == 'd' ? p[k] < '0' || p[k] > '9' : p[k] != shape[k]) return -1;
    int64_t year = two(p) * 100 + two(p + 2), month = two(p + 5), day = two(p + 8);
    int64_t hour = two(p + 11), minute = two(p + 14), second = two(p + 17);
    if (year < 2000 || year > 2099 || month < 1 || month > 12 || day < 1) return -1;
    if (day > lengths[month] + (month == 2 && year % 4 == 0)) return -1;
    if (hour > 23 || minute > 59 || second > 59) return -1;
    int64_t fraction = 0, places = text.size - WHOLE_TEXT - 2;
    if (text.size > WHOLE_TEXT + 1) {
        if (p[WHOLE_TEXT] != '.' || places < 1) return -1;
        for (int64_t k = 0; k < 6; k++) {
            uint8_t c = k < places ? p[WHOLE_TEXT + 1 + k] : '0';
            if (c < '0' || c > '9') return -1;
            fraction = fraction * 10 + (c - '0');
        }
    } else {
        places = 0;
    }
    memcpy(to, p, WHOLE_TEXT);
    memcpy(to + WHOLE_TEXT, ".000000Z", 8);
    memcpy(to + WHOLE_TEXT + 1, p + WHOLE_TEXT + 1, (size_t)places);
    int64_t seconds = ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    return seconds * 1000000 + fraction;
}

static void put_digits(uint8_t *to, int64_t value, int count) {
    while (count--) {
        to[count] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
}

/* Write a time of the years 2000 to 2099. */
static void put_time(uint8_t *to, int64_t time_us) {
    int64_t days = time_us / DAY_US, of_day = time_us % DAY_US / 1000000;
    int64_t shifted = days + 719468, era = shifted / 146097, of_era = shifted % 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * years + years / 4 - years / 100);
    int64_t part = (5 * of_year + 2) / 153, month = part < 10 ? part + 3 : part - 9;
    memcpy(to, "yyyy-mm-ddThh:mm:ss.ffffffZ", TIME_TEXT);
    put_digits(to, years + era * 400 + (month <= 2), 4);
    put_digits(to + 5, month, 2);
    put_digits(to + 8, of_year - (153 * part + 2) / 5 + 1, 2);
    put_digits(to + 11, of_day / 3600, 2);
    put_digits(to + 14, of_day / 60 % 60, 2);
    put_digits(to + 17, of_day % 60, 2);
    put_digits(to + 20, time_us % 1000000, 6);
}

/* --- one record -------------------------------------------------------------------- */

enum {
    SPECVERSION, ID, SOURCE, TYPE, SUBJECT, TIME, DATASCHEMA, DATACONTENTTYPE,
    CAUSATIONID, CORRELATIONID, IMPORTID, OBSERVEDAT, DATA, ATTRIBUTES,
};
static const char *const NAMES[ATTRIBUTES] = {
    "specversion", "id", "source", "type", "subject", "time", "dataschema",
    "datacontenttype", "causationid", "correlationid", "importid", "observedat", "data",
};
static const uint8_t SIZES[ATTRIBUTES] = {11, 2, 6, 4, 7, 4, 10, 15, 11, 13, 8, 10, 4};
enum { REQUIRED = 1 << DATA | ((1 << (DATASCHEMA + 1)) - 1) };
/* What nothing else is judged by, so that a record may lack it and be flawed only there. */
enum { LACKED = 1 << SPECVERSION | 1 << ID | 1 << SOURCE | 1 << TIME };

typedef struct {
    Text name;
    const uint8_t *value, *end;
} Member;

typedef struct {
    Text attribute[DATA]; /* without an address where it is absent, or null */
    Text wire[FIELDS];    /* the values of fields as JSON */
    Text key;
    uint8_t digits[FIELDS][DIGITS];
    Member member[FIELDS]; /* of a payload that is only plain */
    int members;
    unsigned missing;
} Record;

typedef struct { /* what is wrong of a field, or of an attribute */
    const Promise *promise;
    Text field, expected; /* behind what is promised */
    int32_t is_of_data, size;
    uint8_t key[2 * SHOWN_KEY + 8], got[2 * SHOWN + 8];
} Broken;

typedef struct { /* what is known of all records, and the four whose digest is due */
    const Contract *contract;
    uint8_t *message;
    uint8_t *hole[LANES];
    const uint8_t *end; /* of the record */
    int64_t room, most, size[LANES], time_us, observed_us;
    int waiting, is_cut_off, broken;
    uint8_t raw[LONGEST + SLACK], happened[TIME_TEXT], observed[TIME_TEXT];
    Record record;
    Sixes sixes;
    Broken why[BROKEN + 1];
} Lane;

static int attribute_of(Text name, int hint) {
    for (int k = 0; k < ATTRIBUTES; k++) {
        int one = hint + k < ATTRIBUTES ? hint + k : hint + k - ATTRIBUTES;
        if (name.size == SIZES[one] && same_bytes(name.at, (const uint8_t *)NAMES[one], SIZES[one])) return one;
    }
    return -1;
}

static const uint8_t *value(const uint8_t *p, const Field *field, uint8_t *digits,
                            Text *wire, Text *said) {
    const uint8_t *start = p;
    if (*p == 'n') {
        if (!field->is_nullable) return NULL;
        *wire = (Text){start, 4};
        return word(p, "null", 4);
    }
    switch (field->kind) {
    case TEXT:
        p = text(p, said);
        if (!p || !is_good_text(field, *said)) return NULL;
        *wire = (Text){start, p - start};
        return p;
    case WHOLE: return whole_number(p, field, wire);
    case NUMBER: return number(p, field, digits, wire);
    default:
        p = *p == 't' ? word(p, "true", 4) : word(p, "false", 5);
        if (p) *wire = (Text){start, p - start};
        return p;
    }
}

static const uint8_t *payload(const uint8_t *p, const Contract *contract, Record *record) {
    uint64_t seen = 0;
    int next = 0;
    record->key = (Text){NULL, 0};
    for (int32_t k = 0; k < contract->fields; k++) record->wire[k].at = NULL;
    if (*p != '{') return NULL;
    p = blank(p + 1);
    if (*p != '}') {
        for (;;) {
            Text name, said = {NULL, 0};
            if (!(p = text(p, &name))) return NULL;
            int found = -1;
            for (int k = 0; k < contract->fields && found < 0; k++) {
                int one = next + k < contract->fields ? next + k : next + k - contract->fields;
                if (same(name, contract->field[one].name)) found = one;
            }
            if (found < 0 || seen >> found & 1) return NULL;
            seen |= 1ull << found;
            next = found + 1;
            p = blank(p);
            if (*p++ != ':') return NULL;
            p = value(blank(p), &contract->field[found], record->digits[found],
                      &record->wire[found], &said);
            if (!p) return NULL;
            if (found == contract->key) record->key = said;
            p = blank(p);
            if (*p == '}') break;
            if (*p++ != ',') return NULL;
            p = blank(p);
        }
    }
    for (int32_t k = 0; k < contract->fields; k++)
        if (contract->field[k].is_required && !record->wire[k].at) return NULL;
    return p + 1;
}

/* Pass over a payload whose contract is not known yet. */
static const uint8_t *passed(const uint8_t *p) {
    if (*p++ != '{') return NULL;
    while (*p && *p != '{' && *p != '}') {
        Text ignored;
        if (*p == '"') {
            if (!(p = text(p, &ignored))) return NULL;
        } else {
            p++;
        }
    }
    return *p == '}' ? p + 1 : NULL;
}

static const Contract *contract_of(const Batch *batch, const Lane *lane, Text type) {
    if (lane->contract && same(type, lane->contract->type)) return lane->contract;
    for (int64_t k = 0; k < batch->contracts; k++)
        if (same(type, batch->contract[k].type)) return &batch->contract[k];
    return NULL;
}

/* Read a text, and note where the record ends within it. */
static inline const uint8_t *text_of(Lane *lane, const uint8_t *p, Text *found) {
    const uint8_t *behind = text(p, found);
    if (!behind && *p == '"') lane->is_cut_off = found->at + found->size == lane->end;
    return behind;
}

static int is_like(Text a, Text b) {
    if (a.size != b.size) return 0;
    for (int64_t k = 0; k < a.size; k++) {
        uint8_t c = a.at[k], d = b.at[k];
        if (c != d && ((c | 32) != (d | 32) || (c | 32) < 'a' || (c | 32) > 'z')) return 0;
    }
    return 1;
}

static int begins(Text text, const char *with, int64_t size) {
    return text.size >= size && same_bytes(text.at, (const uint8_t *)with, size);
}

/* Pass over a number of any size that both integers of 64 bits and doubles can hold, but
 * none that is written as a negative zero. */
static const uint8_t *any_number(const uint8_t *p) {
    const uint8_t *start = p;
    int is_negative = *p == '-', has_digit = 0;
    p += is_negative;
    const uint8_t *first = p;
    for (; *p >= '0' && *p <= '9' && p - first < 18; p++) has_digit |= *p != '0';
    if (p == first || (*first == '0' && p - first > 1)) return NULL;
    if (*p == '.') {
        const uint8_t *fraction = ++p;
        for (; *p >= '0' && *p <= '9' && p - start < DIGITS; p++) has_digit |= *p != '0';
        if (p == fraction) return NULL;
    }
    return is_negative && !has_digit ? NULL : p;
}

/* Pass over a value that is no container. */
static const uint8_t *any_value(Lane *lane, const uint8_t *p) {
    Text ignored;
    switch (*p) {
    case '"': return text_of(lane, p, &ignored);
    case 't': return word(p, "true", 4);
    case 'f': return word(p, "false", 5);
    case 'n': return word(p, "null", 4);
    default: return any_number(p);
    }
}

/* Tell whether a name is one that no reader acts on, or takes for one of those before. */
static int is_plain_name(Text name, const Member *before, int count) {
    if (name.size > ATTRIBUTE || begins(name, "__", 2) || begins(name, "$", 1)
        || begins(name, "@", 1) || begins(name, "py/", 3))
        return 0;
    for (int k = 0; k < count; k++)
        if (is_like(before[k].name, name)) return 0;
    return 1;
}

/* Pass over a payload of plain values, whatever its contract. */
static const uint8_t *any_payload(Lane *lane, const uint8_t *p) {
    Record *record = &lane->record;
    record->members = 0;
    if (*p != '{') return NULL;
    p = blank(p + 1);
    if (*p == '}') return p + 1;
    for (;;) {
        Member *member = &record->member[record->members];
        if (record->members == FIELDS || !(p = text_of(lane, p, &member->name))) return NULL;
        if (!is_plain_name(member->name, record->member, record->members)) return NULL;
        record->members++;
        p = blank(p);
        if (*p++ != ':') return NULL;
        member->value = p = blank(p);
        if (!(p = any_value(lane, p))) return NULL;
        member->end = p;
        p = blank(p);
        if (*p == '}') return p + 1;
        if (*p++ != ',') return NULL;
        p = blank(p);
    }
}

/* Read the record in `lane->raw`; return its contract, NULL where it is not certain.
 * Where the payload is not to be judged, it is only plain, and so may attributes be that
 * nobody knows; a few that are known may be missing. */
static const Contract *opened(const Batch *batch, Lane *lane, int is_payload_judged) {
    Record *record = &lane->record;
    Text *said = record->attribute;
    const Contract *contract = NULL;
    const uint8_t *p = blank(lane->raw), *later = NULL, *behind = NULL;
    unsigned seen = 0;
    int next = 0, others = 0;
    Member other[OTHERS];
    for (int k = 0; k < DATA; k++) said[k] = (Text){NULL, 0};
    if (*p != '{') return NULL;
    p = blank(p + 1);
    for (;;) {
        Text name;
        if (!(p = text_of(lane, p, &name))) return NULL;
        int found = attribute_of(name, next);
        if (found < 0 && !is_payload_judged) {
            if (others == OTHERS || !is_plain_name(name, other, others)) return NULL;
            other[others++].name = name;
            p = blank(p);
            if (*p++ != ':' || !(p = any_value(lane, blank(p)))) return NULL;
            p = blank(p);
            if (*p == '}') break;
            if (*p++ != ',') return NULL;
            p = blank(p);
            continue;
        }
        if (found < 0 || seen >> found & 1) return NULL;
        seen |= 1u << found;
        next = found + 1 < ATTRIBUTES ? found + 1 : 0;
        p = blank(p);
        if (*p++ != ':') return NULL;
        p = blank(p);
        if (found == DATA) {
            if (!is_payload_judged) {
                p = any_payload(lane, p);
            } else {
                if (!contract) later = p;
                p = behind = contract ? payload(p, contract, record) : passed(p);
            }
        } else if (*p == 'n' && found > DATASCHEMA) {
            p = word(p, "null", 4);
        } else {
            p = text_of(lane, p, &said[found]);
            if (!p || !said[found].size || said[found].size > ATTRIBUTE) return NULL;
            if (found == TYPE && !(contract = contract_of(batch, lane, said[TYPE])))
                return NULL;
        }
        if (!p) return NULL;
        p = blank(p);
        if (*p == '}') break;
        if (*p++ != ',') return NULL;
        p = blank(p);
    }
    p = blank(p + 1);
    unsigned needed = is_payload_judged ? REQUIRED : REQUIRED & ~LACKED;
    if (p != lane->end || (seen & needed) != needed || !contract) return NULL;
    record->missing = REQUIRED & ~seen;
    for (int k = 0; k < others; k++)
        for (int known = 0; known < ATTRIBUTES; known++)
            if (seen >> known & 1
                && is_like(other[k].name, (Text){(const uint8_t *)NAMES[known], SIZES[known]}))
                return NULL;
    if (later && payload(later, contract, record) != behind) return NULL;
    lane->contract = contract;
    return contract;
}

/* --- what is written --------------------------------------------------------------- */

#define PUT(to, literal) (memcpy(to, literal, sizeof literal - 1), (to) + sizeof literal - 1)

static uint8_t *put_whole(uint8_t *to, int64_t value) {
    uint8_t digits[20], *first = digits + sizeof digits;
    uint64_t left = (uint64_t)value;
    for (; left >= 100; left /= 100) {
        uint32_t two = (uint32_t)(left % 100);
        *--first = (uint8_t)('0' + two % 10);
        *--first = (uint8_t)('0' + two / 10);
    }
    *--first = (uint8_t)('0' + left % 10);
    if (left >= 10) *--first = (uint8_t)('0' + left / 10);
    return put(to, (Text){first, digits + sizeof digits - first});
}

static void put_digest(const uint32_t state[8], uint8_t *to) {
    static const char hexadecimal[] = "0123456789abcdef";
    for (int k = 0; k < 8; k++)
        for (int digit = 0; digit < 8; digit++)
            *to++ = (uint8_t)hexadecimal[state[k] >> (28 - 4 * digit) & 15];
}

static void put_digests(Lane *lane, int64_t has_instructions) {
    if (has_instructions) {
        for (int k = 0; k < lane->waiting; k += AT_ONCE) {
            const uint8_t *message[AT_ONCE];
            int64_t blocks[AT_ONCE] = {0};
            uint32_t state[AT_ONCE][8];
            for (int m = 0; m < AT_ONCE; m++) {
                uint8_t *start = lane->message + lane->room * (k + m);
                message[m] = start;
                if (k + m < lane->waiting) blocks[m] = sha256_padded(start, lane->size[k + m]);
            }
            sha256_two(message, blocks, state);
            for (int m = 0; m < AT_ONCE && k + m < lane->waiting; m++)
                put_digest(state[m], lane->hole[k + m]);
        }
    } else {
        uint32_t own[8];
        Words state[8] = {0};
        for (int k = lane->waiting; k < LANES; k++) lane->size[k] = 0;
        sha256_lanes(lane->message, lane->room, lane->size, state);
        for (int k = 0; k < lane->waiting; k++) {
            for (int word = 0; word < 8; word++) own[word] = state[word][k];
            put_digest(own, lane->hole[k]);
        }
    }
    lane->waiting = 0;
}

/* Have the digest of the message of so many bytes put into a hole, now or later. */
static void await_digest(const Batch *batch, Lane *lane, int64_t size, uint8_t *hole) {
    lane->size[lane->waiting] = size;
    lane->hole[lane->waiting++] = hole;
    if (lane->waiting == LANES) put_digests(lane, batch->has_sha256);
}

static void put_message(const Batch *batch, Lane *lane, const Contract *contract,
                        int64_t time_us, uint8_t *hole) {
    const Record *record = &lane->record;
    uint8_t *start = lane->message + lane->room * lane->waiting, *to = start;
    to = put(to, contract->lead);
    *to++ = '"';
    to = put(to, record->key);
    to = PUT(to, "\",");
    to = put_whole(to, time_us);
    to = PUT(to, ",{");
    for (int32_t k = 0; k < contract->fields; k++) {
        int32_t place = contract->sorted[k];
        const Field *field = &contract->field[place];
        if (k) *to++ = ',';
        *to++ = '"';
        to = put(to, field->name);
        to = PUT(to, "\":");
        to = put(to, record->wire[place].at ? record->wire[place] : field->canonical);
    }
    to = PUT(to, "}]");
    await_digest(batch, lane, to - start, hole);
}

typedef struct {
    Text shard, sequence;
    int64_t arrived_us;
} Arrival;

static uint8_t *put_position(uint8_t *to, const Arrival *arrival) {
    to = put(to, arrival->shard);
    *to++ = '-';
    memset(to, '0', SEQUENCE_DIGITS);
    return put(to + SEQUENCE_DIGITS - arrival->sequence.size, arrival->sequence);
}

/* Judge the attributes of an opened record, and when it happened and was observed. */
static int is_in_order(Lane *lane, const Contract *contract, Text partition_key,
                       const Arrival *arrival) {
    const Text *said = lane->record.attribute;
    static const Text spoken = {(const uint8_t *)"1.0", 3};
    if (said[SPECVERSION].at && !same(said[SPECVERSION], spoken)) return 0;
    if (!same(said[DATASCHEMA], contract->schema)) return 0;
    if (!same(said[SUBJECT], partition_key) || !is_safe_key(said[SUBJECT])) return 0;
    if (said[CAUSATIONID].at && same(said[CAUSATIONID], said[ID])) return 0;
    uint8_t seen[TIME_TEXT];
    int64_t time_us = time_of(said[TIME], lane->happened);
    int64_t observed_us = arrival->arrived_us;
    if (time_us < 0 || (said[OBSERVEDAT].at && !said[IMPORTID].at)) return 0;
    if (said[OBSERVEDAT].at) {
        observed_us = time_of(said[OBSERVEDAT], seen);
        if (observed_us < 0) return 0;
    } else if (said[IMPORTID].at) {
        observed_us = time_us;
    }
    if (time_us - observed_us > TOLERANCE_US
        || observed_us - arrival->arrived_us > TOLERANCE_US)
        return 0;
    if (observed_us != lane->observed_us) {
        put_time(lane->observed, observed_us);
        lane->observed_us = observed_us;
    }
    lane->time_us = time_us;
    return 1;
}

/* --- what is refused --------------------------------------------------------------- */

/* Write a character inside of a JSON text, unless so many have been. */
static uint8_t *put_shown(uint8_t *to, uint8_t c, int *left) {
    if (!*left) return to;
    --*left;
    if (c == '"' || c == '\\') *to++ = '\\';
    *to++ = c;
    return to;
}

/* Write a text of printable ASCII without backslashes, and of white space, as Python
 * shows it, inside of a JSON text; at most `most` characters of it and of what is shown. */
static uint8_t *put_text_shown(uint8_t *to, Text text, int64_t most, int left) {
    int64_t size = text.size < most ? text.size : most;
    int has_single = 0, has_double = 0;
    for (int64_t k = 0; k < size; k++) {
        has_single |= text.at[k] == '\'';
        has_double |= text.at[k] == '"';
    }
    uint8_t quote = has_single && !has_double ? '"' : '\'';
    to = put_shown(to, quote, &left);
    for (int64_t k = 0; k < size; k++) {
        uint8_t c = text.at[k];
        int is_white = c == '\n' || c == '\r' || c == '\t';
        if (is_white || c == quote) to = put_shown(to, '\\', &left);
        to = put_shown(to, !is_white ? c : c == '\n' ? 'n' : c == '\r' ? 'r' : 't', &left);
    }
    return put_shown(to, quote, &left);
}

/* Write a value that `any_value` has passed over as Python shows it, inside of a JSON
 * text; NULL where that is not certain. */
static uint8_t *put_value_shown(uint8_t *to, const uint8_t *p) {
    uint8_t digits[DIGITS];
    Text wire;
    double value;
    switch (*p) {
    case '"': return text(p, &wire) ? put_text_shown(to, wire, SHOWN, SHOWN) : NULL;
    case 't': return PUT(to, "True");
    case 'f': return PUT(to, "False");
    case 'n': return PUT(to, "None");
    default: break;
    }
    const uint8_t *behind = p + (*p == '-');
    while (*behind >= '0' && *behind <= '9') behind++;
    if (*behind != '.') return put(to, (Text){p, behind - p});
    return decimal(p, digits, &value, &wire) ? put(to, wire) : NULL;
}

/* Note what is wrong, to be told what was found in its place; of what is too much, all
 * takes the last place. */
static Broken *note(Lane *lane, const Promise *promise, Text field, int is_of_data) {
    Broken *broken = &lane->why[lane->broken < BROKEN ? lane->broken : BROKEN];
    lane->broken++;
    broken->promise = promise;
    broken->field = field;
    broken->expected = (Text){broken->key, 0};
    broken->is_of_data = is_of_data;
    broken->size = 0;
    return broken;
}

static void find(Broken *broken, const uint8_t *end) {
    broken->size = (int32_t)(end - broken->got);
}

static void note_nothing(Lane *lane, const Promise *promise, Text field, int is_of_data) {
    Broken *broken = note(lane, promise, field, is_of_data);
    find(broken, PUT(broken->got, "nothing"));
}

/* Note a value that is wrong; NULL where it is not certain how it is shown. */
static Broken *note_value(Lane *lane, const Promise *promise, Text field, const uint8_t *value) {
    Broken *broken = note(lane, promise, field, 1);
    uint8_t *end = put_value_shown(broken->got, value);
    if (!end) return NULL;
    find(broken, end);
    return broken;
}

static void note_key(Broken *broken, Text key) {
    uint8_t *end = put_text_shown(broken->key, key, SHOWN_KEY, 2 * SHOWN_KEY);
    broken->expected.size = end - broken->key;
}

/* Note what is wrong of a value that is not null and that `value` did not take: perhaps
 * nothing; 0 where that is not certain. */
static int judge_value(Lane *lane, const Field *field, const uint8_t *p) {
    int is_text = *p == '"', is_truth = *p == 't' || *p == 'f', reason = WRONG_TYPE;
    const uint8_t *behind = p + (*p == '-');
    while (*behind >= '0' && *behind <= '9') behind++;
    int is_whole = !is_text && !is_truth && *behind != '.';
    if (field->kind == TEXT && is_text) {
        Text said;
        if (!text(p, &said)) return 0;
        reason = field->choices ? NOT_ALLOWED : said.size > field->most ? TOO_LONG
                                                                        : PATTERN_MISMATCH;
    } else if (field->kind == WHOLE && is_whole) {
        reason = OUT_OF_RANGE;
    } else if (field->kind == NUMBER && !is_text && !is_truth) {
        uint8_t digits[DIGITS];
        Text wire;
        double found;
        if (!decimal(p, digits, &found, &wire)) return 0;
        Broken *broken = note(lane, &field->broken[OUT_OF_RANGE], field->name, 1);
        find(broken, put(broken->got, wire));
        return 1;
    }
    return note_value(lane, &field->broken[reason], field->name, p) != NULL;
}

/* Note what is wrong of a plain payload, and which keys it does not have in common with
 * its subject; 0 where that is not certain. */
static int judge_payload(const Batch *batch, Lane *lane, const Contract *contract) {
    Record *record = &lane->record;
    const Text subject = record->attribute[SUBJECT];
    const Field *key = &contract->field[contract->key];
    const Member *other = NULL;
    int is_known[FIELDS] = {0};
    if (!is_good_text(key, subject)) return 0;
    for (int32_t k = 0; k < contract->fields; k++) {
        const Field *field = &contract->field[k];
        const Member *member = NULL;
        Text text = {NULL, 0};
        for (int m = 0; m < record->members && !member; m++) {
            if (is_known[m] || !same(record->member[m].name, field->name)) continue;
            member = &record->member[m];
            is_known[m] = 1;
        }
        if (!member) {
            if (field->is_required)
                note_nothing(lane, &field->broken[MISSING], field->name, 1);
            continue;
        }
        int is_good = value(member->value, field, record->digits[k], &record->wire[k], &text)
                      == member->end;
        if (field == key && *member->value != 'n' && !(is_good && same(text, subject)))
            other = member;
        if (is_good) continue;
        if (*member->value == 'n') {
            Broken *broken = note(lane, &field->broken[MISSING], field->name, 1);
            find(broken, PUT(broken->got, "null"));
        } else if (!judge_value(lane, field, member->value)) {
            return 0;
        }
    }
    for (int m = 0; m < record->members; m++) {
        if (is_known[m] || !contract->extra.code.at) continue;
        if (!note_value(lane, &contract->extra, record->member[m].name, record->member[m].value))
            return 0;
    }
    if (other) {
        Broken *broken = note_value(lane, &batch->promise[OTHER_KEY], key->name, other->value);
        if (!broken) return 0;
        broken->is_of_data = 0;
        note_key(broken, subject);
    }
    return 1;
}

/* Tell whether a text is a time of day and date to which only a zone is missing. */
static int has_no_zone(Text text) {
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    enum { WHOLE_TEXT = sizeof shape - 1, MOST_DIGITS = 18 };
    int64_t size = text.size;
    if (size != WHOLE_TEXT && (size < WHOLE_TEXT + 2 || size > WHOLE_TEXT + 1 + MOST_DIGITS))
        return 0;
    for (int64_t k = 0; k < size; k++) {
        int is_digit = text.at[k] >= '0' && text.at[k] <= '9';
        char wanted = k < WHOLE_TEXT ? shape[k] : k == WHOLE_TEXT ? '.' : 'd';
        if (wanted == 'd' ? !is_digit : text.at[k] != (uint8_t)wanted) return 0;
    }
    return 1;
}

static void note_ahead(Lane *lane, const Promise *promise, Text field, int64_t ahead_us) {
    if (ahead_us <= TOLERANCE_US) return;
    Broken *broken = note(lane, promise, field, 0);
    int64_t whole = ahead_us / 1000000, rest = ahead_us % 1000000;
    if (rest > 500000 || (rest == 500000 && whole & 1)) whole++;
    uint8_t *to = put_whole(PUT(broken->got, "'"), whole);
    find(broken, PUT(to, " s after'"));
}

/* Note all that is wrong of an opened record; 0 where that is not certain, or nothing. */
static int judge_all_of(const Batch *batch, Lane *lane, const Contract *contract,
                        Text partition_key, const Arrival *arrival) {
    const Text *said = lane->record.attribute;
    static const Text spoken = {(const uint8_t *)"1.0", 3};
    if (said[SPECVERSION].at && !same(said[SPECVERSION], spoken)) return 0;
    if (!same(said[DATASCHEMA], contract->schema) || !is_safe_key(said[SUBJECT])) return 0;
    if (said[CAUSATIONID].at && same(said[CAUSATIONID], said[ID])) return 0;
    int64_t time_us = -1, observed_us = arrival->arrived_us;
    for (int k = SPECVERSION; k <= TIME; k++) {
        Text name = {(const uint8_t *)NAMES[k], SIZES[k]};
        if (lane->record.missing >> k & 1) note_nothing(lane, &batch->promise[k], name, 0);
    }
    const Text time = {(const uint8_t *)NAMES[TIME], SIZES[TIME]};
    if (!said[TIME].at || has_no_zone(said[TIME])) {
        if (said[OBSERVEDAT].at) return 0;
        if (said[TIME].at) {
            Broken *broken = note(lane, &batch->promise[NO_ZONE], time, 0);
            find(broken, put_text_shown(broken->got, said[TIME], SHOWN, SHOWN));
        }
    } else {
        time_us = time_of(said[TIME], lane->happened);
        if (time_us < 0 || (said[OBSERVEDAT].at && !said[IMPORTID].at)) return 0;
        uint8_t seen[TIME_TEXT];
        if (said[OBSERVEDAT].at) observed_us = time_of(said[OBSERVEDAT], seen);
        else if (said[IMPORTID].at) observed_us = time_us;
        if (observed_us < 0) return 0;
    }
    if (!judge_payload(batch, lane, contract)) return 0;
    const Text subject = {(const uint8_t *)NAMES[SUBJECT], SIZES[SUBJECT]};
    if (!same(said[SUBJECT], partition_key)) {
        Broken *broken = note(lane, &batch->promise[OTHER_PARTITION], subject, 0);
        note_key(broken, partition_key);
        find(broken, put_text_shown(broken->got, said[SUBJECT], SHOWN, SHOWN));
    }
    if (time_us >= 0) {
        Text when = time;
        note_ahead(lane, &batch->promise[AHEAD_OF_ITSELF], time, time_us - observed_us);
        if (said[OBSERVEDAT].at) when = (Text){(const uint8_t *)NAMES[OBSERVEDAT], SIZES[OBSERVEDAT]};
        note_ahead(lane, &batch->promise[AHEAD_OF_ARRIVAL], when, observed_us - arrival->arrived_us);
    }
    return lane->broken && lane->broken <= BROKEN;
}

/* Note that a record ends too early, and show its end. */
static void note_cut_off(const Batch *batch, Lane *lane) {
    static const Text record = {(const uint8_t *)"record", 6};
    const uint8_t *start = blank(lane->raw), *end = lane->end;
    while (end[-1] == ' ') end--;
    if (end - start > CUT_TEXT) start = end - CUT_TEXT;
    Broken *broken = note(lane, &batch->promise[CUT_OFF], record, 0);
    find(broken, put_text_shown(broken->got, (Text){start, end - start}, SHOWN, SHOWN));
}

/* Tell whether a text is itself inside of a JSON text; none is empty. */
static int is_plain(Text text) {
    for (int64_t k = 0; k < text.size; k++) {
        uint8_t c = text.at[k];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') return 0;
    }
    return text.size > 0;
}

static uint8_t *put_text_or_null(uint8_t *to, Text text) {
    if (!text.at) return PUT(to, "null");
    *to++ = '"';
    to = put(to, text);
    *to++ = '"';
    return to;
}

static uint8_t *put_reasons(const Lane *lane, uint8_t *to) {
    for (int k = 0; k < lane->broken; k++) {
        Text code = lane->why[k].promise->code;
        int before = 0;
        while (before < k && !same(lane->why[before].promise->code, code)) before++;
        if (before < k) continue;
        if (k) *to++ = ',';
        to = put_text_or_null(to, code);
    }
    to = PUT(to, "],\"reasons\":[");
    for (int k = 0; k < lane->broken; k++) {
        const Broken *broken = &lane->why[k];
        if (k) *to++ = ',';
        to = PUT(to, "{\"code\":\"");
        to = put(to, broken->promise->code);
        to = PUT(to, "\",\"field\":\"");
        if (broken->is_of_data) to = PUT(to, "data.");
        to = put(to, broken->field);
        to = PUT(to, "\",\"expected\":\"");
        to = put(to, broken->promise->expected);
        to = put(to, broken->expected);
        to = PUT(to, "\",\"got\":\"");
        to = put(to, (Text){broken->got, broken->size});
        to = PUT(to, "\"}");
    }
    return to;
}

/* Write the quarantine document of the record in `lane->raw`, which is not accepted, as
 * a line; NULL where it is not certain. */
static uint8_t *refused(const Batch *batch, Lane *lane, Text base64, Text partition_key,
                        const Arrival *arrival, uint8_t *to) {
    Text source = {NULL, 0}, id = source, key = source;
    lane->is_cut_off = lane->broken = 0;
    const Contract *contract = opened(batch, lane, 0);
    if (!is_plain(partition_key)) return NULL;
    if (contract) {
        if (!judge_all_of(batch, lane, contract, partition_key, arrival)) return NULL;
        source = lane->record.attribute[SOURCE];
        id = lane->record.attribute[ID];
        key = lane->record.attribute[SUBJECT];
    } else if (lane->is_cut_off) {
        note_cut_off(batch, lane);
    } else {
        return NULL;
    }
    enum { FIXED = 512, EACH = 64 };
    int64_t room = FIXED + base64.size + partition_key.size + source.size + id.size + key.size;
    for (int k = 0; k < lane->broken; k++) {
        const Broken *broken = &lane->why[k];
        room += EACH + 2 * broken->promise->code.size + broken->promise->expected.size
                + broken->field.size + broken->expected.size + broken->size;
    }
    if (batch->lines + batch->lines_room - to < room) return NULL;
    to = PUT(to, "{\"position\":\"");
    to = put_position(to, arrival);
    to = PUT(to, "\",\"arrival_us\":");
    to = put_whole(to, arrival->arrived_us);
    to = PUT(to, ",\"partition_key\":\"");
    to = put(to, partition_key);
    to = PUT(to, "\",\"codes\":[");
    to = put_reasons(lane, to);
    to = PUT(to, "],\"source\":");
    to = put_text_or_null(to, source);
    to = PUT(to, ",\"id\":");
    to = put_text_or_null(to, id);
    to = PUT(to, ",\"key\":");
    to = put_text_or_null(to, key);
    to = PUT(to, ",\"sha256\":\"");
    Text raw = {lane->raw, lane->end - lane->raw};
    put(lane->message + lane->room * lane->waiting, raw);
    await_digest(batch, lane, raw.size, to);
    to += DIGEST_TEXT;
    to = PUT(to, "\",\"bytes_base64\":\"");
    to = put(to, base64);
    return PUT(to, "\"}\n");
}

/* Judge the record in `lane->raw`, and write its event; NULL where it is not certain. */
static uint8_t *judged(const Batch *batch, Lane *lane, Text partition_key,
                       const Arrival *arrival, uint8_t *to) {
    const Contract *contract = opened(batch, lane, 1);
    const Record *record = &lane->record;
    const Text *said = record->attribute;
    if (!contract || !is_in_order(lane, contract, partition_key, arrival)) return NULL;
    if (!same(said[SUBJECT], record->key)) return NULL;
    int64_t time_us = lane->time_us, observed_us = lane->observed_us;
    to = PUT(to, "{\"specversion\":\"1.0\",\"id\":\"");
    to = put(to, said[ID]);
    to = PUT(to, "\",\"source\":\"");
    to = put(to, said[SOURCE]);
    to = PUT(to, "\",\"type\":\"");
    to = put(to, contract->type);
    to = PUT(to, "\",\"subject\":\"");
    to = put(to, record->key);
    to = PUT(to, "\",\"time\":\"");
    to = put(to, (Text){lane->happened, TIME_TEXT});
    to = PUT(to, "\",\"dataschema\":\"");
    to = put(to, contract->schema);
    to = PUT(to, "\",\"data\":{");
    for (int32_t k = 0; k < contract->fields; k++) {
        const Field *field = &contract->field[k];
        if (k) *to++ = ',';
        *to++ = '"';
        to = put(to, field->name);
        to = PUT(to, "\":");
        to = put(to, record->wire[k].at ? record->wire[k] : field->wire);
    }
    to = PUT(to, "},\"position\":\"");
    to = put_position(to, arrival);
    to = PUT(to, "\",\"observedat\":\"");
    to = put(to, (Text){lane->observed, TIME_TEXT});
    to = observed_us - time_us > contract->lateness_us ? PUT(to, "\",\"late\":true")
                                                       : PUT(to, "\",\"late\":false");
    to = PUT(to, ",\"tags\":[],\"digest\":\"");
    put_message(batch, lane, contract, time_us, to);
    to += DIGEST_TEXT;
    *to++ = '"';
    for (int k = CAUSATIONID; k <= CORRELATIONID; k++) {
        if (!said[k].at) continue;
        to = k == CAUSATIONID ? PUT(to, ",\"causationid\":\"")
                              : PUT(to, ",\"correlationid\":\"");
        to = put(to, said[k]);
        *to++ = '"';
    }
    *to++ = '}';
    return to;
}

/* --- a batch ----------------------------------------------------------------------- */

enum { EVENT_ID, SEQUENCE, KEY, BYTES, COLUMNS };

/* Cut the columns into lines; return whether there are as many as there should be. */
static int cut(const Batch *batch, Text *line) {
    const uint8_t *p = batch->columns.at, *end = p + batch->columns.size;
    int64_t lines = COLUMNS * batch->n;
    for (int64_t i = 0; i < lines; i++) {
        const uint8_t *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        line[i] = (Text){p, stop - p};
        if (stop == end) return i + 1 == lines;
        p = stop + 1;
    }
    return 0;
}

/* Order the records by partition key, the keys by their first record. */
static int64_t grouped(const Batch *batch, const Text *key, int32_t *group,
                       int32_t *table, int64_t places, int64_t *next) {
    int64_t groups = 0, n = batch->n;
    memset(table, -1, (size_t)places * 4);
    for (int64_t i = 0; i < n; i++) {
        uint64_t hash = 0xcbf29ce484222325u;
        for (int64_t k = 0; k < key[i].size; k++)
            hash = (hash ^ key[i].at[k]) * 0x100000001b3u;
        hash ^= hash >> 32;
        int64_t place = (int64_t)(hash & (uint64_t)(places - 1));
        while (table[place] >= 0
               && !same(key[i], key[batch->group[table[place]].first]))
            place = (place + 1) & (places - 1);
        if (table[place] < 0) {
            table[place] = (int32_t)groups;
            batch->group[groups] = (Group){i, 0, 0, 0, UNSURE, 0, 0, 0};
            next[groups++] = 0;
        }
        group[i] = table[place];
        next[group[i]]++;
    }
    for (int64_t g = 0, before = 0; g < groups; g++) {
        batch->group[g].size = next[g];
        next[g] = batch->group[g].from = before;
        before += batch->group[g].size;
    }
    for (int64_t i = 0; i < n; i++) batch->order[next[group[i]]++] = (int32_t)i;
    return groups;
}

static inline int are_eight_digits(uint64_t v) {
    const uint64_t each = 0x0101010101010101u;
    return ((v & (v + each * 6)) & each * 0xf0) == each * 0x30;
}

static int are_digits(Text text) {
    const uint8_t *p = text.at;
    int64_t k = 0;
    for (; k + 8 <= text.size; k += 8)
        if (!are_eight_digits(eight(p + k))) return 0;
    for (; k < text.size; k++)
        if (p[k] < '0' || p[k] > '9') return 0;
    return 1;
}

static int arrival_of(const Text *line, int64_t n, int64_t i, double arrived_s,
                      Arrival *found) {
    Text event_id = line[EVENT_ID * n + i], sequence = line[SEQUENCE * n + i];
    enum { LEAD = 8 };
    if (event_id.size < LEAD + SHARD_DIGITS || memcmp(event_id.at, "shardId-", LEAD)) return 0;
    if (event_id.size > LEAD + SHARD_DIGITS && event_id.at[LEAD + SHARD_DIGITS] != ':')
        return 0;
    found->shard = (Text){event_id.at + LEAD, SHARD_DIGITS};
    found->sequence = sequence;
    if (!sequence.size || sequence.size > SEQUENCE_DIGITS) return 0;
    if (!are_digits(found->shard) || !are_digits(sequence)) return 0;
    /* To whole milliseconds, ties to even: what is added leaves no bits for less. */
    const double rounding = 6755399441055744.0;
    double ms = arrived_s * 1000;
    if (!(ms >= (double)EARLIEST_US / 1000 && ms < (double)LATEST_US / 1000)) return 0;
    found->arrived_us = (int64_t)(ms + rounding - rounding) * 1000;
    return 1;
}

static void judge_all(Batch *batch, Lane *lane, const Text *column, const int32_t *group) {
    int64_t n = batch->n;
    uint8_t *to = batch->wire, *end = to + batch->room, *lines = batch->lines;
    Group *now = NULL;
    batch->unsures = batch->refusals = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t i = batch->order[k];
        if (now != &batch->group[group[i]]) {
            now = &batch->group[group[i]];
            now->start = now->end = to - batch->wire;
        }
        batch->span[2 * i] = batch->span[2 * i + 1] = batch->kind[i] = UNSURE;
        Arrival arrival;
        Text from = column[BYTES * n + i], key = column[KEY * n + i];
        int64_t size = -1;
        if (arrival_of(column, n, i, batch->arrived_s[i], &arrival))
            size = decode(&lane->sixes, from, lane->raw);
        uint8_t *start = to + (now->accepted > 0), *written = NULL, *line = NULL;
        if (size >= 0 && size <= LONGEST && end - start >= 2 * size + lane->most) {
            memset(lane->raw + size, 0, SLACK);
            lane->end = lane->raw + size;
            written = judged(batch, lane, key, &arrival, start);
            if (!written) line = refused(batch, lane, from, key, &arrival, lines);
        }
        if (line) {
            int64_t *told = batch->refused + 3 * batch->refusals++;
            told[0] = i;
            told[1] = lines - batch->lines;
            told[2] = line - batch->lines;
            batch->kind[i] = REFUSED;
            lines = line;
            continue;
        }
        if (!written) {
            now->unsure++;
            batch->unsure[batch->unsures++] = (int32_t)i;
            continue;
        }
        if (now->accepted++) *to = ',';
        int32_t kind = (int32_t)(lane->contract - batch->contract);
        now->kind = now->accepted == 1 || now->kind == kind ? kind : MIXED;
        batch->kind[i] = kind;
        batch->span[2 * i] = start - batch->wire;
        batch->span[2 * i + 1] = now->end = written - batch->wire;
        to = written;
    }
    if (lane->waiting) put_digests(lane, batch->has_sha256);
}

/* Tell whether digests may be computed one by one, by instructions for that. */
int retrodict_has_sha256(void) { return has_sha256(); }

/* Judge a batch, its events written key by key. 0 on success, 1 where memory ran out,
 * 2 where a column has line breaks of its own. */
int retrodict_validate(Batch *batch) {
    int64_t n = batch->n, places = 16, most = 0;
    while (places < 2 * n) places *= 2;
    for (int64_t k = 0; k < batch->contracts; k++)
        if (batch->contract[k].room > most) most = batch->contract[k].room;
    size_t lines = COLUMNS * (size_t)n * sizeof(Text), integers = (size_t)(n + places) * 4;
    Lane *lane = malloc(sizeof(Lane));
    Text *line = malloc(lines + 1);
    int32_t *group = malloc(integers);
    int64_t *next = malloc((size_t)n * 8 + 8);
    int failed = 1;
    if (lane && line && group && next) {
        lane->contract = NULL;
        lane->waiting = 0;
        make_sixes(&lane->sixes);
        lane->observed_us = -1;
        lane->most = most;
        lane->room = 2 * LONGEST + most;
        lane->message = malloc((size_t)(LANES * lane->room));
        if (lane->message) {
            failed = cut(batch, line) ? 0 : 2;
            if (!failed) {
                batch->groups =
                    grouped(batch, line + KEY * n, group, group + n, places, next);
                judge_all(batch, lane, line, group);
            }
            free(lane->message);
        }
    }
    free(lane);
    free(line);
    free(group);
    free(next);
    return failed;
}
