/* Lets Jansson take its memory from where everybody does, so that it is counted, and so that tests
 * can make it run out. Before main(), because memory must not change hands between allocators. */
#include "server/json_memory.h"

#include <jansson.h>
#include <setjmp.h>

#include "runtime/rt.h"

/* What a reader that is left halfway would leave over. */
struct load {
    struct block *first;
    jmp_buf out_of_memory;
};

/* In front of each block. */
struct block {
    _Alignas(max_align_t) struct load *load; /* the one that goes on and has made it; or NULL */
    struct block *next, *before;             /* others of that one */
};

static _Thread_local struct load *loading;

static void *allocate(size_t len)
{
    struct block *b = len <= SIZE_MAX - sizeof *b ? rt_alloc(sizeof *b + len) : NULL;
    struct load *l = loading;
    if (b == NULL) {
        if (l != NULL)
            longjmp(l->out_of_memory, 1);
        return NULL;
    }
    *b = (struct block){ .load = l, .next = l != NULL ? l->first : NULL };
    if (b->next != NULL)
        b->next->before = b;
    if (l != NULL)
        l->first = b;
    rt_mem_written(b + 1, len);
    return b + 1;
}

static void give_back(void *p)
{
    if (p == NULL)
        return;
    struct block *b = (struct block *)p - 1;
    if (b->load != NULL) {
        if (b->before != NULL)
            b->before->next = b->next;
        else
            b->load->first = b->next;
        if (b->next != NULL)
            b->next->before = b->before;
    }
    rt_free(b);
}

__attribute__((constructor)) static void use_our_memory(void)
{
    json_set_alloc_funcs(allocate, give_back);
}

enum rt_status sv_json_load(const char *text, size_t len, size_t flags, struct json_t **root,
                            struct json_error_t *fault)
{
    struct load load = { .first = NULL };
    if (setjmp(load.out_of_memory) != 0) {
        loading = NULL;
        for (struct block *next, *b = load.first; b != NULL; b = next) {
            next = b->next;
            rt_free(b);
        }
        return RT_E_NOMEM;
    }
    loading = &load;
    json_t *tree = json_loadb(text, len, flags, fault);
    loading = NULL;
    for (struct block *b = load.first; b != NULL; b = b->next)
        b->load = NULL;
    if (tree == NULL)
        return RT_E_INVALID;
    *root = tree;
    return RT_OK;
}
