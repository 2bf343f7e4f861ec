/* Runs the golden vectors and says in one line what came of them. */
#include "nq_selftest.h"

#include "board.h"

int main(void)
{
    char line[NQ_SELFTEST_LINE];
    const int wrong = nq_selftest(line);
    board_say(line);
    return wrong != 0;
}
