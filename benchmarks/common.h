/* What the C programs have in common: clocks in ns, and an end with words. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static inline uint64_t now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t spent(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static inline void must(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}
