/* NonMaxSuppression: the boxes of each class that no better box covers. How many there are depends
 * on the data, so it runs where all inputs are known. */
#include <math.h>
#include <stdlib.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

enum { BOXES, SCORES, MAX_OUTPUT, IOU, SCORE };

struct box {
    float y1, x1, y2, x2;
};

struct candidate {
    float score;
    int64_t index;
};

struct task {
    const float *boxes, *scores;
    int64_t batches, classes, n_boxes, most;
    float iou, score;
    bool by_score, centres;
};

static struct box box_at(const struct task *t, int64_t batch, int64_t i)
{
    const float *b = t->boxes + (batch * t->n_boxes + i) * 4;
    if (t->centres)
        return (struct box){ b[1] - b[3] / 2, b[0] - b[2] / 2, b[1] + b[3] / 2, b[0] + b[2] / 2 };
    /* Corners come in any order. */
    return (struct box){ fminf(b[0], b[2]), fminf(b[1], b[3]), fmaxf(b[0], b[2]),
                         fmaxf(b[1], b[3]) };
}

static bool overlap(struct box a, struct box b, float limit)
{
    const float height = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1);
    const float width = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1);
    if (!(height > 0 && width > 0))
        return false;
    const float common = height * width;
    const float all = (a.y2 - a.y1) * (a.x2 - a.x1) + (b.y2 - b.y1) * (b.x2 - b.x1) - common;
    return all > 0 && common / all > limit;
}

/* Best score first; among equals the first box. */
static int compare(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* The boxes of one class of one picture; writes [batch, class, box] to out (NULL: counts only). */
static int64_t select_boxes(const struct task *t, int64_t batch, int64_t class,
                            struct candidate *candidate, int64_t *out)
{
    const float *scores = t->scores + (batch * t->classes + class) * t->n_boxes;
    int64_t n = 0, kept = 0;
    for (int64_t i = 0; i < t->n_boxes; i++)
        if (!isnan(scores[i]) && (!t->by_score || scores[i] > t->score))
            candidate[n++] = (struct candidate){ scores[i], i };
    qsort(candidate, (size_t)n, sizeof *candidate, compare);
    for (int64_t i = 0; i < n && kept < t->most; i++) {
        const struct box b = box_at(t, batch, candidate[i].index);
        bool covered = false;
        for (int64_t k = 0; k < kept && !covered; k++)
            covered = overlap(b, box_at(t, batch, candidate[k].index), t->iou);
        if (covered)
            continue;
        if (out != NULL) {
            out[3 * kept] = batch;
            out[3 * kept + 1] = class;
            out[3 * kept + 2] = candidate[i].index;
        }
        candidate[kept++] = candidate[i]; /* the kept ones gather at the front */
    }
    return kept;
}

static int64_t select_all(const struct task *t, struct candidate *candidate, int64_t *out)
{
    int64_t total = 0;
    for (int64_t b = 0; b < t->batches; b++)
        for (int64_t c = 0; c < t->classes; c++)
            total += select_boxes(t, b, c, candidate, out != NULL ? out + 3 * total : NULL);
    return total;
}

/* in[]: the node's inputs, RT_UNDEFINED where absent. */
static struct task task_of(const struct rt_node *n, const struct rt_tensor *in)
{
    struct task t = { .boxes = in[BOXES].data,
                      .scores = in[SCORES].data,
                      .batches = in[BOXES].shape.dim[0],
                      .classes = in[SCORES].shape.dim[1],
                      .n_boxes = in[BOXES].shape.dim[1],
                      .centres = rt_attr_int(n, "center_point_box", 0) != 0 };
    if (rt_has_in(n, MAX_OUTPUT))
        t.most = rt_element_int(&in[MAX_OUTPUT], 0);
    if (rt_has_in(n, IOU))
        t.iou = (float)rt_element(&in[IOU], 0);
    t.by_score = rt_has_in(n, SCORE);
    if (t.by_score)
        t.score = (float)rt_element(&in[SCORE], 0);
    return t;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    static const char *const names[] = { "boxes", "scores", "max_output_boxes_per_class",
                                         "iou_threshold", "score_threshold" };
    const struct rt_shape *boxes = &rt_in(g, n, BOXES)->shape,
                          *scores = &rt_in(g, n, SCORES)->shape;
    if (boxes->rank != 3 || scores->rank != 3 || boxes->dim[2] != 4 ||
        boxes->dim[0] != scores->dim[0] || boxes->dim[1] != scores->dim[2])
        return rt_node_fail(err, RT_E_INVALID, n, "boxes and scores do not fit each other");
    struct rt_tensor in[5] = { { .dtype = RT_UNDEFINED } };
    for (int i = 0; i < n->n_in; i++) {
        if (!rt_has_in(n, i))
            continue;
        const struct rt_value *v = rt_in(g, n, i);
        enum rt_status s = rt_check_type(g, n, i, RT_T(i == MAX_OUTPUT ? RT_INT64 : RT_FLOAT), err);
        if (s != RT_OK)
            return s;
        if (i > SCORES && rt_shape_numel(&v->shape) != 1)
            return rt_node_fail(err, RT_E_INVALID, n, "%s is not a scalar", names[i]);
        if (!v->constant)
            return rt_fail_dynamic(err, n, names[i]);
        in[i] = rt_graph_tensor(g, n->in[i]);
    }
    const struct task t = task_of(n, in);
    struct candidate *candidate = rt_alloc_array((size_t)t.n_boxes, sizeof *candidate);
    if (candidate == NULL)
        return rt_graph_nomem(g, err);
    const struct rt_shape y =
        rt_shape_of(2, (const int64_t[]){ select_all(&t, candidate, NULL), 3 });
    rt_free(candidate);
    return rt_set_out(g, n, 0, RT_INT64, &y, err);
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    (void)err;
    n->scratch = (size_t)rt_in(b->g, n, BOXES)->shape.dim[1] * sizeof(struct candidate);
    return RT_OK;
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct task t = task_of(c->node, c->in);
    if (w->id == 0 && c->out[0].data != NULL)
        select_all(&t, c->scratch, c->out[0].data);
}

const struct rt_op rt_op_NonMaxSuppression = {
    .name = "NonMaxSuppression",
    .since = 10,
    .min_in = 2,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};
