/* Results as tables and as JSON. */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include "runtime/rt.h"
#include "tests/load/measure.h"

#include <stdio.h>

/* A line a side and load, and what they are to the first side. */
void ld_report_tables(const struct ld_result *result, int n, FILE *to);

/* Everything, the histograms included. */
void ld_report_json(const struct ld_settings *set, const struct ld_result *result, int n, FILE *to);

/* "8 connections", "400/s". Returns buf. */
#define LD_LOAD_TEXT 32
const char *ld_load_text(const struct ld_level *l, char buf[LD_LOAD_TEXT]);

#endif
