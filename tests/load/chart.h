/* Results as a picture, and as a page that holds picture and tables. */
#ifndef LOAD_CHART_H
#define LOAD_CHART_H

#include "runtime/rt.h"
#include "tests/load/measure.h"

/* Writes path: a page where it ends in .html, else SVG. */
enum rt_status ld_chart_write(const char *path, const char *title, const struct ld_result *result,
                              int n, struct rt_error *err);

#endif
