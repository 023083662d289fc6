/* Forms batches from a list of jobs. */
#include "server/queue.h"

#include <assert.h>

/* The job behind which one of this level belongs; NULL: at the head. */
static struct sv_job *place_of(const struct sv_queue *q, int level)
{
    while (level >= 0 && q->last[level] == NULL)
        level--;
    return level >= 0 ? q->last[level] : NULL;
}

static void link_in(struct sv_queue *q, struct sv_job *job)
{
    struct sv_job *before = place_of(q, job->own.level);
    struct sv_job *behind = before != NULL ? before->own.next : q->head;
    job->own.prev = before;
    job->own.next = behind;
    *(before != NULL ? &before->own.next : &q->head) = job;
    if (behind != NULL)
        behind->own.prev = job;
    q->last[job->own.level] = job;
}

static void link_out(struct sv_queue *q, struct sv_job *job)
{
    struct sv_job *before = job->own.prev, *behind = job->own.next;
    *(before != NULL ? &before->own.next : &q->head) = behind;
    if (behind != NULL)
        behind->own.prev = before;
    if (q->last[job->own.level] == job)
        q->last[job->own.level] =
            before != NULL && before->own.level == job->own.level ? before : NULL;
    job->own.next = job->own.prev = NULL;
}

bool sv_queue_is_full(const struct sv_queue *q)
{
    return q->n_jobs + q->n_promised >= q->max_jobs;
}

bool sv_queue_promise(struct sv_queue *q, struct sv_job *job)
{
    assert(!job->own.promised && !job->own.queued);
    if (sv_queue_is_full(q))
        return false;
    job->own.promised = true;
    q->n_promised++;
    return true;
}

void sv_queue_take_back(struct sv_queue *q, struct sv_job *job)
{
    q->n_promised -= job->own.promised;
    job->own.promised = false;
}

bool sv_queue_push(struct sv_queue *q, struct sv_job *job, uint64_t now)
{
    assert(job->own.level >= 0 && job->own.level < SV_QUEUE_LEVELS);
    if (!job->own.promised && sv_queue_is_full(q))
        return false;
    sv_queue_take_back(q, job);
    job->own.submitted = now;
    link_in(q, job);
    job->own.queued = true;
    q->n_jobs++;
    q->n_deadlines += job->deadline != 0;
    return true;
}

void sv_queue_remove(struct sv_queue *q, struct sv_job *job)
{
    assert(job->own.queued);
    link_out(q, job);
    job->own.queued = false;
    q->n_jobs--;
    q->n_deadlines -= job->deadline != 0;
}

void sv_queue_postpone(struct sv_queue *q, struct sv_job *job)
{
    assert(job->own.queued);
    q->n_deadlines -= job->deadline != 0;
    job->deadline = 0;
    link_out(q, job);
    job->own.level = SV_QUEUE_LEVELS - 1;
    link_in(q, job);
}

struct sv_job *sv_queue_expired(struct sv_queue *q, uint64_t now)
{
    if (q->n_deadlines == 0)
        return NULL;
    for (struct sv_job *job = q->head; job != NULL; job = job->own.next)
        if (job->deadline != 0 && job->deadline <= now && job->own.taken == 0)
            return job;
    return NULL;
}

/* Whether both may lie in one block: same types, same sizes but for the number of samples. */
static bool same_kind(const struct sv_job *a, const struct sv_job *b)
{
    if (a->n_in != b->n_in)
        return false;
    for (int i = 0; i < a->n_in; i++) {
        const struct rt_tensor *x = &a->in[i], *y = &b->in[i];
        if (x->dtype != y->dtype || x->shape.rank != y->shape.rank ||
            (x->data == NULL) != (y->data == NULL))
            return false;
        for (int d = 1; d < x->shape.rank; d++)
            if (x->shape.dim[d] != y->shape.dim[d])
                return false;
    }
    return true;
}

int sv_queue_samples(const struct sv_queue *q, int enough)
{
    int n = 0;
    for (const struct sv_job *job = q->head; job != NULL && n < enough; job = job->own.next)
        if (same_kind(q->head, job))
            n = job->n - job->own.taken < enough - n ? n + job->n - job->own.taken : enough;
    return n;
}

/* The largest preferred size that n samples fill; 0: none. */
static int preferred(const struct sv_queue *q, int n)
{
    int best = 0;
    for (int i = 0; i < q->n_preferred && q->preferred[i] <= n; i++)
        best = q->preferred[i];
    return best;
}

/* How many samples the next batch may hold. */
static int batch_room(const struct sv_queue *q)
{
    if (q->n_preferred == 0)
        return q->max_batch;
    int size = preferred(q, sv_queue_samples(q, q->max_batch));
    return size > 0 ? size : q->max_batch;
}

/* The batch that the queue would give now, without changing it. */
static int gather(const struct sv_queue *q, int share, struct sv_piece *piece)
{
    struct sv_job *first = q->head;
    if (first == NULL)
        return 0;
    if (q->max_batch == 0) {
        piece[0] = (struct sv_piece){ .job = first, .from = 0, .n = first->n };
        return 1;
    }
    int n_pieces = 0, room = batch_room(q);
    for (struct sv_job *job = first; job != NULL && room > 0 && share > 0; job = job->own.next) {
        if (job != first && !same_kind(first, job))
            continue;
        int left = job->n - job->own.taken;
        if (left > room) {
            /* What fits a batch of its own is not torn apart for the sake of a fuller one. */
            if (job != first)
                return n_pieces;
            left = room;
        }
        /* Likewise the first one for the sake of others' shares. */
        if (job != first && left > share)
            return n_pieces;
        piece[n_pieces++] = (struct sv_piece){ .job = job, .from = job->own.taken, .n = left };
        room -= left;
        share -= left;
    }
    return n_pieces;
}

bool sv_queue_due(const struct sv_queue *q, uint64_t now, bool hurry, uint64_t *wake)
{
    *wake = 0;
    if (q->head == NULL)
        return false;
    if (q->delay_ns == 0 || hurry || now >= q->head->own.submitted + q->delay_ns)
        return true;
    *wake = q->head->own.submitted + q->delay_ns;
    int n = sv_queue_samples(q, q->max_batch);
    if (n >= q->max_batch || preferred(q, n) > 0)
        return true;
    for (const struct sv_job *job = q->head; job != NULL && q->n_deadlines > 0; job = job->own.next)
        if (job->deadline != 0 && job->deadline < *wake)
            *wake = job->deadline;
    return false;
}

/* Batches that a job may have before it is the others' turn. Of samples that take long, no body
 * holds as many. */
#define TURN 256

/* What is left of a job that has had a turn goes behind the others of its level. */
static void end_turn(struct sv_queue *q, struct sv_job *job, int had)
{
    const int turn = q->max_batch * TURN;
    /* NOLINTNEXTLINE(clang-analyzer-core.*): a batch has room for one at least */
    if (job->own.taken / turn == had / turn || q->last[job->own.level] == job)
        return;
    link_out(q, job);
    link_in(q, job);
}

int sv_queue_take(struct sv_queue *q, uint64_t now, int share, struct sv_piece *piece)
{
    int n = gather(q, share, piece);
    for (int i = 0; i < n; i++) {
        struct sv_job *job = piece[i].job;
        const int had = job->own.taken;
        if (had == 0)
            job->queue_ns = now - job->own.submitted;
        job->own.taken += piece[i].n;
        job->own.running++;
        if (job->own.taken == job->n)
            sv_queue_remove(q, job);
        else
            end_turn(q, job, had);
    }
    return n;
}
