/* SHA-256 (FIPS 180-4): of four messages at once, in the vectors of any machine, and of
 * one, by the instructions that many x86 processors have for it. */

#ifndef RETRODICT_SHA256_H
#define RETRODICT_SHA256_H

#include <stdint.h>
#include <string.h>

enum { LANES = 4, BLOCK = 64 };
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
};
static const uint32_t START[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

#define ROTATED(x, n) ((x) >> (n) | (x) << (32 - (n)))

static inline void compress(Words state[8], Words w[16]) {
    Words a = state[0], b = state[1], c = state[2], d = state[3];
    Words e = state[4], f = state[5], g = state[6], h = state[7];
    for (int r = 0; r < 64; r++) {
        if (r >= 16) {
            Words x = w[(r + 1) & 15], y = w[(r + 14) & 15];
            w[r & 15] += (ROTATED(x, 7) ^ ROTATED(x, 18) ^ x >> 3) + w[(r + 9) & 15]
                         + (ROTATED(y, 17) ^ ROTATED(y, 19) ^ y >> 10);
        }
        Words t = h + (ROTATED(e, 6) ^ ROTATED(e, 11) ^ ROTATED(e, 25))
                  + ((e & f) ^ (~e & g)) + ROUND[r] + w[r & 15];
        Words u = (ROTATED(a, 2) ^ ROTATED(a, 13) ^ ROTATED(a, 22))
                  + ((a & b) ^ (a & c) ^ (b & c));
        h = g; g = f; f = e; e = d + t;
        d = c; c = b; b = a; a = t + u;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

static inline void put_big(uint8_t *to, uint64_t v, int bytes) {
    for (int k = 0; k < bytes; k++) to[k] = (uint8_t)(v >> 8 * (bytes - 1 - k));
}

static inline uint32_t big(const uint8_t *from) {
    uint32_t v;
    memcpy(&v, from, 4);
    return __builtin_bswap32(v);
}

/* Write the end of the last block behind a message; return the number of blocks. */
static inline int64_t sha256_padded(uint8_t *message, int64_t size) {
    int64_t blocks = (size + 9 + BLOCK - 1) / BLOCK;
    message[size] = 0x80;
    memset(message + size + 1, 0, (size_t)(blocks * BLOCK - size - 9));
    put_big(message + blocks * BLOCK - 8, 8 * (uint64_t)size, 8);
    return blocks;
}

/* The SHA-256 of each of LANES messages, which stand `room` bytes apart; there must be
 * room behind each for the rest of its last block, and 9 bytes at least. */
static inline void sha256_lanes(uint8_t *message, int64_t room, const int64_t *size,
                                Words state[8]) {
    int64_t blocks[LANES], all = 0;
    for (int lane = 0; lane < LANES; lane++) {
        blocks[lane] = sha256_padded(message + lane * room, size[lane]);
        if (blocks[lane] > all) all = blocks[lane];
    }
    Words now[8], w[16];
    for (int k = 0; k < 8; k++) now[k] = (Words){0} + START[k];
    for (int64_t block = 0; block < all; block++) {
        for (int k = 0; k < 16; k++)
            for (int lane = 0; lane < LANES; lane++)
                w[k][lane] = block < blocks[lane]
                    ? big(message + lane * room + block * BLOCK + 4 * k) : 0;
        compress(now, w);
        for (int lane = 0; lane < LANES; lane++)
            if (block == blocks[lane] - 1)
                for (int k = 0; k < 8; k++) state[k][lane] = now[k][lane];
    }
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* Tell whether this processor has SHA, SSSE3 and SSE4.1. */
static inline int has_sha256(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 9) || !(c & 1u << 19)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 29;
}

/* The SHA-256 of one message with its padding, or of two of as many blocks side by side:
 * each instruction waits for the one before it in its own message only. */
__attribute__((target("sha,ssse3,sse4.1"), always_inline))
static inline void sha256_few(int few, const uint8_t *const message[2], int64_t blocks,
                              uint32_t state[2][8]) {
    const __m128i order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i feba[2], hgdc[2];
    /* The instructions take the words as F E B A and H G D C, the lowest first. */
    for (int m = 0; m < few; m++) {
        feba[m] = _mm_set_epi32((int)START[0], (int)START[1], (int)START[4], (int)START[5]);
        hgdc[m] = _mm_set_epi32((int)START[2], (int)START[3], (int)START[6], (int)START[7]);
    }
    for (int64_t block = 0; block < blocks; block++) {
        __m128i first[2], second[2], w[2][4];
        for (int m = 0; m < few; m++) {
            first[m] = feba[m];
            second[m] = hgdc[m];
            for (int k = 0; k < 4; k++) {
                const __m128i *from = (const void *)(message[m] + BLOCK * block + 16 * k);
                w[m][k] = _mm_shuffle_epi8(_mm_loadu_si128(from), order);
            }
        }
        for (int k = 0; k < 16; k++) {
            const __m128i *constants = (const void *)(ROUND + 4 * k);
            for (int m = 0; m < few; m++) {
                __m128i *now = &w[m][k & 3], *last = &w[m][(k + 3) & 3];
                __m128i sum = _mm_add_epi32(*now, _mm_loadu_si128(constants));
                hgdc[m] = _mm_sha256rnds2_epu32(hgdc[m], feba[m], sum);
                sum = _mm_shuffle_epi32(sum, 0x0e);
                feba[m] = _mm_sha256rnds2_epu32(feba[m], hgdc[m], sum);
                __m128i next = _mm_sha256msg1_epu32(*now, w[m][(k + 1) & 3]);
                next = _mm_add_epi32(next, _mm_alignr_epi8(*last, w[m][(k + 2) & 3], 4));
                *now = _mm_sha256msg2_epu32(next, *last);
            }
        }
        for (int m = 0; m < few; m++) {
            feba[m] = _mm_add_epi32(feba[m], first[m]);
            hgdc[m] = _mm_add_epi32(hgdc[m], second[m]);
        }
    }
    for (int m = 0; m < few; m++) {
        uint32_t high[4], low[4];
        memcpy(high, &feba[m], 16);
        memcpy(low, &hgdc[m], 16);
        const uint32_t found[8] = {high[3], high[2], low[3], low[2],
                                   high[1], high[0], low[1], low[0]};
        memcpy(state[m], found, 32);
    }
}

/* The SHA-256 of one message with its padding, where `has_sha256`. */
__attribute__((target("sha,ssse3,sse4.1")))
static inline void sha256_one(const uint8_t *message, int64_t blocks, uint32_t state[8]) {
    const uint8_t *const one[2] = {message, message};
    uint32_t found[2][8];
    sha256_few(1, one, blocks, found);
    memcpy(state, found[0], 32);
}

/* The SHA-256 of two messages of as many blocks, where `has_sha256`. */
__attribute__((target("sha,ssse3,sse4.1")))
static inline void sha256_two(const uint8_t *one, const uint8_t *other, int64_t blocks,
                              uint32_t state[2][8]) {
    const uint8_t *const both[2] = {one, other};
    sha256_few(2, both, blocks, state);
}

#else

static inline int has_sha256(void) { return 0; }
static inline void sha256_one(const uint8_t *message, int64_t blocks, uint32_t state[8]) {
    (void)message, (void)blocks, (void)state;
}
static inline void sha256_two(const uint8_t *one, const uint8_t *other, int64_t blocks,
                              uint32_t state[2][8]) {
    (void)one, (void)other, (void)blocks, (void)state;
}

#endif
#endif
