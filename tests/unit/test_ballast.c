/* SPDX-License-Identifier: MIT */
#include "store/ballast.h"

#include <stdbool.h>
#include <sys/stat.h>

#include "test.h"
#include "tmpdir.h"

static bool there(const char *dir)
{
    char path[PATH_MAX];
    struct stat st;

    if (stat(tmpdir_path(path, dir, BALLAST_FILE), &st) != 0)
        return false;
    CHECK_EQ_U64((uint64_t)st.st_blocks * 512, BALLAST_BYTES); /* it holds space, not a length */
    return true;
}

TEST(comes_with_space_and_goes_without)
{
    const char *dir = tmpdir();

    ballast_step(dir, BALLAST_HIGH);
    CHECK(!there(dir));
    ballast_step(dir, BALLAST_HIGH + 1);
    CHECK(there(dir));
    ballast_step(dir, BALLAST_LOW);
    CHECK(there(dir));
    ballast_step(dir, BALLAST_LOW - 1);
    CHECK(!there(dir));
    ballast_step(dir, BALLAST_LOW + BALLAST_BYTES); /* what it gave does not bring it back */
    CHECK(!there(dir));
    ballast_step(dir, UINT64_MAX);
    CHECK(there(dir));
}

TEST(no_folder_no_ballast)
{
    ballast_step("/nonexistent/folder", UINT64_MAX);
    ballast_step("/nonexistent/folder", 0);
}
TEST_MAIN
