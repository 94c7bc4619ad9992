// tsc_khz: how fast this processor's time stamp counter counts, in kHz. The lab tells its kernel, which under emulation has only the
// interval timer to find out by, and on a busy machine does not: it went on without a clock finer than its tick then.
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct sample {
	uint64_t ns, tsc, width;
};

// Of some readings the one that took least: in the others something came between.
static struct sample now(void)
{
	struct sample best = { .width = UINT64_MAX };

	for (int i = 0; i < 100; i++) {
		struct timespec t;
		uint64_t before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before < best.width)
			best = (struct sample){ t.tv_sec * 1000000000ULL + t.tv_nsec, before + (after - before) / 2, after - before };
	}
	return best;
}

int main(void)
{
	struct sample a = now(), b;

	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	b = now();
	printf("%.0f\n", (double)(b.tsc - a.tsc) * 1e6 / (double)(b.ns - a.ns));
	return 0;
}
