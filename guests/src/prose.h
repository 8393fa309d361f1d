// What programs made of tasks work on: text that reads like a novel's first line, and noise.
#ifndef PROSE_H
#define PROSE_H

#include "data.h"

static uint8_t noise[TEXT];

static void make_data(void) {
  static const char *const parts[] = {"it ", "was ", "a ", "bright ", "cold ", "day ", "in ", "april, ", "and ", "the ", "clocks ",
                                      "were ", "striking ", "thirteen. ", "winston ", "smith "};
  make_text(1984, parts, 16);
  text[TEXT] = 0;
  for (int i = 0; i < TEXT; i++) noise[i] = (uint8_t)next_random(&seed);
}

#endif
