/* SPDX-License-Identifier: MIT */
/* The tree is compared as text: name:type, =TOKEN, ? optional, * multiple, + with its token each
 * time, (children). */
#include "server/syntax.h"

#include "base/err.h"
#include "server/command.h"
#include "test.h"

static char shown[4096];

static size_t show(const struct syntax_arg *a, size_t len)
{
    for (const char *blank = ""; a != NULL; a = a->next, blank = " ") {
        len += (size_t)snprintf(shown + len, sizeof(shown) - len, "%s%s:%s", blank, a->name,
                                syntax_type_name(a->type));
        if (a->token[0] != '\0')
            len += (size_t)snprintf(shown + len, sizeof(shown) - len, "=%s", a->token);
        len += (size_t)snprintf(shown + len, sizeof(shown) - len, "%s%s%s", a->optional ? "?" : "",
                                a->multiple ? "*" : "", a->multiple_token ? "+" : "");
        if (a->children != NULL) {
            len += (size_t)snprintf(shown + len, sizeof(shown) - len, "(");
            len = show(a->children, len);
            len += (size_t)snprintf(shown + len, sizeof(shown) - len, ")");
        }
    }
    return len;
}

static const char *parsed(const char *text)
{
    struct syntax_arg *list = NULL;
    int err = syntax_parse(text, &list);

    shown[0] = '\0';
    if (err != 0)
        return "error";
    show(list, 0);
    syntax_free(list);
    return shown;
}

TEST(arguments_have_the_type_their_name_says)
{
    CHECK_EQ_STR(parsed(""), "");
    CHECK_EQ_STR(parsed("key"), "key:key");
    CHECK_EQ_STR(parsed("key value"), "key:key value:string");
    CHECK_EQ_STR(parsed("key seconds value"), "key:key seconds:integer value:string");
    CHECK_EQ_STR(parsed("key unix-time-seconds"), "key:key unix-time-seconds:unix-time");
    CHECK_EQ_STR(parsed("pattern"), "pattern:pattern");
    CHECK_EQ_STR(parsed("source destination"), "source:key destination:key");
}

TEST(optional_and_choice)
{
    CHECK_EQ_STR(parsed("[message]"), "message:string?");
    CHECK_EQ_STR(parsed("[username] password"), "username:string? password:string");
    CHECK_EQ_STR(parsed("[NX | XX]"), "nx_xx:oneof?(nx:pure-token=NX xx:pure-token=XX)");
    CHECK_EQ_STR(parsed("[GET]"), "get:pure-token=GET?");
    CHECK_EQ_STR(parsed("ON | OFF"), "on_off:oneof(on:pure-token=ON off:pure-token=OFF)");
    CHECK_EQ_STR(parsed("<ON | OFF> key"),
                 "on_off:oneof(on:pure-token=ON off:pure-token=OFF) key:key");
}

TEST(tokens_own_what_follows)
{
    CHECK_EQ_STR(parsed("[EX seconds | KEEPTTL]"),
                 "seconds_keepttl:oneof?(seconds:integer=EX keepttl:pure-token=KEEPTTL)");
    CHECK_EQ_STR(parsed("[AUTH username password]"),
                 "username_password:block=AUTH?(username:string password:string)");
    CHECK_EQ_STR(parsed("[TYPE <NORMAL | PUBSUB>]"),
                 "normal_pubsub:oneof=TYPE?(normal:pure-token=NORMAL pubsub:pure-token=PUBSUB)");
    CHECK_EQ_STR(parsed("LIB-NAME libname | LIB-VER libver"),
                 "libname_libver:oneof(libname:string=LIB-NAME libver:string=LIB-VER)");
    CHECK_EQ_STR(parsed("[protover [AUTH username password] [SETNAME clientname]]"),
                 "protover_username_password_clientname:block?(protover:integer "
                 "username_password:block=AUTH?(username:string password:string) "
                 "clientname:string=SETNAME?)");
}

TEST(repetition)
{
    CHECK_EQ_STR(parsed("key [key ...]"), "key:key*");
    CHECK_EQ_STR(parsed("key value [key value ...]"), "key_value:block*(key:key value:string)");
    CHECK_EQ_STR(parsed("key offset length [offset length ...]"),
                 "key:key offset_length:block*(offset:integer length:integer)");
    CHECK_EQ_STR(parsed("[section ...]"), "section:string?*");
    CHECK_EQ_STR(parsed("[ID client-id [client-id ...]]"), "client-id:integer=ID?*");
    CHECK_EQ_STR(parsed("GET pattern [GET pattern ...]"), "pattern:pattern=GET*+");
    CHECK_EQ_STR(parsed("monkey [key ...]"), "monkey:string key:key?*");
    CHECK_EQ_STR(parsed("key [key ...] [LEASE milliseconds]"),
                 "key:key* milliseconds:integer=LEASE?");
}

TEST(what_is_not_the_grammar)
{
    static const char *const bad[] = {
        "[",
        "]",
        "[key",
        "key]",
        "[]",
        "<>",
        "|",
        "key |",
        "| key",
        "[NX |]",
        "<ON",
        "...",
        "key ...",
        "[... key]",
        "[key ... key]",
        "[[[[[[[[[key]]]]]]]]]",
        "a-name-that-is-longer-than-any-name-in-the-table-of-commands-may-ever-be",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (strcmp(parsed(bad[i]), "error") != 0) {
            fprintf(stderr, "# accepted: %s as %s\n", bad[i], shown);
            CHECK(false);
        }
}

static void check_row(const struct command *c)
{
    struct syntax_arg *list = NULL;

    CHECK(c->syntax != NULL && c->summary != NULL && c->group != NULL && c->since != NULL);
    CHECK(strlen(c->summary) <= 60 && c->summary[strlen(c->summary) - 1] == '.');
    if (syntax_parse(c->syntax, &list) != 0) {
        fprintf(stderr, "# %s: %s\n", c->name, c->syntax);
        CHECK(false);
    }
    /* A command that needs arguments says which; one that takes none has none. */
    CHECK((list != NULL) == (c->arity != 1 && !(c->arity == 2 && strchr(c->name, '|') != NULL)) ||
          c->subs != NULL || c->arity < 0);
    syntax_free(list);
}

TEST(every_row_of_the_command_table)
{
    size_t rows = 0;

    command_init();
    for (size_t i = 0; command_at(i) != NULL; i++) {
        const struct command *c = command_at(i);

        check_row(c);
        rows++;
        for (const struct command *sub = c->subs; sub != NULL && sub->name != NULL; sub++) {
            check_row(sub);
            CHECK(strncmp(sub->name, c->name, strlen(c->name)) == 0);
        }
    }
    CHECK_GT_U64(rows, 60);
}

TEST_MAIN
