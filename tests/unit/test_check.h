/* SPDX-License-Identifier: MIT */
/* test_check: the checks of test.h, which includes this file. Operands are evaluated once; the
 * first is what the code gave, the second what the test wants. */
#ifndef TESTS_UNIT_TEST_CHECK_H
#define TESTS_UNIT_TEST_CHECK_H

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "# CHECK failed: %s\n", #cond);                                        \
            test_fail(__FILE__, __LINE__);                                                         \
        }                                                                                          \
    } while (0)

#define TEST_CHECK_NUM(a, op, b, type, fmt)                                                        \
    do {                                                                                           \
        type test_a = (a);                                                                         \
        type test_b = (b);                                                                         \
        if (!(test_a op test_b)) {                                                                 \
            fprintf(stderr, "# CHECK failed: %s %s %s\n#   got  %" fmt "\n#   want %" fmt "\n",    \
                    #a, #op, #b, test_a, test_b);                                                  \
            test_fail(__FILE__, __LINE__);                                                         \
        }                                                                                          \
    } while (0)

#define CHECK_EQ_INT(a, b) TEST_CHECK_NUM(a, ==, b, int64_t, PRId64)
#define CHECK_NE_INT(a, b) TEST_CHECK_NUM(a, !=, b, int64_t, PRId64)
#define CHECK_LT_INT(a, b) TEST_CHECK_NUM(a, <, b, int64_t, PRId64)
#define CHECK_LE_INT(a, b) TEST_CHECK_NUM(a, <=, b, int64_t, PRId64)
#define CHECK_GT_INT(a, b) TEST_CHECK_NUM(a, >, b, int64_t, PRId64)
#define CHECK_GE_INT(a, b) TEST_CHECK_NUM(a, >=, b, int64_t, PRId64)

#define CHECK_EQ_U64(a, b) TEST_CHECK_NUM(a, ==, b, uint64_t, PRIu64)
#define CHECK_NE_U64(a, b) TEST_CHECK_NUM(a, !=, b, uint64_t, PRIu64)
#define CHECK_LT_U64(a, b) TEST_CHECK_NUM(a, <, b, uint64_t, PRIu64)
#define CHECK_LE_U64(a, b) TEST_CHECK_NUM(a, <=, b, uint64_t, PRIu64)
#define CHECK_GT_U64(a, b) TEST_CHECK_NUM(a, >, b, uint64_t, PRIu64)
#define CHECK_GE_U64(a, b) TEST_CHECK_NUM(a, >=, b, uint64_t, PRIu64)
#define CHECK_EQ_HEX(a, b) TEST_CHECK_NUM(a, ==, b, uint64_t, PRIx64)
#define CHECK_EQ_DBL(a, b) TEST_CHECK_NUM(a, ==, b, double, ".17g")
#define CHECK_EQ_PTR(a, b) TEST_CHECK_NUM(a, ==, b, const void *, "p")

/* Two NUL-terminated strings; two NULLs are equal. */
#define CHECK_EQ_STR(a, b)                                                                         \
    do {                                                                                           \
        const char *test_a = (a), *test_b = (b);                                                   \
        test_check_mem(test_a, test_a ? strlen(test_a) : 0, test_b, test_b ? strlen(test_b) : 0,   \
                       #a " == " #b, __FILE__, __LINE__);                                          \
    } while (0)

/* The same length of bytes on both sides … */
#define CHECK_EQ_MEM(a, b, len)                                                                    \
    do {                                                                                           \
        size_t test_len = (len);                                                                   \
        test_check_mem((a), test_len, (b), test_len, #a " == " #b, __FILE__, __LINE__);            \
    } while (0)

/* … and bytes with a length of their own against a string literal, which may hold NULs. */
#define CHECK_EQ_LIT(a, a_len, literal)                                                            \
    test_check_mem((a), (a_len), "" literal, sizeof(literal) - 1, #a " == " #literal, __FILE__,    \
                   __LINE__)

#define CHECK_STR_EQ(a, b) CHECK_EQ_STR(a, b)
#define CHECK_MEM_EQ(a, b, len) CHECK_EQ_MEM(a, b, len)

#endif
