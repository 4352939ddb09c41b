/* SPDX-License-Identifier: MIT */
/* config_int: the refusals of the files of this layer. */
#ifndef CONFIG_CONFIG_INT_H
#define CONFIG_CONFIG_INT_H

#include "config/config.h"

/* Writes the reason into detail, on one line whatever the text it quotes has in it, and returns
 * ERR_INVAL. detail: CONFIG_DETAIL_MAX bytes. */
__attribute__((format(printf, 2, 3))) int config_refuse(char *detail, const char *format, ...);

#endif
