/* Forms batches from a list of jobs. */
#include "server/queue.h"

#include <assert.h>

bool sv_queue_push(struct sv_queue *q, struct sv_job *job, uint64_t now)
{
    if (q->n_jobs >= q->max_jobs)
        return false;
    job->own.submitted = now;
    job->own.next = NULL;
    job->own.prev = q->tail;
    *(q->tail != NULL ? &q->tail->own.next : &q->head) = job;
    q->tail = job;
    job->own.queued = true;
    q->n_jobs++;
    q->n_deadlines += job->deadline != 0;
    return true;
}

void sv_queue_remove(struct sv_queue *q, struct sv_job *job)
{
    assert(job->own.queued);
    *(job->own.prev != NULL ? &job->own.prev->own.next : &q->head) = job->own.next;
    *(job->own.next != NULL ? &job->own.next->own.prev : &q->tail) = job->own.prev;
    job->own.next = job->own.prev = NULL;
    job->own.queued = false;
    q->n_jobs--;
    q->n_deadlines -= job->deadline != 0;
}

struct sv_job *sv_queue_expired(struct sv_queue *q, uint64_t now)
{
    if (q->n_deadlines == 0)
        return NULL;
    for (struct sv_job *job = q->head; job != NULL; job = job->own.next) {
        if (job->deadline != 0 && job->deadline <= now && job->own.taken == 0) {
            sv_queue_remove(q, job);
            return job;
        }
    }
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

/* The batch that the queue would give now, without changing it. */
static int gather(const struct sv_queue *q, struct sv_piece *piece)
{
    struct sv_job *first = q->head;
    if (first == NULL)
        return 0;
    if (q->max_batch == 0) {
        piece[0] = (struct sv_piece){ .job = first, .from = 0, .n = first->n };
        return 1;
    }
    int n_pieces = 0, room = q->max_batch;
    for (struct sv_job *job = first; job != NULL && room > 0; job = job->own.next) {
        if (job != first && !same_kind(first, job))
            continue;
        int left = job->n - job->own.taken;
        if (left > room) {
            /* What fits a batch of its own is not torn apart for the sake of a fuller one. */
            if (job != first)
                return n_pieces;
            left = room;
        }
        piece[n_pieces++] = (struct sv_piece){ .job = job, .from = job->own.taken, .n = left };
        room -= left;
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
    int room = q->max_batch;
    for (const struct sv_job *job = q->head; job != NULL; job = job->own.next) {
        if (job->deadline != 0 && job->deadline < *wake)
            *wake = job->deadline;
        if (same_kind(q->head, job))
            room -= job->n - job->own.taken;
        if (room <= 0)
            return true;
    }
    return false;
}

int sv_queue_take(struct sv_queue *q, uint64_t now, struct sv_piece *piece)
{
    int n = gather(q, piece);
    for (int i = 0; i < n; i++) {
        struct sv_job *job = piece[i].job;
        if (job->own.taken == 0)
            job->queue_ns = now - job->own.submitted;
        job->own.taken += piece[i].n;
        job->own.running++;
        if (job->own.taken == job->n)
            sv_queue_remove(q, job);
    }
    return n;
}
