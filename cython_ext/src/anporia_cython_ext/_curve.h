/* Points of edwards25519 (RFC 8032, section 5.1): adding, doubling, decoding, encoding.
 *
 * For public data only, like _field.h.
 *
 * The curve is -x^2 + y^2 = 1 + d*x^2*y^2. The formulas are those of Hisil, Wong, Carter and Dawson, "Twisted Edwards
 * Curves Revisited" (2008). As -1 is a square and d is none, they hold for every two points of the curve, also for
 * equal ones, the neutral one and those of small order: nothing below needs a special case, and no Z is ever 0.
 */
#ifndef ANPORIA_CURVE_H
#define ANPORIA_CURVE_H

#include "_field.h"

/* ---- Points ---- */

/* x = X/Z, y = Y/Z, T = X*Y/Z; all tight. */
typedef struct {
    fe X, Y, Z, T;
} ge;

/* What an addition needs of its second point, if that has Z = 1, as in tables; all tight. */
typedef struct {
    fe y_plus_x, y_minus_x, xy2d; /* y + x, y - x, 2*d*x*y */
} ge_addend;

/* Both formulas end in four products of these: X = E*F, Y = G*H, Z = F*G, T = E*H; all loose. */
typedef struct {
    fe E, F, G, H;
} ge_factors;

/* Made once by ed25519_start, before anything else runs, and only read from then on. */
static fe CURVE_D, CURVE_2D, ROOT_OF_MINUS_1;

enum { GE_MANY = 64 }; /* points that share one inversion, at most */

static const ge GE_NEUTRAL = {{{0}}, {{1}}, {{1}}, {{0}}};

/* ---- Adding and doubling ---- */

static inline void ge_multiply_out(ge *out, const ge_factors *f, int with_T)
{
    fe_mul(&out->X, &f->E, &f->F);
    fe_mul(&out->Y, &f->G, &f->H);
    fe_mul(&out->Z, &f->F, &f->G);
    if (with_T) /* only an addition reads it */
        fe_mul(&out->T, &f->E, &f->H);
}

/* 2p (section 3.3 with a = -1). F and H are the negatives of the paper's, which negates X, Y, Z and T alike. */
static inline void ge_double(ge_factors *out, const ge *p)
{
    fe A, B, C, t;
    fe_square(&A, &p->X);
    fe_square(&B, &p->Y);
    fe_square(&C, &p->Z);
    fe_add(&t, &p->X, &p->Y);
    fe_square(&t, &t);
    fe_add(&C, &C, &C);
    fe_add(&out->H, &A, &B);      /* below 2^52 + 2^14 */
    fe_sub(&out->E, &t, &out->H); /* below 2^51 + 2^53 + 2^13 */
    fe_sub(&out->G, &B, &A);      /* the same */
    fe_add(&C, &C, &A);
    fe_sub(&out->F, &C, &B);      /* 2*Z^2 - G, below 3 * 2^51 + 2^53 + 2^15 < 2^54 */
}

/* p + q, or p - q, where D is 2*Z1*Z2 (section 3.1 with k = 2d); D below 2^52 + 2^14.
 * -q has x negated: y + x and y - x trade places and 2*d*x*y changes its sign, so that F and G trade places. */
static inline void ge_add_D(ge_factors *out, const ge *p, const ge_addend *q, const fe *D, int negative)
{
    const fe *plus = negative ? &q->y_minus_x : &q->y_plus_x;
    const fe *minus = negative ? &q->y_plus_x : &q->y_minus_x;
    fe *difference = negative ? &out->G : &out->F;
    fe *sum = negative ? &out->F : &out->G;
    fe A, B, C;
    fe_sub(&A, &p->Y, &p->X);
    fe_mul(&A, &A, minus);
    fe_add(&B, &p->Y, &p->X);
    fe_mul(&B, &B, plus);
    fe_mul(&C, &p->T, &q->xy2d);
    fe_sub(&out->E, &B, &A);
    fe_sub(difference, D, &C); /* below 2^52 + 2^53 + 2^14 */
    fe_add(sum, D, &C);
    fe_add(&out->H, &B, &A);
}

/* p + q or p - q with a point of a table: Z2 = 1. */
static inline void ge_add_addend(ge_factors *out, const ge *p, const ge_addend *q, int negative)
{
    fe D;
    fe_add(&D, &p->Z, &p->Z);
    ge_add_D(out, p, q, &D, negative);
}

/* p + q with any point. */
static void ge_add(ge_factors *out, const ge *p, const ge *q)
{
    ge_addend addend; /* each times Z2, like D; y +- x loose, which fe_mul takes */
    fe D;
    fe_add(&addend.y_plus_x, &q->Y, &q->X);
    fe_sub(&addend.y_minus_x, &q->Y, &q->X);
    fe_mul(&addend.xy2d, &q->T, &CURVE_2D);
    fe_mul(&D, &p->Z, &q->Z);
    fe_add(&D, &D, &D);
    ge_add_D(out, p, &addend, &D, 0);
}

/* ---- To and from bytes ---- */

/* Decode and negate (RFC 8032, section 5.1.3); 0 if the bytes are no point. Does not look whether y < p. */
static int ge_from_bytes_negated(ge *out, const uint8_t bytes[32])
{
    fe u, v, v3, x, t;
    fe_from_bytes(&out->Y, bytes);
    out->Z = FE_ONE;
    fe_square(&u, &out->Y);
    fe_mul(&v, &u, &CURVE_D);
    fe_sub(&u, &u, &FE_ONE); /* y^2 - 1 */
    fe_add(&v, &v, &FE_ONE); /* d*y^2 + 1 */
    /* a candidate for the root of u/v: u*v^3 * (u*v^7)^((p - 5) / 8) */
    fe_square(&v3, &v);
    fe_mul(&v3, &v3, &v);
    fe_square(&t, &v3);
    fe_mul(&t, &t, &v);
    fe_mul(&t, &t, &u);
    fe_power_root(&x, &t);
    fe_mul(&x, &x, &v3);
    fe_mul(&x, &x, &u);
    /* v*x^2 is u, or -u and the root is sqrt(-1) times the candidate, or u/v is no square */
    fe_square(&t, &x);
    fe_mul(&t, &t, &v);
    if (!fe_equal(&t, &u)) {
        fe_add(&t, &t, &u);
        if (!fe_equal(&t, &FE_ZERO))
            return 0;
        fe_mul(&x, &x, &ROOT_OF_MINUS_1);
    }
    if (fe_is_odd(&x) == bytes[31] >> 7) {
        fe_sub(&t, &FE_ZERO, &x);
        fe_mul(&x, &t, &FE_ONE); /* tight again */
    }
    out->X = x;
    fe_mul(&out->T, &out->X, &out->Y);
    return 1;
}

/* Bring at most GE_MANY points to Z = 1 with one inversion, T left out: Montgomery's trick ("Speeding the Pollard and
 * Elliptic Curve Methods of Factorization", 1987, section 10.3.1). */
static void ge_affine(ge *points, int count)
{
    fe before[GE_MANY]; /* the product of all Z before this one */
    fe product = FE_ONE, inverse;
    for (int i = 0; i < count; i++) {
        before[i] = product;
        fe_mul(&product, &product, &points[i].Z);
    }
    fe_invert(&inverse, &product);
    for (int i = count - 1; i >= 0; i--) {
        fe own; /* 1/Z of this point */
        fe_mul(&own, &inverse, &before[i]);
        fe_mul(&inverse, &inverse, &points[i].Z);
        fe_mul(&points[i].X, &points[i].X, &own);
        fe_mul(&points[i].Y, &points[i].Y, &own);
        points[i].Z = FE_ONE;
    }
}

/* RFC 8032, section 5.1.2, of a point with Z = 1. */
static void ge_to_bytes(uint8_t bytes[32], const ge *p)
{
    fe_to_bytes(bytes, &p->Y);
    bytes[31] |= (uint8_t)(fe_is_odd(&p->X) << 7);
}

/* Whether 8p is neutral, of a point with Z = 1. On the curve x = 0 leaves the orders 1 and 2, y = 0 those of order 4;
 * order 8 is where 2p has y = 0, and y of 2p is (x^2 + y^2) / (2 + x^2 - y^2). */
static int ge_small_order(const ge *p)
{
    fe x2, y2, product;
    fe_square(&x2, &p->X);
    fe_square(&y2, &p->Y);
    fe_add(&product, &x2, &y2);
    fe_mul(&product, &product, &p->X);
    fe_mul(&product, &product, &p->Y);
    return fe_equal(&product, &FE_ZERO);
}

/* What additions need, of at most GE_MANY points, which are spent. */
static void ge_to_addends(ge_addend *out, ge *points, int count)
{
    ge_affine(points, count);
    for (int i = 0; i < count; i++) {
        const fe *x = &points[i].X, *y = &points[i].Y;
        fe t;
        fe_add(&t, y, x);
        fe_mul(&out[i].y_plus_x, &t, &FE_ONE); /* tight again */
        fe_sub(&t, y, x);
        fe_mul(&out[i].y_minus_x, &t, &FE_ONE);
        fe_mul(&t, x, y);
        fe_mul(&out[i].xy2d, &t, &CURVE_2D);
    }
}

/* The numbers above: d = -121665/121666 (section 5.1), and 2^((p - 1)/4) is a root of -1, for 2 is no square. */
static void ge_start(void)
{
    const fe two = {{2}}, numerator = {{121665}}, denominator = {{121666}};
    fe t;
    fe_invert(&t, &denominator);
    fe_mul(&t, &t, &numerator);
    fe_sub(&t, &FE_ZERO, &t);
    fe_mul(&CURVE_D, &t, &FE_ONE); /* tight */
    fe_mul(&CURVE_2D, &CURVE_D, &two);
    fe_power_root(&t, &two); /* (p - 1)/4 = 2 * (p - 5)/8 + 1 */
    fe_square(&t, &t);
    fe_mul(&ROOT_OF_MINUS_1, &t, &two);
}

#endif
