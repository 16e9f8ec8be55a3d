/* s*B - h*A on edwards25519, by tables of multiples of -A and of B, and libsodium's rule for signatures upon it.
 *
 * For verification only: public data, variable time.
 *
 * The scalars are cut into PARTS parts, each with multiples of its own point 2^(PART_BITS * part) * -A, so that all
 * parts share the same few doublings (Straus' trick; for B the same). Within a part digits are recoded so that most
 * are zero.
 *
 * _verify.pyx calls ed25519_start once, ed25519_key_table for a key that libsodium has admitted, and for signatures
 * ed25519_sum (each) and ed25519_holds (many, for one inversion).
 */
#ifndef ANPORIA_ED25519_H
#define ANPORIA_ED25519_H

#include <stdint.h>
#include <string.h>

/* Limbs need products of 128 bits; GCC and Clang have them on every 64-bit machine. Elsewhere _verify.pyx takes
 * libsodium for everything, and what follows the #else is never called. */
#if defined(__SIZEOF_INT128__) && defined(__GNUC__)

#include "_curve.h"

/* ---- Tables ---- */

/* Measured (docs/decisions/0028-verification-with-tables.md): 253 bits in 8 parts take 32 doublings, and at widths of 4
 * and 8 on average 253 / 5 + 253 / 9 = 79 additions. Twice the memory for a key would save a tenth of the time. */
enum {
    ED25519_TABLES = 1,
    PARTS = 8,
    PART_BITS = 256 / PARTS,
    KEY_WIDTH = 4,
    KEY_POINTS = 1 << (KEY_WIDTH - 2), /* digits of width w are odd and below 2^(w - 1) */
    BASE_WIDTH = 8,
    BASE_POINTS = 1 << (BASE_WIDTH - 2)
};

/* odd[part][i] = (2*i + 1) * 2^(PART_BITS * part) * -A: 8 * 4 * 120 = 3,840 bytes. */
typedef struct {
    ge_addend odd[PARTS][KEY_POINTS];
} key_table;

/* The same of B, made once by ed25519_start and only read from then on: 61,440 bytes. */
static ge_addend BASE[PARTS][BASE_POINTS];

/* p, 3p, 5p, ... */
static void odd_multiples(ge *out, int count, const ge *p)
{
    ge_factors f;
    ge twice;
    ge_double(&f, p);
    ge_multiply_out(&twice, &f, 1);
    out[0] = *p;
    for (int i = 1; i < count; i++) {
        ge_add(&f, &out[i - 1], &twice);
        ge_multiply_out(&out[i], &f, 1);
    }
}

/* p becomes the point of the next part. */
static void next_part(ge *p)
{
    ge_factors f;
    for (int i = 1; i <= PART_BITS; i++) {
        ge_double(&f, p);
        ge_multiply_out(p, &f, i == PART_BITS);
    }
}

/* 0 if the key is no point. Whether it is canonical and of large order, libsodium has said before. */
static int ed25519_key_table(key_table *table, const uint8_t key[32])
{
    ge p, points[PARTS * KEY_POINTS];
    if (!ge_from_bytes_negated(&p, key))
        return 0;
    for (int part = 0; part < PARTS; part++) {
        if (part > 0)
            next_part(&p);
        odd_multiples(points + part * KEY_POINTS, KEY_POINTS, &p);
    }
    ge_to_addends(table->odd[0], points, PARTS * KEY_POINTS);
    return 1;
}

static void ed25519_start(void)
{
    /* -B: y = 4/5 and, as B has an even x, the sign of an odd one (section 5.1); the table wants B, which is what
     * decoding with a negation makes of it */
    uint8_t minus_base[32] = {0x58};
    memset(minus_base + 1, 0x66, 31);
    minus_base[31] |= 0x80;
    ge p, points[BASE_POINTS];
    ge_start();
    ge_from_bytes_negated(&p, minus_base);
    for (int part = 0; part < PARTS; part++) {
        if (part > 0)
            next_part(&p);
        odd_multiples(points, BASE_POINTS, &p);
        ge_to_addends(BASE[part], points, BASE_POINTS);
    }
}

/* ---- Scalars ---- */

/* Digits of both scalars by bit position: which parts have one at a position, and which. */
typedef struct {
    uint32_t nonzero[PART_BITS]; /* bit `row` is set where digit[row][position] is not 0 */
    int8_t digit[2 * PARTS][PART_BITS]; /* rows of A, then of B */
} digits;

/* The non-adjacent form of a scalar below 2^253: digits d[i], each 0 or odd, |d[i]| < 2^(width - 1), with the sum of
 * d[i] * 2^i the scalar, and among `width` digits in a row at most one not 0 (Hankerson, Menezes, Vanstone, "Guide to
 * Elliptic Curve Cryptography", algorithm 3.35). The highest digit is at 253 at most, for a carry. */
static void recode(digits *out, int first_row, const uint8_t scalar[32], int width)
{
    uint64_t words[5] = {load_64(scalar), load_64(scalar + 8), load_64(scalar + 16), load_64(scalar + 24), 0};
    int carry = 0;
    for (int at = 0; at < 254;) {
        uint64_t ahead = words[at / 64] >> at % 64 | words[at / 64 + 1] << 1 << (63 - at % 64);
        /* 0 + 0 and 1 + 1 give a digit 0 and leave the carry; by steps of at most 32, so that `width` bits remain */
        int zeros = __builtin_ctzll((ahead ^ -(uint64_t)carry) | (uint64_t)1 << 32);
        at += zeros;
        if (zeros == 32)
            continue;
        int window = (int)(ahead >> zeros & ((1u << width) - 1)) + carry; /* odd */
        carry = window >> (width - 1);
        int row = first_row + at / PART_BITS, position = at % PART_BITS;
        out->digit[row][position] = (int8_t)(window - (carry << width));
        out->nonzero[position] |= (uint32_t)1 << row;
        at += width;
    }
}

/* Whether s < L, the order of B: 2^252 + 27742317777372353535851937790883648493 (section 5.1). */
static int ed25519_below_L(const uint8_t s[32])
{
    static const uint64_t L[4] = {0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, (uint64_t)1 << 60};
    for (int i = 3; i >= 0; i--) {
        uint64_t word = load_64(s + 8 * i);
        if (word != L[i])
            return word < L[i];
    }
    return 0;
}

/* ---- Signatures ---- */

/* Have a table under way from memory: thousands of keys do not stay in a core's cache. */
static inline void ed25519_fetch(const key_table *table)
{
    for (size_t at = 0; at < sizeof *table; at += 64) /* a cache line of nearly every machine */
        __builtin_prefetch((const char *)table + at);
}

/* s*B - h*A for scalars below 2^253; T is not made. h counts as it is, not modulo the order of A, so the part of A
 * that is of small order counts as it does in libsodium. */
static void ed25519_sum(ge *sum, const uint8_t s[32], const uint8_t h[32], const key_table *table)
{
    digits d;
    ge_factors f;
    memset(&d, 0, sizeof d);
    recode(&d, 0, h, KEY_WIDTH);
    recode(&d, PARTS, s, BASE_WIDTH);
    *sum = GE_NEUTRAL;
    for (int position = PART_BITS - 1; position >= 0; position--) {
        ge_double(&f, sum);
        ge_multiply_out(sum, &f, 1);
        for (uint32_t rows = d.nonzero[position]; rows;) {
            int row = __builtin_ctz(rows), digit = d.digit[row][position];
            int at = (digit < 0 ? -digit : digit) / 2;
            rows &= rows - 1;
            ge_add_addend(&f, sum, row < PARTS ? &table->odd[row][at] : &BASE[row - PARTS][at], digit < 0);
            ge_multiply_out(sum, &f, rows != 0);
        }
    }
}

/* Say of at most GE_MANY sums, which are spent, whether each is the point that its R encodes, by libsodium's rule:
 * R has to be the very encoding RFC 8032 makes of the sum, and not of small order. */
static void ed25519_holds(int *holds, ge *sums, const uint8_t *const *R, int count)
{
    if (count == 0)
        return;
    ge_affine(sums, count);
    for (int i = 0; i < count; i++) {
        uint8_t bytes[32];
        ge_to_bytes(bytes, &sums[i]);
        holds[i] = memcmp(bytes, R[i], 32) == 0 && !ge_small_order(&sums[i]);
    }
}

/* For tests: the encoding of one sum. */
static void ed25519_encode(uint8_t bytes[32], ge *sum)
{
    ge_affine(sum, 1);
    ge_to_bytes(bytes, sum);
}

#else

enum { ED25519_TABLES = 0, GE_MANY = 1 };
typedef struct {
    char none;
} key_table, ge;

static void ed25519_start(void) {}
static int ed25519_key_table(key_table *table, const uint8_t key[32]) { return (void)table, (void)key, 0; }
static int ed25519_below_L(const uint8_t s[32]) { return (void)s, 0; }
static void ed25519_fetch(const key_table *table) { (void)table; }
static void ed25519_sum(ge *sum, const uint8_t s[32], const uint8_t h[32], const key_table *table)
{
    (void)sum, (void)s, (void)h, (void)table;
}
static void ed25519_holds(int *holds, ge *sums, const uint8_t *const *R, int count)
{
    (void)holds, (void)sums, (void)R, (void)count;
}
static void ed25519_encode(uint8_t bytes[32], ge *sum) { (void)bytes, (void)sum; }
#endif
#endif
