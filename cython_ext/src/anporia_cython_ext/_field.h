/* Numbers modulo p = 2^255 - 19, the field of Curve25519 (RFC 8032, section 5.1).
 *
 * For public data only: nothing here takes the same time for all numbers.
 *
 * A number is five limbs of 51 bits, lowest first: 5 * 51 = 255, so what leaves the top limb comes back into the
 * lowest times 19. Limbs may be larger than 51 bits for a while, which saves most carries:
 *
 *   tight   every limb below 2^51 + 2^13: what multiplying, squaring and decoding give
 *   loose   every limb below 2^54:        what multiplying and squaring take
 *
 * Sums are not carried. Each function says what it takes; _curve.h says at each sum that it stays loose.
 */
#ifndef ANPORIA_FIELD_H
#define ANPORIA_FIELD_H

#include <stdint.h>
#include <string.h>

typedef unsigned __int128 u128;

typedef struct {
    uint64_t limb[5];
} fe;

#define LOW_51 (((uint64_t)1 << 51) - 1)

static const fe FE_ZERO = {{0, 0, 0, 0, 0}};
static const fe FE_ONE = {{1, 0, 0, 0, 0}};

/* ---- Sums ---- */

static inline void fe_add(fe *out, const fe *a, const fe *b)
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = a->limb[i] + b->limb[i];
}

/* a - b + 4p, so that no limb goes below zero: b's limbs must be below 2^53 - 76, which is 4 * (2^51 - 19).
 * Adds up to 2^53 to a's limbs. */
static inline void fe_sub(fe *out, const fe *a, const fe *b)
{
    out->limb[0] = a->limb[0] + 4 * (LOW_51 - 18) - b->limb[0];
    for (int i = 1; i < 5; i++)
        out->limb[i] = a->limb[i] + 4 * LOW_51 - b->limb[i];
}

/* ---- Products ---- */

/* Five sums of products, each below 2^115, to a tight number.
 *
 * 2^115: one loose limb times one loose limb is below 2^108, and a sum has at most 1 + 4 * 19 = 77 < 2^7 of them.
 * The carry out of sum[4], which has 5 products and no factor 19, is just above 5 * 2^57 at most; times 19 and
 * with limb 0 it is below 2^64. What then leaves limb 0 is below 2^64 / 2^51 = 2^13. */
static inline void fe_carry(fe *out, u128 sum[5])
{
    for (int i = 0; i < 4; i++) {
        out->limb[i] = (uint64_t)sum[i] & LOW_51;
        sum[i + 1] += (uint64_t)(sum[i] >> 51);
    }
    out->limb[4] = (uint64_t)sum[4] & LOW_51;
    out->limb[0] += 19 * (uint64_t)(sum[4] >> 51);
    out->limb[1] += out->limb[0] >> 51;
    out->limb[0] &= LOW_51;
}

/* Both loose; the product is tight. The school method; products of weight 2^255 and more return times 19. */
static inline void fe_mul(fe *out, const fe *a, const fe *b)
{
    const uint64_t a0 = a->limb[0], a1 = a->limb[1], a2 = a->limb[2], a3 = a->limb[3], a4 = a->limb[4];
    const uint64_t b0 = b->limb[0], b1 = b->limb[1], b2 = b->limb[2], b3 = b->limb[3], b4 = b->limb[4];
    const uint64_t c1 = 19 * b1, c2 = 19 * b2, c3 = 19 * b3, c4 = 19 * b4; /* below 2^59 */
    u128 sum[5];
    sum[0] = (u128)a0 * b0 + (u128)a1 * c4 + (u128)a2 * c3 + (u128)a3 * c2 + (u128)a4 * c1;
    sum[1] = (u128)a0 * b1 + (u128)a1 * b0 + (u128)a2 * c4 + (u128)a3 * c3 + (u128)a4 * c2;
    sum[2] = (u128)a0 * b2 + (u128)a1 * b1 + (u128)a2 * b0 + (u128)a3 * c4 + (u128)a4 * c3;
    sum[3] = (u128)a0 * b3 + (u128)a1 * b2 + (u128)a2 * b1 + (u128)a3 * b0 + (u128)a4 * c4;
    sum[4] = (u128)a0 * b4 + (u128)a1 * b3 + (u128)a2 * b2 + (u128)a3 * b1 + (u128)a4 * b0;
    fe_carry(out, sum);
}

/* fe_mul(out, a, a), with each product of two different limbs made once. */
static inline void fe_square(fe *out, const fe *a)
{
    const uint64_t a0 = a->limb[0], a1 = a->limb[1], a2 = a->limb[2], a3 = a->limb[3], a4 = a->limb[4];
    const uint64_t c3 = 19 * a3, c4 = 19 * a4;
    u128 sum[5];
    sum[0] = (u128)a0 * a0 + (u128)(2 * a1) * c4 + (u128)(2 * a2) * c3;
    sum[1] = (u128)(2 * a0) * a1 + (u128)(2 * a2) * c4 + (u128)a3 * c3;
    sum[2] = (u128)(2 * a0) * a2 + (u128)a1 * a1 + (u128)(2 * a3) * c4;
    sum[3] = (u128)(2 * a0) * a3 + (u128)(2 * a1) * a2 + (u128)a4 * c4;
    sum[4] = (u128)(2 * a0) * a4 + (u128)(2 * a1) * a3 + (u128)a2 * a2;
    fe_carry(out, sum);
}

/* Square `times` times; at least once. */
static void fe_squares(fe *out, const fe *a, int times)
{
    fe_square(out, a);
    while (--times)
        fe_square(out, out);
}

/* ---- Powers ---- */

/* z^(2^250 - 1), from which both powers below are a few steps, and z^11 on the way.
 * The names say the exponent: ones_n is z^(2^n - 1), and ones_(m + n) = ones_m^(2^n) * ones_n. */
static void fe_power_ones_250(fe *ones_250, fe *power_11, const fe *z)
{
    fe power_2, power_9, ones_5, ones_10, ones_20, ones_40, ones_50, ones_100, ones_200, t;
    fe_square(&power_2, z);
    fe_squares(&t, &power_2, 2);
    fe_mul(&power_9, &t, z);
    fe_mul(power_11, &power_9, &power_2);
    fe_square(&t, power_11);
    fe_mul(&ones_5, &t, &power_9); /* 22 + 9 = 31 */
    fe_squares(&t, &ones_5, 5);
    fe_mul(&ones_10, &t, &ones_5);
    fe_squares(&t, &ones_10, 10);
    fe_mul(&ones_20, &t, &ones_10);
    fe_squares(&t, &ones_20, 20);
    fe_mul(&ones_40, &t, &ones_20);
    fe_squares(&t, &ones_40, 10);
    fe_mul(&ones_50, &t, &ones_10);
    fe_squares(&t, &ones_50, 50);
    fe_mul(&ones_100, &t, &ones_50);
    fe_squares(&t, &ones_100, 100);
    fe_mul(&ones_200, &t, &ones_100);
    fe_squares(&t, &ones_200, 50);
    fe_mul(ones_250, &t, &ones_50);
}

/* 1 / z as z^(p - 2), by Fermat; 0 for 0. p - 2 = 2^255 - 21 = (2^250 - 1) * 2^5 + 11. */
static void fe_invert(fe *out, const fe *z)
{
    fe ones_250, power_11;
    fe_power_ones_250(&ones_250, &power_11, z);
    fe_squares(out, &ones_250, 5);
    fe_mul(out, out, &power_11);
}

/* z^((p - 5) / 8), for square roots. (p - 5) / 8 = 2^252 - 3 = (2^250 - 1) * 2^2 + 1. `out` may not be `z`. */
static void fe_power_root(fe *out, const fe *z)
{
    fe ones_250, power_11;
    fe_power_ones_250(&ones_250, &power_11, z);
    fe_squares(out, &ones_250, 2);
    fe_mul(out, out, z);
}

/* ---- Bytes (RFC 8032, section 5.1.2: 32 bytes, the lowest first) ---- */

static inline uint64_t load_64(const uint8_t bytes[8])
{
    uint64_t word = 0;
    for (int i = 7; i >= 0; i--)
        word = word << 8 | bytes[i];
    return word;
}

/* The lowest 255 bits; the topmost is no part of the number (it is the sign of x). */
static void fe_from_bytes(fe *out, const uint8_t bytes[32])
{
    /* limb i begins at bit 51 * i, which is bit (51 * i) % 8 of byte (51 * i) / 8 */
    out->limb[0] = load_64(bytes) & LOW_51;
    out->limb[1] = load_64(bytes + 6) >> 3 & LOW_51;
    out->limb[2] = load_64(bytes + 12) >> 6 & LOW_51;
    out->limb[3] = load_64(bytes + 19) >> 1 & LOW_51;
    out->limb[4] = load_64(bytes + 24) >> 12 & LOW_51;
}

/* The one form below p; `a` is loose. */
static void fe_to_bytes(uint8_t bytes[32], const fe *a)
{
    fe t = *a;
    /* Once around: less than 8 + 1 leaves the top, so that t < 2^255 + 9 * 19, which is below 2p. */
    for (int i = 0; i < 4; i++) {
        t.limb[i + 1] += t.limb[i] >> 51;
        t.limb[i] &= LOW_51;
    }
    t.limb[0] += 19 * (t.limb[4] >> 51);
    t.limb[4] &= LOW_51;
    /* t >= p exactly when t + 19 reaches 2^255; then t - p = t + 19 - 2^255. */
    uint64_t carry = 19;
    for (int i = 0; i < 5; i++)
        carry = (t.limb[i] + carry) >> 51;
    carry *= 19;
    for (int i = 0; i < 5; i++) {
        carry += t.limb[i];
        t.limb[i] = carry & LOW_51;
        carry >>= 51;
    }
    const uint64_t words[4] = {
        t.limb[0] | t.limb[1] << 51,
        t.limb[1] >> 13 | t.limb[2] << 38,
        t.limb[2] >> 26 | t.limb[3] << 25,
        t.limb[3] >> 39 | t.limb[4] << 12,
    };
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(words[i / 8] >> 8 * (i % 8));
}

static int fe_equal(const fe *a, const fe *b)
{
    uint8_t left[32], right[32];
    fe_to_bytes(left, a);
    fe_to_bytes(right, b);
    return memcmp(left, right, 32) == 0;
}

static int fe_is_odd(const fe *a)
{
    uint8_t bytes[32];
    fe_to_bytes(bytes, a);
    return bytes[0] & 1;
}

#endif
