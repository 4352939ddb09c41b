# SLDMKVCacheStore. One Makefile for the whole tree, no recursion into folders.
#   make            build/sldmkv-server and the tools        make help    every target
#   make V=1        show the commands                        make SAN=address,undefined | SAN=thread
#
# Every configuration has objects of its own (build/release, build/debug, build/asan, build/tsan), so
# switching costs nothing. Sources are found by wildcard: a new src/<layer>/x.c, utils/x.c or
# tests/unit/test_x.c needs no line here.

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all

V ?=
Q := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-5s %s\n')

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=
PYTHON ?= python3
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin AR),default)
AR := gcc-ar
endif

# ---- configurations ---------------------------------------------------------------------------

# SAN and DEBUG only choose which configuration the plain targets mean.
SAN ?=
DEBUG ?=
CONFIGS := release debug asan tsan
SAN_asan := address,undefined
SAN_tsan := thread
CFG := $(if $(SAN),,$(if $(DEBUG),debug,release))
CFG += $(if $(filter $(SAN),address undefined $(SAN_asan) undefined,address),asan)
CFG += $(if $(filter $(SAN),thread),tsan)
CFG := $(strip $(CFG))
ifeq ($(CFG),)
$(error SAN=$(SAN): known are address,undefined (always both) and thread)
endif

# Why each warning is there; all are errors.
WARN := -Wall -Wextra
WARN += -Wshadow# a hidden name has been a wrong variable more than once
WARN += -Wstrict-prototypes# f() accepts any arguments in C11
WARN += -Wold-style-definition# the same, at the definition
WARN += -Wmissing-prototypes# what is in no header is static
WARN += -Wpointer-arith# arithmetic on void * hides the unit
WARN += -Wwrite-strings# a literal is const
WARN += -Wvla# the stack is bounded
WARN += -Wformat=2# a format is a literal
WARN += -Wundef# a misspelt macro in an #if is not 0
WARN += -Werror

# _GNU_SOURCE is empty so that a file defining it for itself says the same thing.
CPPFLAGS_ALL = -D_GNU_SOURCE= -Isrc $(CPPFLAGS)
CFLAGS_ALL = -std=gnu11 -g -fno-omit-frame-pointer -pthread $(WARN)
HARDEN := -fPIE -fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE \
	-D_FORTIFY_SOURCE=2
HARDEN_LD := -pie -Wl,-z,relro,-z,now,-z,noexecstack

# SLDMKV_FAIL compiles the failpoints in, SLDMKV_DEBUG the expensive checks (DASSERT). gcc reads
# instrumented code badly for -Wmaybe-uninitialized; release and debug have that warning.
CHECKED := -DSLDMKV_FAIL -DSLDMKV_DEBUG
FLAGS_release := -O2 $(HARDEN)
FLAGS_debug := -O1 $(HARDEN) $(CHECKED)
FLAGS_asan := -O1 -fPIE $(CHECKED) -fsanitize=$(SAN_asan) -fno-sanitize-recover=all \
	-Wno-maybe-uninitialized
FLAGS_tsan := -O1 -fPIE $(CHECKED) -fsanitize=$(SAN_tsan) -Wno-maybe-uninitialized
LD_release := $(HARDEN_LD)
LD_debug := $(HARDEN_LD)
LD_asan := -pie -fsanitize=$(SAN_asan)
LD_tsan := -pie -fsanitize=$(SAN_tsan)

# A sanitizer brings an allocator of its own.
LIBS := -levent_core -llmdb -lraft -luv -lxxhash -lm
LIBS_release := $(LIBS) -ljemalloc
LIBS_debug := $(LIBS) -ljemalloc
LIBS_asan := $(LIBS)
LIBS_tsan := $(LIBS)
UTIL_LIBS := -lhiredis

# ---- what there is to build -------------------------------------------------------------------

LIB_SRC := $(wildcard src/*/*.c)
UTILS := $(patsubst utils/%.c,%,$(wildcard utils/*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
UNIT_HELPERS := $(filter-out $(UNIT_TESTS:%=tests/unit/%.c),$(wildcard tests/unit/*.c))

# Where a program of configuration $1 goes: the release ones straight into build/.
bin = $(if $(filter release,$1),build,build/$1)
objs = $(patsubst %.c,build/$1/obj/%.o,$2)
# In an expanded link line a source is in its object, everything else is as it stands.
unit = $(UNIT_TESTS:%=build/$1/tests/%)
utils = $(UTILS:%=$(call bin,$1)/%)
server = $(if $(wildcard src/main.c),$(call bin,$1)/sldmkv-server)

define CONFIG_RULES
# The flags are a prerequisite of every object: other flags, other objects.
build/$1/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(CC) $$(CPPFLAGS_ALL) $$(CFLAGS_ALL) $$(FLAGS_$1) $$(CFLAGS) / $$(LD_$1) $$(LDFLAGS) $$(LIBS_$1)' >$$@.new
	@if cmp -s $$@.new $$@; then rm $$@.new; else mv $$@.new $$@; fi

build/$1/obj/%.o: %.c build/$1/flags | deps
	$$(say) CC '$$< [$1]'
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CPPFLAGS_ALL) -MMD -MP $$(CFLAGS_ALL) $$(FLAGS_$1) $$(CFLAGS) -c -o $$@ $$<

# Made anew when the list of its members changes, so that a removed source leaves no object in it.
build/$1/libsldmkv.a: $(call objs,$1,$(LIB_SRC)) build/$1/members
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$(filter %.o,$$^)

build/$1/members: FORCE
	@mkdir -p $$(@D)
	@echo '$(LIB_SRC)' >$$@.new
	@if cmp -s $$@.new $$@; then rm $$@.new; else mv $$@.new $$@; fi

$(call bin,$1)/sldmkv-server: $(call objs,$1,src/main.c) build/$1/libsldmkv.a
	$$(say) LINK $$@
	$$(Q)$$(CC) $$(LD_$1) $$(LDFLAGS) -pthread -Wl,--as-needed -o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1)

$(foreach u,$(UTILS),$(call UTIL_RULE,$1,$u))

build/$1/tests/%: build/$1/obj/tests/unit/%.o $(call objs,$1,$(UNIT_HELPERS)) build/$1/libsldmkv.a
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LD_$1) $$(LDFLAGS) -pthread -Wl,--as-needed -o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1)
endef

# utils/x.c is the program build/x; utils/x/*.c, when there are any, are more of its sources.
define UTIL_RULE
$(call bin,$1)/$2: $(call objs,$1,utils/$2.c $(wildcard utils/$2/*.c)) build/$1/libsldmkv.a
	$$(say) LINK $$@
	$$(Q)$$(CC) $$(LD_$1) $$(LDFLAGS) -pthread -Wl,--as-needed -o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1) $$(UTIL_LIBS)

endef

$(foreach c,$(CONFIGS),$(eval $(call CONFIG_RULES,$c)))
-include $(shell find build/*/obj -name '*.d' 2>/dev/null)

.PHONY: FORCE deps
FORCE:

# Order-only prerequisite of every object: a look at the package database (0.05 s), and an
# installation only when something is missing. SKIP_DEPS=1 where packages come from elsewhere.
deps:
	$(if $(SKIP_DEPS),,$(Q)deps/install.sh build)

# ---- targets ----------------------------------------------------------------------------------

.PHONY: all unit
all: $(call server,$(CFG)) $(call utils,$(CFG)) build/$(CFG)/libsldmkv.a ## build the server and the tools (default)

unit: $(call unit,$(CFG)) ## C unit tests only; with DEBUG=1 or SAN=… in that configuration
	$(Q)tests/run_unit.sh $(if $(SAN),-s) $^
