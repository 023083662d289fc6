/* What a BatchNormalization asks for, across its versions. */
#ifndef RUNTIME_OPS_BATCHNORM_H
#define RUNTIME_OPS_BATCHNORM_H

#include "runtime/ops/op.h"

/* Whether the node, a BatchNormalization, normalises by the statistics of the batch it is given. */
bool rt_batchnorm_is_training(const struct rt_node *n);
/* Whether its statistics are one number for each channel, not for each element of a sample. */
bool rt_batchnorm_is_spatial(const struct rt_node *n);

#endif
