/* SHA-256 (FIPS 180-4) of four messages at once, in the vectors of any machine. */

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

/* The SHA-256 of each of LANES messages, which stand `room` bytes apart; of the last
 * block of each, all but the end of `size` bytes is written here. */
static inline void sha256_lanes(uint8_t *message, int64_t room, const int64_t *size,
                                Words state[8]) {
    int64_t blocks[LANES], all = 0;
    for (int lane = 0; lane < LANES; lane++) {
        uint8_t *to = message + lane * room;
        blocks[lane] = (size[lane] + 9 + BLOCK - 1) / BLOCK;
        if (blocks[lane] > all) all = blocks[lane];
        to[size[lane]] = 0x80;
        memset(to + size[lane] + 1, 0, (size_t)(blocks[lane] * BLOCK - size[lane] - 9));
        put_big(to + blocks[lane] * BLOCK - 8, 8 * (uint64_t)size[lane], 8);
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

#endif
