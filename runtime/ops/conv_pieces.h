/* Convolutions whose reader has their output made piece by piece, and uses each piece while it is in
 * a cache: a streamed value (graph.h). A piece is some blocks of channels of some pixels. */
#ifndef RUNTIME_OPS_CONV_PIECES_H
#define RUNTIME_OPS_CONV_PIECES_H

#include "runtime/ops/op.h"

/* What a node's output can be cut into. */
struct rt_conv_pieces {
    int64_t blocks; /* of channels in each piece but the last; 0: it cannot be cut */
    int64_t images; /* that share a piece's weights while they are in the first cache */
};

/* Of a prepared node of a blocked Conv: those can be cut that are pointwise at stride 1, direct, of
 * one group, and have no steps that read tensors. */
struct rt_conv_pieces rt_conv_pieces(const struct rt_node *n);

/* Makes pixels pixel..pixel+pixels-1 (at least one; counted along rows, of one image) of piece
 * number `piece`. y: [blocks][plane floats], of which the first pixels * b are written. Elements
 * are the same bits as those that the node's own run() gives. Any thread. */
void rt_conv_make_piece(const struct rt_call *call, int64_t image, int64_t piece, int64_t pixel,
                        int64_t pixels, float *y, int64_t plane);

#endif
