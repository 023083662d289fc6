/* The matrix product of every element type: rows of sums, in the kind that the type is computed in.
 */
#include "runtime/ops/element.h"
#include "runtime/ops/gemm.h"

/* Sums of a stretch of a row, in whichever kind. */
static void add_products(union rt_chunk *sum, enum rt_kind kind, const union rt_chunk *left,
                         const void *right, int64_t len)
{
    switch (kind) {
    case RT_KIND_FLOAT:
        for (int64_t i = 0; i < len; i++)
            sum->f[i] += left->f[0] * ((const float *)right)[i];
        break;
    case RT_KIND_DOUBLE:
        for (int64_t i = 0; i < len; i++)
            sum->d[i] += left->d[0] * ((const double *)right)[i];
        break;
    default: /* modulo 2^64 they are the same with and without a sign */
        for (int64_t i = 0; i < len; i++)
            sum->u[i] += left->u[0] * ((const uint64_t *)right)[i];
        break;
    }
}

static void scale(union rt_chunk *sum, enum rt_kind kind, double by, int64_t len)
{
    if (by == 1.0)
        return;
    for (int64_t i = 0; i < len; i++) {
        switch (kind) {
        case RT_KIND_FLOAT:
            sum->f[i] *= (float)by;
            break;
        case RT_KIND_DOUBLE:
            sum->d[i] *= by;
            break;
        case RT_KIND_INT:
            sum->i[i] = (int64_t)((double)sum->i[i] * by);
            break;
        default:
            sum->u[i] = (uint64_t)((double)sum->u[i] * by);
            break;
        }
    }
}

static void add(union rt_chunk *sum, enum rt_kind kind, double by, const void *other, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        switch (kind) {
        case RT_KIND_FLOAT:
            sum->f[i] += (float)by * ((const float *)other)[i];
            break;
        case RT_KIND_DOUBLE:
            sum->d[i] += by * ((const double *)other)[i];
            break;
        default:
            if (by == 1.0)
                sum->u[i] += ((const uint64_t *)other)[i];
            else if (kind == RT_KIND_INT)
                sum->i[i] += (int64_t)(by * (double)((const int64_t *)other)[i]);
            else
                sum->u[i] += (uint64_t)(by * (double)((const uint64_t *)other)[i]);
            break;
        }
    }
}

void rt_product_run(const struct rt_call *c, const struct rt_worker *w, const struct rt_product *p,
                    double alpha, double beta, const struct rt_operand *operand)
{
    const struct rt_tensor *left = &c->in[0], *right = &c->in[1];
    const enum rt_kind kind = rt_kind_of(left->dtype);
    const size_t size = rt_dtype_size(left->dtype);
    const int64_t pieces = (p->n + RT_CHUNK - 1) / RT_CHUNK;
    int64_t begin, end;
    rt_worker_share(w, p->batches * p->m * pieces, 1, &begin, &end);
    for (int64_t item = begin; item < end; item++) {
        const int64_t row = item / pieces, column = item % pieces * RT_CHUNK;
        const int64_t len = p->n - column < RT_CHUNK ? p->n - column : RT_CHUNK;
        const int64_t batch = row / p->m;
        const int64_t from =
            rt_product_matrix(p, p->left_batch, batch) * p->m * p->k + row % p->m * p->left_m;
        const int64_t to =
            rt_product_matrix(p, p->right_batch, batch) * p->k * p->n + column * p->right_n;
        union rt_chunk sum, one, buf;
        for (int64_t i = 0; i < RT_CHUNK; i++)
            sum.u[i] = 0; /* a zero of every kind */
        for (int64_t k = 0; k < p->k; k++) {
            rt_load_elements(&one, kind, left->dtype,
                             (const char *)left->data + (size_t)(from + k * p->left_k) * size, 1,
                             1);
            rt_load_elements(&buf, kind, right->dtype,
                             (const char *)right->data + (size_t)(to + k * p->right_k) * size,
                             p->right_n, len);
            add_products(&sum, kind, &one, &buf, len);
        }
        scale(&sum, kind, alpha, len);
        const int64_t at = row * p->n + column;
        if (operand != NULL)
            add(&sum, kind, beta, rt_operand_load(operand, at, len, kind, &buf), len);
        rt_store_elements(c->out[0].dtype, (char *)c->out[0].data + (size_t)at * size, 1, &sum,
                          kind, len);
    }
}
